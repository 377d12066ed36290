"""Sample events: library loads of a small invented fleet, as Elastic Defend would report them.

They are made up for the demo and the tests, and deterministic for a seed. Most loads are noise. Now
and then a program loads the PowerShell engine: sometimes one that may (PowerShell itself, or a
signed administration program in Program Files), sometimes one that should not.
"""

from __future__ import annotations

import base64
import itertools
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

HOSTS: Final = 40
DATASET: Final = "endpoint.events.library"

_AGENT_VERSION = "8.18.2"
_DOMAIN = "EXAMPLE"
_FIRST_NAMES = (
    *("ada", "ben", "chloe", "dmitri", "elena", "farid", "grace", "hugo", "ines", "jonas"),
    *("keiko", "leon", "maya", "noor", "oscar", "petra", "quinn", "rosa", "samir", "tilda"),
)
_SIGNER_OF_WINDOWS = "Microsoft Windows"
_SIGNER_OF_OFFICE = "Microsoft Corporation"


@dataclass(frozen=True, slots=True)
class _Program:
    """A program; ``{user}`` in its path stands for the user's name, no signer for unsigned."""

    path: str
    signer: str | None


@dataclass(frozen=True, slots=True)
class _Host:
    name: str
    id: str
    agent_id: str
    user: str
    user_id: str


