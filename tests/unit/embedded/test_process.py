from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import psutil
import pytest

from pipeline.embedded.process import ServerProcess, free_ports, wait_until

POLITE = "trap 'echo stopped; exit 0' TERM; echo ready; while :; do sleep 0.02; done"
STUBBORN = "trap '' TERM; echo ready; while :; do sleep 0.02; done"


def _start(script: str, log: Path) -> ServerProcess:
    process = ServerProcess(["/bin/sh", "-c", script], log=log, env={"PATH": os.environ["PATH"]})
    assert wait_until(lambda: "ready" in log.read_text(), seconds=10)
    return process


def test_free_ports_are_different_and_can_be_listened_on():
    ports = free_ports(5)

    assert len(set(ports)) == 5
    for port in ports:
        with socket.create_server(("127.0.0.1", port)):
            pass


def test_more_ports_than_there_are_is_an_error():
    with pytest.raises(OSError, match="TCP ports are free"):
        free_ports(60_000)


def test_waiting_ends_when_the_time_is_up():
    assert wait_until(lambda: False, seconds=0.05) is False


def test_a_program_is_asked_to_stop_before_it_is_killed(tmp_path):
    process = _start(POLITE, tmp_path / "log")

    process.stop(seconds=10)

    assert (tmp_path / "log").read_text() == "ready\nstopped\n"
    assert not process.running


def test_a_program_that_does_not_stop_is_killed(tmp_path):
    process = _start(STUBBORN, tmp_path / "log")
    (program,) = psutil.Process(process.pid).children()

    process.stop(seconds=0.1)

    assert not program.is_running()


def test_a_program_is_gone_when_kill_returns(tmp_path):
    process = _start(STUBBORN, tmp_path / "log")
    (program,) = psutil.Process(process.pid).children()

    process.kill()

    assert not program.is_running()


def test_a_program_that_ends_by_itself_runs_no_longer(tmp_path):
    process = _start("echo ready", tmp_path / "log")

    assert wait_until(lambda: not process.running, seconds=10)
    process.stop()


def test_a_program_that_does_not_exist_ends_at_once(tmp_path):
    process = ServerProcess([str(tmp_path / "none")], log=tmp_path / "log", env={})

    assert wait_until(lambda: not process.running, seconds=10)
    assert "FileNotFoundError" in (tmp_path / "log").read_text()
    process.stop()


def test_a_program_ends_with_its_guard(tmp_path):
    process = _start(STUBBORN, tmp_path / "log")
    (program,) = psutil.Process(process.pid).children()

    os.kill(process.pid, signal.SIGKILL)

    assert psutil.wait_procs([program], timeout=10)[1] == []
    process.stop()


def test_a_program_sees_only_the_environment_it_is_given(tmp_path, monkeypatch):
    monkeypatch.setenv("STORAGE_ENGINE", "postgres://somewhere")
    process = _start("env; echo ready; sleep 60", tmp_path / "log")
    process.kill()

    assert "STORAGE_ENGINE" not in (tmp_path / "log").read_text()
