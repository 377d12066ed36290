"""Library events for the tests: one by hand, or many by seed with the sightings that matter."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

ENGINE = "System.Management.Automation.ni.dll"
NO_JSON = f'{{"a":["windows","library","{ENGINE}"], but no JSON'.encode()
"""A record that holds all that the built-in rule demands, so that it is read and found to be none."""

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


def library_event(
    *,
    number: int = 0,
    host: str = "h1",
    user: str = "S-1-5-21-1",
    executable: str = r"C:\Users\ann\tool.exe",
    dll: str = ENGINE,
    at: datetime = START,
    ingested: bool = False,
    signer: str | None = None,
) -> dict[str, Any]:
    """Return one event in the shape of Elastic Defend 8.18; every argument is what varies."""
    time = at.isoformat(timespec="milliseconds").replace("+00:00", "0000Z")
    signature: dict[str, Any] = {"exists": False}
    if signer is not None:
        signature = {
            "exists": True,
            "status": "trusted",
            "subject_name": signer,
            "trusted": True,
        }
    event: dict[str, Any] = {
        "@timestamp": time,
        "agent": {"id": f"agent-{host}", "type": "endpoint", "version": "8.18.3"},
        "data_stream": {
            "dataset": "endpoint.events.library",
            "namespace": "default",
            "type": "logs",
        },
        "dll": {"name": dll, "path": rf"C:\Windows\assembly\{dll}"},
        "ecs": {"version": "8.10.0"},
        "event": {
            "action": "load",
            "category": ["library"],
            "created": time,
            "dataset": "endpoint.events.library",
            "id": f"event-{number:08d}",
            "kind": "event",
            "type": ["start"],
        },
        "host": {"id": host, "name": host, "os": {"type": "windows"}},
        "process": {
            "code_signature": signature,
            "executable": executable,
            "name": executable.rsplit("\\", 1)[-1],
            "pid": 4242,
        },
        "user": {"domain": "CORP", "id": user, "name": "ann"},
    }
    if ingested:
        event["event"]["ingested"] = time
    return event


def encode(event: dict[str, Any]) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode()


def many_events(
    count: int, *, seed: int, match_share: float = 0.1, tuples: int = 200
) -> Iterator[bytes]:
    """Yield events in time order: mostly noise, some matches of few tuples, so most are repeats."""
    rng = random.Random(seed)
    for number in range(count):
        at = START + timedelta(milliseconds=100 * number)
        if rng.random() < match_share:
            which = min(int(rng.expovariate(4 / tuples)), tuples - 1)
            event = library_event(
                number=number,
                at=at,
                host=f"h{which % 17}",
                user=f"S-1-5-21-{which % 5}",
                executable=rf"C:\Users\ann\tool-{which}.exe",
            )
        else:
            event = library_event(
                number=number,
                at=at,
                host=f"h{rng.randrange(40)}",
                dll=f"lib{rng.randrange(500)}.dll",
                executable=rf"C:\Windows\System32\app{rng.randrange(90)}.exe",
                signer="Microsoft Windows",
            )
        yield encode(event)
