"""Looks now and then whether a topic that rows of tables hold offsets of was created anew.

A worker that runs does not notice it. It has no metadata of the new topic for some minutes, and
then goes on at the offset where it was in the old one: what the new topic holds before that offset
is skipped. Whether a table belongs to the topic is checked whenever partitions are assigned
(`pipeline.engine.source`), but against the ids that the topics had when the worker started.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from pipeline.config import Settings
from pipeline.engine.source import source_changed
from pipeline.errors import FirstseenError
from pipeline.kafka.clients import admin_client
from pipeline.kafka.topics import topic_ids

LOOK_SECONDS = 60.0


class SourceWatch:
    """Asks the brokers for the ids of topics in a thread of its own, with one connection.

    Args:
        settings: how to connect.
        source_ids: see `pipeline.stream.context.Context`.
        fail: called once with a `SourceChangedError`, in that thread.
    """

    def __init__(
        self,
        settings: Settings,
        source_ids: Mapping[str, str],
        fail: Callable[[FirstseenError], None],
    ) -> None:
        self._settings = settings
        self._source_ids = source_ids
        self._fail = fail
        self._stopped = threading.Event()
        self._admin: AdminClient | None = None

    def start(self) -> None:
        """Begin to look; the thread keeps no process alive."""
        if self._source_ids:
            threading.Thread(target=self._run, name="source-watch", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(LOOK_SECONDS):
            error = self.look()
            if error is not None:
                self._fail(error)
                return

    def look(self) -> FirstseenError | None:
        """Return the error for a topic that has another id by now, if there is one.

        None as well while no broker answers, or while a topic is deleted and not created yet.
        """
        try:
            if self._admin is None:
                self._admin = admin_client(self._settings)
            now = topic_ids(self._admin, self._source_ids)
        except (FirstseenError, KafkaException):
            return None
        for topic, before in self._source_ids.items():
            if now.get(topic, before) != before:
                return source_changed(topic, before, now[topic])
        return None
