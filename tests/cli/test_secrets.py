"""A secret is given by environment or file, and nothing that firstseen prints holds it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from pipeline.config import Settings
from pipeline.embedded.process import free_ports
from pipeline.history.rows import HistoryRow
from tests.docs.cli_reference import commands
from tests.rules import BUILTIN_RULE

CANARY = "canary-7Yq2-secret"
SECRETS = [spec for spec in Settings.specs() if spec.is_secret]

# What each command that has settings needs beside them.
ARGUMENTS = {
    "worker": (),
    "topics plan": (),
    "topics apply": (),
    "topics render": (),
    "alerts tail": (),
    "history list": (),
    "history export": (),
    "history import": ("{tuples}",),
    "history backfill": ("--rule", BUILTIN_RULE, "--since", "1d"),
    "history forget": ("a-rule", "--yes"),
    "dead-letters list": (),
    "dead-letters show": ("0@0",),
    "dead-letters requeue": ("--all", "--yes"),
    "config show": (),
    "config check": (),
}
HISTORY = HistoryRow(
    rule_id="a-rule",
    history="0123456789abcdef",
    window_ms=86_400_000,
    terms=("x",),
    first_seen="2026-03-02T08:00:00.000Z",
    last_seen="2026-03-02T08:00:00.000Z",
    count=1,
)
OFFLINE = {"topics render", "config show", "config check"}


def test_every_command_that_has_settings_is_tried_here():
    with_settings = {
        path.removeprefix("firstseen ")
        for path, command, _ in commands()
        if not isinstance(command, click.Group)
        and any("--set" in parameter.opts for parameter in command.params)
    }

    assert set(ARGUMENTS) == with_settings


@pytest.mark.parametrize("spec", SECRETS, ids=lambda spec: spec.key)
@pytest.mark.parametrize("command", ["worker", "config show", "alerts tail"])
def test_a_secret_on_the_command_line_is_refused(run, command, spec):
    result = run(*command.split(), "--set", f"{spec.key}={CANARY}")

    assert result.exit_code == 3
    assert spec.env in result.stderr
    assert f"{spec.key}_file" in result.stderr
    assert CANARY not in result.output


@pytest.mark.parametrize("given", [f"kafka.sasl_password:{CANARY}", f"={CANARY}"])
def test_a_misspelt_assignment_is_not_repeated(run, given):
    result = run("config", "show", "--set", given)

    assert result.exit_code == 2
    assert "KEY=VALUE" in result.stderr
    assert CANARY not in result.output


@pytest.fixture
def sasl(tmp_path: Path) -> dict[str, str]:
    """A login, for a broker that is not there."""
    return {
        "FIRSTSEEN_KAFKA__SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "FIRSTSEEN_KAFKA__SASL_MECHANISM": "SCRAM-SHA-512",
        "FIRSTSEEN_KAFKA__SASL_USERNAME": "ann",
        "FIRSTSEEN_KAFKA__SASL_PASSWORD": CANARY,
    }


@pytest.fixture
def client_key(tmp_path: Path) -> dict[str, str]:
    """A client's key that another password opens."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the command openssl")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-subj", "/CN=ann"),
            *("-passout", "pass:another", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    return {
        "FIRSTSEEN_KAFKA__SECURITY_PROTOCOL": "SSL",
        "FIRSTSEEN_KAFKA__SSL_CERTIFICATE_LOCATION": str(certificate),
        "FIRSTSEEN_KAFKA__SSL_KEY_LOCATION": str(key),
        "FIRSTSEEN_KAFKA__SSL_KEY_PASSWORD": CANARY,
    }


@pytest.mark.slow
@pytest.mark.parametrize(("secret", "exit_code"), [("sasl", 4), ("client_key", 3)])
def test_no_command_prints_a_secret_however_it_fails(
    request: pytest.FixtureRequest, tmp_path: Path, secret: str, exit_code: int
):
    (port,) = free_ports(1)
    env = {
        **os.environ,
        **request.getfixturevalue(secret),
        "FIRSTSEEN_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{port}",
        "FIRSTSEEN_STATE__DIRECTORY": str(tmp_path / "state"),
        "FIRSTSEEN_WEB__PORT": "0",
        # Everything that can be said is said: debug logs and tracebacks.
        "FIRSTSEEN_LOG__LEVEL": "debug",
    }
    tuples = tmp_path / "history.ndjson"
    tuples.write_bytes(HISTORY.to_json())
    # All at once: each waits ten seconds for the broker.
    started = {
        command: subprocess.Popen(
            [
                *(sys.executable, "-m", "pipeline", "--debug", *command.split()),
                *(argument.format(tuples=tuples) for argument in arguments),
            ],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for command, arguments in ARGUMENTS.items()
    }
    printed = {
        command: process.communicate(timeout=120)[0].decode()
        for command, process in started.items()
    }

    codes = {command: process.returncode for command, process in started.items()}
    assert codes == {command: 0 if command in OFFLINE else exit_code for command in ARGUMENTS}
    assert [command for command, text in printed.items() if CANARY in text] == []
    # They did get as far as the broker, or the key.
    assert "********" in printed["config show"]
    for command in ARGUMENTS.keys() - OFFLINE:
        assert (f"127.0.0.1:{port}" if secret == "sasl" else "ssl.key.location") in printed[command]