_PROGRAMS = (
    _Program(r"C:\Windows\System32\svchost.exe", _SIGNER_OF_WINDOWS),
    _Program(r"C:\Windows\explorer.exe", _SIGNER_OF_WINDOWS),
    _Program(r"C:\Windows\System32\RuntimeBroker.exe", _SIGNER_OF_WINDOWS),
    _Program(r"C:\Windows\System32\conhost.exe", _SIGNER_OF_WINDOWS),
    _Program(r"C:\Windows\System32\wbem\WmiPrvSE.exe", _SIGNER_OF_WINDOWS),
    _Program(r"C:\Program Files\Microsoft Office\root\Office16\OUTLOOK.EXE", _SIGNER_OF_OFFICE),
    _Program(r"C:\Program Files\Northwind Books\ledger.exe", "Northwind Software Ltd"),
    _Program(r"C:\Users\{user}\AppData\Local\Chatter\chatter.exe", "Chatter Labs Inc."),
)
_LIBRARIES = (
    *("ntdll.dll", "kernel32.dll", "kernelbase.dll", "advapi32.dll", "ucrtbase.dll", "rpcrt4.dll"),
    *("sechost.dll", "msvcrt.dll", "combase.dll", "policymanager.dll", "user32.dll", "gdi32.dll"),
    *("shlwapi.dll", "crypt32.dll", "bcrypt.dll", "ws2_32.dll", "winhttp.dll", "ole32.dll"),
)
# Programs whose purpose includes loading the engine.
_ADMINISTRATION = (
    _Program(r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe", _SIGNER_OF_WINDOWS),
    _Program(r"C:\Program Files\Fleetwright\Agent\fleetagent.exe", "Fleetwright GmbH"),
)
# Programs that have no business loading it.
_INTRUDERS = (
    _Program(r"C:\Users\{user}\AppData\Local\Temp\invoice_viewer.exe", None),
    _Program(r"C:\Users\{user}\Downloads\pdf-toolbox-setup.exe", "Sunny Day Apps Ltd"),
    _Program(r"C:\Users\Public\Libraries\netsync.exe", None),
    _Program(r"C:\ProgramData\WinCache\wc_update.exe", None),
    _Program(r"C:\Windows\System32\rundll32.exe", _SIGNER_OF_WINDOWS),
    _Program(r"C:\Windows\SysWOW64\regsvr32.exe", _SIGNER_OF_WINDOWS),
)
_ENGINE = r"C:\Windows\assembly\NativeImages_v4.0.30319_64\System.Manaa57fc8cc#\{hash}"
_ENGINE_NAME = "System.Management.Automation.ni.dll"


class SampleFleet:
    """Creates events of an invented fleet, one after another.

    Args:
        seed: two fleets with the same seed create the same events for the same times.
    """

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)  # noqa: S311  (samples, not secrets)
        self._hosts = tuple(self._host(number) for number in range(1, HOSTS + 1))
        self._sequence = itertools.count(1)

    def library_load(self, time: datetime) -> dict[str, Any]:
        """Return an ordinary load of an ordinary library."""
        name = self._random.choice(_LIBRARIES)
        library = (name, rf"C:\Windows\System32\{name}")
        return self._event(time, self._random.choice(_PROGRAMS), *library, _SIGNER_OF_WINDOWS)

    def engine_load(self, time: datetime, *, suspicious: bool) -> dict[str, Any]:
        """Return a load of the PowerShell engine, by a program that should not or one that may."""
        program = self._random.choice(_INTRUDERS if suspicious else _ADMINISTRATION)
        path = rf"{_ENGINE.format(hash=self._hex(32))}\{_ENGINE_NAME}"
        return self._event(time, program, _ENGINE_NAME, path, None)

    def _host(self, number: int) -> _Host:
        first = self._random.choice(_FIRST_NAMES)
        return _Host(
            name=f"ws-{number:04}",
            id=self._uuid(),
            agent_id=self._uuid(),
            user=f"{first}{number:02}",
            user_id=f"S-1-5-21-1004336348-1177238915-682003330-{1100 + number}",
        )

    def _event(
        self, time: datetime, program: _Program, name: str, path: str, signer: str | None
    ) -> dict[str, Any]:
        host = self._random.choice(self._hosts)
        executable = program.path.format(user=host.user)
        stamp = f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}{self._random.randrange(10)}Z"
        return {
            "@timestamp": stamp,
            "agent": {"id": host.agent_id, "type": "endpoint", "version": _AGENT_VERSION},
            "data_stream": {"dataset": DATASET, "namespace": "default", "type": "logs"},
            "dll": {
                "Ext": {
                    "code_signature": [_signature(signer)],
                    "load_index": 1,
                    "relative_file_creation_time": self._age(),
                    "relative_file_name_modify_time": self._age(),
                    "size": self._random.randrange(40_000, 40_000_000),
                },
                "code_signature": _signature(signer),
                "hash": {"sha256": self._hex(64)},
                "name": name,
                "path": path,
                "pe": {
                    "file_version": "10.0.22621.3672",
                    "imphash": self._hex(32),
                    "original_file_name": name.replace(".ni.", "."),
                },
            },
            "ecs": {"version": "8.10.0"},
            "elastic": {"agent": {"id": host.agent_id}},
            "event": {
                "action": "load",
                "category": ["library"],
                "created": stamp,
                "dataset": DATASET,
                "id": self._event_id(),
                "kind": "event",
                "module": "endpoint",
                "outcome": "unknown",
                "sequence": next(self._sequence),
                "type": ["start"],
            },
            "host": {"id": host.id, "name": host.name, "os": {"type": "windows"}},
            "message": "Endpoint DLL load event",
            "process": {
                "Ext": {
                    "ancestry": [self._entity_id(), self._entity_id()],
                    "code_signature": [_signature(program.signer)],
                },
                "code_signature": _signature(program.signer),
                "entity_id": self._entity_id(),
                "executable": executable,
                "name": executable.rsplit("\\", 1)[1],
                "pid": self._random.randrange(600, 30_000, 4),
                "uptime": self._random.randrange(1, 900),
            },
            "user": {"domain": _DOMAIN, "id": host.user_id, "name": host.user},
        }

    def _age(self) -> float:
        return round(self._random.uniform(1e3, 6e7), 7)

    def _hex(self, digits: int) -> str:
        return f"{self._random.getrandbits(4 * digits):0{digits}x}"

    def _uuid(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def _event_id(self) -> str:
        text = base64.b64encode(self._random.randbytes(18)).decode()
        return f"{text[:16]}++++{text[16:20]}"

    def _entity_id(self) -> str:
        return base64.b64encode(self._random.randbytes(30)).decode()


def sample_events(
    times: Iterator[datetime], *, seed: int = 1, engine_every: int = 150, burst: int = 20
) -> Iterator[dict[str, Any]]:
    """Yield endless events of one fleet: mostly noise, and some loads of the PowerShell engine.

    Args:
        times: the time of each event.
        seed: the seed of the fleet.
        engine_every: one in this many events is a load of the engine; three in four of those are
            suspicious.
        burst: among the first this many events it is one in ten, so that something happens at once.
    """
    fleet = SampleFleet(seed)
    for number, time in enumerate(times):
        every = 10 if number < burst else engine_every
        if number % every != every // 2:
            yield fleet.library_load(time)
        else:
            yield fleet.engine_load(time, suspicious=number // every % 4 != 3)


def _signature(signer: str | None) -> dict[str, Any]:
    if signer is None:
        return {"exists": False}
    return {"exists": True, "status": "trusted", "subject_name": signer, "trusted": True}
