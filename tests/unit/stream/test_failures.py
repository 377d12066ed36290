"""What a worker says when Faust or aiokafka ended it for a reason that an operator can remove."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from aiokafka import AIOKafkaProducer, errors
from faust.exceptions import ConsistencyError

from pipeline.config import Settings
from pipeline.errors import BrokerError, DeliveryError, StallError, StateError, TopologyError
from pipeline.stream.failures import explained

SETTINGS = Settings.load(
    None,
    {
        "kafka.security_protocol": "SASL_SSL",
        "kafka.sasl_mechanism": "PLAIN",
        "kafka.sasl_username": "ann",
        "state.directory": "/var/lib/firstseen",
    },
    {"FIRSTSEEN_KAFKA__SASL_PASSWORD": "x"},
)


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (errors.TopicAuthorizationFailedError("events"), "topic events:"),
        (errors.TopicAuthorizationFailedError({"b", "a"}), "topic a, b:"),
        (errors.TopicAuthorizationFailedError(), "a topic:"),
        (errors.ClusterAuthorizationFailedError(), "the right Write"),
    ],
)
def test_a_missing_right_is_named_with_the_user(error: Exception, named: str):
    found = explained(error, SETTINGS)

    assert isinstance(found, BrokerError)
    assert "'ann'" in str(found)
    assert named in str(found)
    assert found.__cause__ is error


def test_without_a_login_it_is_this_client_that_lacks_a_right():
    found = explained(errors.TopicAuthorizationFailedError("events"), Settings())

    assert "the brokers do not let this client use topic events:" in str(found)


def test_changelogs_whose_ends_nobody_tells_may_have_no_leader():
    error = errors.KafkaTimeoutError("Failed to get offsets by times in 90000 ms")

    found = explained(error, SETTINGS)

    assert isinstance(found, StallError)
    assert "within 90 s" in str(found)
    assert "firstseen topics plan" in str(found)
    assert found.__cause__ is error


def test_a_state_that_is_ahead_of_its_changelog_is_told_in_one_line_with_the_folder():
    error = ConsistencyError(
        "The offset for\n partition 1 is\nhigher (25 > -1).\n\nMost likely ..."
    )

    found = explained(error, SETTINGS)

    assert isinstance(found, StateError)
    assert "/var/lib/firstseen" in str(found)
    assert "The offset for partition 1 is higher (25 > -1)." in str(found)
    assert "\n" not in str(found)


def lost_record(topic: str) -> DeliveryError:
    """Return the outbox's error for a partition that aiokafka's producer does not know."""
    producer = AIOKafkaProducer.__new__(AIOKafkaProducer)
    producer._closed = True  # nothing to clean up
    producer._metadata = SimpleNamespace(partitions_for_topic=lambda _: {0, 1})
    error = DeliveryError("not acknowledged", topic=topic)
    with pytest.raises(AssertionError) as raised:
        producer._partition(topic, 2, None, None, None, None)
    error.__cause__ = raised.value
    return error


@pytest.mark.parametrize(
    ("topic", "named"),
    [
        (SETTINGS.first_seen_changelog, "added partitions to firstseen-observations,"),
        (SETTINGS.quota_changelog, "added partitions to firstseen-new-terms,"),
        ("other", "added partitions to the topic that it belongs to,"),
    ],
)
def test_partitions_that_were_added_while_workers_ran_are_said(topic: str, named: str):
    found = explained(lost_record(topic), SETTINGS)

    assert isinstance(found, TopologyError)
    assert f"topic {topic} does not have the partition" in str(found)
    assert named in str(found)
    assert "topics plan" in str(found)


def test_another_record_that_is_lost_stays_a_delivery():
    error = DeliveryError("not acknowledged", topic=SETTINGS.first_seen_changelog)
    error.__cause__ = AssertionError("something else")

    assert explained(error, SETTINGS) is error


def test_any_other_error_stays_what_it_is():
    error = RuntimeError("x")

    assert explained(error, SETTINGS) is error
