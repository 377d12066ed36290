"""What a worker says about itself at /metrics and /readyz."""

from __future__ import annotations

import http.client
import re
from typing import NamedTuple

_SERIES = re.compile(r"^(firstseen_\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_TIMEOUT_SECONDS = 2.0


class Counters(NamedTuple):
    """How far a worker has got, as counts of what it did."""

    records: int
    matched: int
    forwarded: int
    sightings: int
    new_terms: int
    alerts: int
    overflow: int
    duplicates: int
    summaries: int
    dead_letters: int
    lag: int

    @property
    def settled(self) -> bool:
        """Whether everything that was read has been processed, with nothing left between stages."""
        decided = self.alerts + self.overflow + self.duplicates
        return self.lag == 0 and self.forwarded == self.sightings and decided >= self.new_terms


def read_counters(exposition: str) -> Counters:
    """Read the counters from a worker's metrics in Prometheus' text format."""
    series = [found.groups(default="") for found in _SERIES.finditer(exposition)]

    def total(name: str, label: str = "") -> int:
        return round(
            sum(
                float(value)
                for found, labels, value in series
                if found == f"firstseen_{name}" and label in labels
            )
        )

    return Counters(
        records=total("records_processed_total"),
        matched=total("rule_matches_total"),
        forwarded=total("observations_total", 'result="forwarded"'),
        sightings=total("sightings_total"),
        new_terms=total("new_terms_total"),
        alerts=total("alerts_total"),
        overflow=total("alerts_overflow_total"),
        duplicates=total("alerts_duplicate_total"),
        summaries=total("alert_summaries_total"),
        dead_letters=total("dead_letters_total"),
        lag=total("consumer_lag_records"),
    )


class WorkerPage:
    """The pages of a worker on this machine."""

    def __init__(self, port: int) -> None:
        self._port = port

    @property
    def url(self) -> str:
        """The address of the pages."""
        return f"http://127.0.0.1:{self._port}"

    def ready(self) -> bool:
        """Whether the worker reports that it is ready."""
        return self._get("/readyz") is not None

    def counters(self) -> Counters | None:
        """Read the worker's metrics; None if it does not answer."""
        text = self._get("/metrics")
        return None if text is None else read_counters(text)

    def _get(self, path: str) -> str | None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT_SECONDS)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            text = answer.read().decode()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        return text if answer.status == http.HTTPStatus.OK else None
