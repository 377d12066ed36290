"""Topics that brokers hide from a user without rights on them.

In the list of all topics they are left out, as if they did not exist. Only a request by name is
refused, whether they exist or not.
"""

from __future__ import annotations

from collections.abc import Collection

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from pipeline.config import Settings
from pipeline.errors import BrokerError
from pipeline.kafka.clients import CONNECT_TIMEOUT, admin_client
from pipeline.kafka.security import user


def check_visible(
    settings: Settings, topics: Collection[str], admin: AdminClient | None = None
) -> None:
    """Return if none of these topics, which are not in the list of all, is merely hidden.

    Args:
        settings: how to connect.
        topics: their names.
        admin: a client to use; by default, a new one.

    Raises:
        BrokerError: with one line for each topic that the brokers hide.
        BrokerUnreachableError: no broker answers.
    """
    if not topics:
        return
    admin = admin_client(settings) if admin is None else admin
    answers = admin.describe_topics(TopicCollection(list(topics)), request_timeout=CONNECT_TIMEOUT)
    hidden = [topic for topic, answer in answers.items() if _is_refused(answer.exception())]
    if hidden:
        raise BrokerError("\n".join(_hidden(settings, topic) for topic in sorted(hidden)))


def _is_refused(error: BaseException | None) -> bool:
    return (
        isinstance(error, KafkaException)
        and error.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    )


def _hidden(settings: Settings, topic: str) -> str:
    return (
        f"topic {topic}: the brokers do not tell {user(settings)} whether it exists; grant the "
        f"right Describe on it (Read and Write include it)"
    )
