"""Quix Streams as its documentation shows it: filter, group by the term, state in RocksDB.

`group_by` sends every match through a repartition topic, so that a term meets its own history
wherever its event came in: the same promise that firstseen and Kafka Streams keep here.
"""

from __future__ import annotations

import logging
from typing import Any

from quixstreams import Application, State

from tests.benchmarks.peers.rule import matches, term
from tests.benchmarks.protocol import Reporter, Task


class Detector:
    """Counts, and stops the application at the end."""

    def __init__(self, task: Task, reporter: Reporter) -> None:
        self.consumed = self.found = self.decided = self.fresh = 0
        self._start_after = int(task.options.get("start_after", "0"))
        self._count = task.count
        self._reporter = reporter
        self.app = Application(
            broker_address=task.bootstrap,
            consumer_group=task.group,
            auto_offset_reset="earliest",
            state_dir=task.directory,
            loglevel="ERROR",
        )

    def matches(self, event: dict[str, Any]) -> bool:
        if not self.consumed and not self._start_after:
            self._reporter.start()
        self.consumed += 1
        found = matches(event)
        self.found += found
        self._stop_at_end()
        return found

    def is_new(self, event: dict[str, Any], state: State) -> bool:
        self.decided += 1
        if self.decided == self._start_after:
            self._reporter.start(self.decided)
        self._stop_at_end()
        if state.get("seen") is not None:
            state.set("seen", event["@timestamp"])
            return False
        state.set("seen", event["@timestamp"])
        self.fresh += 1
        return True

    def _stop_at_end(self) -> None:
        if self.consumed == self._count and self.decided == self.found:
            self.app.stop()


def main() -> None:
    logging.disable(logging.WARNING)
    task, reporter = Task.from_arguments(), Reporter()
    detector = Detector(task, reporter)
    source = detector.app.topic(task.topic, value_deserializer="json")
    alerts = detector.app.topic(task.alerts, value_serializer="json")
    frame = detector.app.dataframe(source)
    frame = frame.filter(detector.matches)
    frame = frame.group_by(term, name="term", value_deserializer="json", key_deserializer="str")
    frame = frame.filter(detector.is_new, stateful=True)
    frame = frame.to_topic(alerts)
    detector.app.run()
    reporter.done(consumed=detector.consumed, found=detector.decided, new=detector.fresh)
    reporter.leave()


if __name__ == "__main__":
    main()
