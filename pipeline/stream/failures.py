"""What the errors of Faust and aiokafka that end a worker mean to an operator."""

from __future__ import annotations

from aiokafka import errors
from faust.exceptions import ConsistencyError

from pipeline.config import Settings
from pipeline.errors import (
    BrokerError,
    DeliveryError,
    FirstseenError,
    StallError,
    StateError,
    TopologyError,
)
from pipeline.kafka.security import user


def explained(error: BaseException, settings: Settings) -> BaseException:
    """Return an error of ours for one that has a cause an operator can remove, else the same."""
    ours = _explanation(error, settings)
    if ours is None:
        return error
    ours.__cause__ = error
    return ours


def _explanation(error: BaseException, settings: Settings) -> FirstseenError | None:
    if isinstance(error, errors.TopicAuthorizationFailedError):
        return BrokerError(
            f"the brokers do not let {user(settings)} use {_topics(error)}: it needs the right "
            f"Read on the inputs, and Read and Write on our own topics; see SECURITY.md"
        )
    if isinstance(error, errors.ClusterAuthorizationFailedError):
        return BrokerError(
            f"the brokers do not let {user(settings)} write: it needs the right Write on our own "
            f"topics; see SECURITY.md"
        )
    if isinstance(error, DeliveryError) and _lacks_partition(error.__cause__):
        return TopologyError(
            f"topic {error.topic} does not have the partition that a record is for: somebody added "
            f"partitions to {_source(error.topic, settings)}, or created {error.topic} anew with "
            f"fewer, while workers ran. Nothing past that record is committed. Stop the workers: "
            f"`firstseen topics plan` names the counts that differ; see docs/reference/topics.md"
        )
    if isinstance(error, errors.KafkaTimeoutError):
        # Of a consumer, only the request for offsets raises it: Faust's, before it fills a table.
        seconds = settings.kafka.request_timeout.total_seconds()
        return StallError(
            f"no broker told within {seconds:g} s where the partitions of the changelogs begin and "
            f"end, so the tables cannot be filled: one of them may have no leader. `firstseen "
            f"topics plan` names it; start the brokers that hold it"
        )
    if isinstance(error, ConsistencyError):
        reason = " ".join(str(error).split("\n\n")[0].split())
        return StateError(
            f"the state in {settings.state.directory} does not belong to its changelog topic: "
            f"{reason} The topic was created anew, brokers have lost its end, or the folder is "
            f"another deployment's. What only the folder knows is lost with it: move the folder "
            f"away and start again, and the table is rebuilt from what the changelog holds"
        )
    return None


def _lacks_partition(cause: BaseException | None) -> bool:
    """Whether aiokafka's producer does not know the partition that it was to write to."""
    return isinstance(cause, AssertionError) and cause.args == ("Unrecognized partition",)


def _source(topic: str | None, settings: Settings) -> str:
    """Return the topic whose partitions those of a changelog belong to."""
    sources = {
        settings.first_seen_changelog: settings.topics.observations,
        settings.quota_changelog: settings.topics.new_terms,
    }
    return sources.get(topic or "", "the topic that it belongs to")


def _topics(error: errors.TopicAuthorizationFailedError) -> str:
    """Return the topics that an error names: one, or a set of them."""
    named = error.args[0] if error.args else ""
    topics = sorted(named) if isinstance(named, set | frozenset) else [str(named)]
    return f"topic {', '.join(topics)}" if topics != [""] else "a topic"
