"""Reads and writes the committed offsets of consumer groups, with retries.

This is always done as a consumer of the group, although that consumer never joins. librdkafka's
admin client is not fit for it, for two reasons:

* If there is no coordinator yet, it tries three times within 0.3 s, and then never answers.
* A broker that says it is not the coordinator ends the process
  (https://github.com/confluentinc/librdkafka/issues/5040).

Both happen whenever a broker restarts, and on a new cluster, which creates the topic of the groups'
offsets only when it is first asked for a group.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from typing import Final

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from pipeline.config import Settings
from pipeline.errors import BrokerError
from pipeline.kafka.clients import CONNECT_TIMEOUT, broker_errors, consumer
from pipeline.kafka.reading import interrupts_kept

PATIENCE_SECONDS: Final = 300.0
"""How long to wait for a coordinator while its cluster answers."""

CLUSTER_SILENCE_SECONDS: Final = 60.0
"""How long a cluster that has answered before may say nothing at all."""

_PAUSE_SECONDS: Final = 0.2

# The broker's error codes for "ask again".
_LATER: Final = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.REQUEST_TIMED_OUT,
    }
)
# The client's error codes for an answer that did not come: from the coordinator, or from anybody.
_SILENT: Final = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
        KafkaError._TIMED_OUT,  # noqa: SLF001
        KafkaError._TRANSPORT,  # noqa: SLF001
        KafkaError._WAIT_COORD,  # noqa: SLF001
    }
)

log = structlog.stdlib.get_logger(__name__)


class GroupOffsets:
    """The committed offsets of one consumer group.

    Args:
        settings: for error messages.
        client: a consumer of the group.
        group: the name of the group, for error messages.
    """

    def __init__(self, settings: Settings, client: Consumer, group: str) -> None:
        self._settings = settings
        self._client = client
        self._group = group

    def read(self, places: Iterable[tuple[str, int]]) -> list[TopicPartition]:
        """Return the committed offsets of these partitions, without those that have none.

        Raises:
            BrokerError: the brokers do not say, which must not be taken for "nothing was
                committed".
        """
        asked = [TopicPartition(*place) for place in places]

        doing = f"reading what the group {self._group} has committed"
        answers = self._patiently(doing, lambda: self._client.committed(asked, CONNECT_TIMEOUT))
        return [each for each in answers if each.offset >= 0]

    def write(self, offsets: Sequence[TopicPartition]) -> None:
        """Commit these offsets; raises BrokerError."""
        written = list(offsets)
        doing = f"writing what the group {self._group} has committed"
        self._patiently(doing, lambda: self._client.commit(offsets=written, asynchronous=False))

    def _patiently(
        self, doing: str, ask: Callable[[], list[TopicPartition]]
    ) -> list[TopicPartition]:
        """Ask the coordinator, and again while it is moving, being created, or slow."""
        begun = heard = time.monotonic()
        with broker_errors(self._settings, doing):
            while True:
                try:
                    return _without_errors(ask())
                except KafkaException as error:
                    cause = error.args[0]
                    if cause.code() not in _LATER | _SILENT:
                        raise
                    self._check_allowed()
                    if cause.code() in _LATER or self._anybody_answers():
                        heard = time.monotonic()
                    now = time.monotonic()
                    if now - heard > CLUSTER_SILENCE_SECONDS:
                        raise
                    waited = now - begun
                    if waited > PATIENCE_SECONDS:
                        raise BrokerError(
                            f"{doing}: the brokers answer, but not the group's coordinator, for "
                            f"{waited:.0f} s: {cause.str()}; check the topic __consumer_offsets "
                            f"and the brokers that hold it"
                        ) from error
                log.warning(
                    "the coordinator of a consumer group does not answer yet; asking again",
                    action="group_awaited",
                    doing=doing,
                    reason=cause.str(),
                    waited_seconds=round(waited),
                    patience_seconds=round(PATIENCE_SECONDS),
                )
                time.sleep(_PAUSE_SECONDS)

    def _check_allowed(self) -> None:
        """Raise KafkaException if the brokers refuse the group, which looks like silence.

        librdkafka then asks for the coordinator again until the time is up, and reports the refusal
        only to whoever polls. A consumer that reads is not polled here, for its records would be
        lost.
        """
        if self._client.assignment():
            return
        with interrupts_kept():
            message = self._client.poll(0)
        error = None if message is None else message.error()
        if error is not None and error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            raise KafkaException(error)

    def _anybody_answers(self) -> bool:
        try:
            self._client.list_topics(timeout=CONNECT_TIMEOUT)
        except KafkaException:
            return False
        return True


def _without_errors(answers: list[TopicPartition]) -> list[TopicPartition]:
    """Return the answers, or raise the first error among them: single partitions may be refused."""
    for each in answers:
        if each.error is not None:
            raise KafkaException(each.error)
    return answers


def committed(
    settings: Settings, group: str, places: Iterable[tuple[str, int]]
) -> list[TopicPartition]:
    """Return what a group has committed for some partitions; see `GroupOffsets.read`."""
    with closing(consumer(settings, group_id=group)) as client:
        return GroupOffsets(settings, client, group).read(places)
