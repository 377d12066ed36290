"""The members of Faust, mode and aiokafka that `pipeline.stream` relies on.

Faust and aiokafka are pinned to exact versions, because the transport subclasses classes that
promise nothing. Check this list when a pin moves: tests/unit/stream/test_contract.py fails with the
name of each member that is gone or has different parameters.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Member:
    """One attribute: its path, and its parameters if it is called or overridden."""

    path: str
    parameters: tuple[str, ...] | None = None


FAUST_VERSION = "0.15.3"
AIOKAFKA_VERSION = "0.14.0"

_DRIVER = "faust.transport.drivers.aiokafka"
_CONSUMER = "faust.transport.consumer:Consumer"
_RECOVERY = "faust.tables.recovery:Recovery"

MEMBERS: tuple[Member, ...] = (
    # transport.ConsumerThread
    Member(
        f"{_DRIVER}:AIOKafkaConsumerThread._fetch_records",
        ("self", "consumer", "active_partitions", "timeout", "max_records"),
    ),
    Member(f"{_DRIVER}:AIOKafkaConsumerThread._create_worker_consumer", ("self", "transport")),
    Member(f"{_DRIVER}:AIOKafkaConsumerThread._seek_wait", ("self", "consumer", "partitions")),
    Member(f"{_DRIVER}:AIOKafkaConsumerThread._highwaters", ("self", "partitions")),
    Member(f"{_DRIVER}:AIOKafkaConsumerThread.seek", ("self", "partition", "offset")),
    Member(f"{_DRIVER}:AIOKafkaConsumerThread.seek_to_committed", ("self",)),
    Member(f"{_DRIVER}:AIOKafkaConsumerThread.verify_event_path", ("self", "now", "tp")),
    Member(f"{_DRIVER}:AIOKafkaConsumerThread._ensure_consumer", ("self",)),
    Member(f"{_DRIVER}:AIOKafkaConsumerThread.call_thread"),
    Member(f"{_DRIVER}:server_list", ("urls", "default_port")),
    Member(f"{_DRIVER}:credentials_to_aiokafka_auth", ("credentials", "ssl_context")),
    Member("aiokafka.consumer.subscription_state:SubscriptionState.is_assigned", ("self", "tp")),
    Member("aiokafka.consumer.subscription_state:Assignment.state_value", ("self", "tp")),
    Member("aiokafka.consumer.subscription_state:TopicPartitionState.has_valid_position"),
    Member("aiokafka.consumer.subscription_state:TopicPartitionState.position"),
    Member("aiokafka.consumer.fetcher:Fetcher.seek_to", ("self", "tp", "offset")),
    # transport.Consumer
    Member(f"{_CONSUMER}.commit", ("self", "topics", "start_new_transaction")),
    Member(f"{_CONSUMER}.maybe_wait_for_commit_to_finish", ("self",)),
    Member(f"{_CONSUMER}._filter_tps_with_pending_acks", ("self", "topics")),
    Member(f"{_CONSUMER}._new_offset", ("self", "tp")),
    Member(f"{_CONSUMER}._should_commit", ("self", "tp", "offset")),
    Member(f"{_CONSUMER}._add_gap", ("self", "tp", "offset_from", "offset_to")),
    Member(f"{_CONSUMER}._handle_attached", ("self", "commit_offsets")),
    Member(
        f"{_CONSUMER}._commit_offsets",
        ("self", "offsets", "start_new_transaction"),
    ),
    Member(f"{_CONSUMER}._commit_tps", ("self", "tps", "start_new_transaction")),
    Member(f"{_CONSUMER}.on_partitions_revoked", ("self", "revoked")),
    Member(f"{_CONSUMER}.on_partitions_assigned", ("self", "assigned", "generation_id")),
    Member(f"{_CONSUMER}._wait_next_records", ("self", "timeout")),
    Member(f"{_CONSUMER}.flow_active"),
    Member(f"{_CONSUMER}.getmany", ("self", "timeout")),
    Member(f"{_DRIVER}:Consumer._to_message", ("self", "tp", "record")),
    Member("aiokafka.consumer.group_coordinator:GroupCoordinator.close", ("self",)),
    Member(
        "aiokafka.consumer.group_coordinator:GroupCoordinator.fetch_committed_offsets",
        ("self", "partitions"),
    ),
    Member(f"{_CONSUMER}.wait_empty", ("self",)),
    Member(f"{_DRIVER}:Consumer._new_consumer_thread", ("self",)),
    # transport.NativeBatch, which is handed over in place of a BatchBuilder
    Member(
        "aiokafka.producer.message_accumulator:MessageBatch.set_producer_state",
        ("self", "producer_id", "producer_epoch", "base_sequence"),
    ),
    Member("aiokafka.producer.message_accumulator:MessageBatch.get_data_buffer", ("self",)),
    Member("aiokafka.producer.message_accumulator:MessageBatch.remaining_linger", ("self",)),
    Member("aiokafka.producer.message_accumulator:BatchBuilder.record_count", ("self",)),
    Member("aiokafka.producer.message_accumulator:BatchBuilder.closed", ("self",)),
    # transport.Producer and Transport
    Member(f"{_DRIVER}:Producer._settings_extra", ("self",)),
    Member(f"{_DRIVER}:Producer._ensure_producer", ("self",)),
    Member(f"{_DRIVER}:Transport.Consumer"),
    Member(f"{_DRIVER}:Transport.Producer"),
    # transport.membership
    Member("aiokafka.consumer.group_coordinator:GroupCoordinator._send_req", ("self", "request")),
    Member(
        "aiokafka.consumer.group_coordinator:GroupCoordinator._push_error_to_user", ("self", "exc")
    ),
    Member("aiokafka.protocol.group:HeartbeatRequest.API_KEY"),
    Member("aiokafka.protocol.group:SyncGroupRequest.API_KEY"),
    Member("aiokafka.protocol.group:JoinGroupRequest.API_KEY"),
    Member("aiokafka.protocol.commit:OffsetCommitRequest.API_KEY"),
    Member("aiokafka.errors:for_code", ("error_code",)),
    # transport.liveness
    Member("aiokafka.client:AIOKafkaClient._md_synchronizer", ("self",)),
    Member("aiokafka.consumer.fetcher:Fetcher._fetch_requests_routine", ("self",)),
    Member("aiokafka.consumer.group_coordinator:GroupCoordinator._coordination_routine", ("self",)),
    Member("aiokafka.producer.sender:Sender.sender_task"),
    # transport.connections
    Member("aiokafka.client:AIOKafkaClient.send", ("self", "node_id", "request", "group")),
    Member("aiokafka.client:AIOKafkaClient._get_conn", ("self", "node_id", "group", "no_hint")),
    Member("aiokafka.client:AIOKafkaClient._get_conn_lock"),
    Member("aiokafka.client:AIOKafkaClient._on_connection_closed", ("self", "conn", "reason")),
    Member("aiokafka.client:AIOKafkaClient.force_metadata_update", ("self",)),
    Member(
        "aiokafka.conn:AIOKafkaConnection.__init__",
        (
            "self",
            "host",
            "port",
            "client_id",
            "request_timeout_ms",
            "ssl_context",
            "security_protocol",
            "max_idle_ms",
            "on_close",
            "sasl_mechanism",
            "sasl_plain_password",
            "sasl_plain_username",
            "sasl_kerberos_service_name",
            "sasl_kerberos_domain_name",
            "sasl_oauth_token_provider",
        ),
    ),
    Member("aiokafka.conn:AIOKafkaConnection.connect", ("self",)),
    Member("aiokafka.conn:AIOKafkaConnection.connected", ("self",)),
    Member("aiokafka.conn:AIOKafkaConnection.close", ("self", "reason", "exc")),
    Member("aiokafka.conn:AIOKafkaConnection.send", ("self", "request", "expect_response")),
    Member("aiokafka.conn:AIOKafkaConnection._do_version_lookup", ("self",)),
    Member("aiokafka.conn:AIOKafkaConnection._do_sasl_handshake", ("self",)),
    Member("aiokafka.conn:AIOKafkaConnection._idle_check", ("self_ref",)),
    Member("aiokafka.conn:AIOKafkaConnection._handle_frame", ("self", "resp")),
    Member("aiokafka.conn:CloseReason.OUT_OF_SYNC"),
    Member("aiokafka.protocol.fetch:FetchRequest.API_KEY"),
    # transport.fetcher, bundled_records and filtered_records
    Member(
        "aiokafka.consumer.fetcher:Fetcher._proc_fetch_request",
        ("self", "assignment", "node_id", "request"),
    ),
    Member(
        "aiokafka.consumer.fetcher:Fetcher._update_fetch_positions",
        ("self", "assignment", "node_id", "tps"),
    ),
    Member("aiokafka.consumer.subscription_state:TopicPartitionState.awaiting_reset"),
    Member("aiokafka.consumer.fetcher:FetchResult.getall", ("self", "max_records")),
    Member("aiokafka.consumer.fetcher:PartitionRecords._unpack_records", ("self",)),
    Member("aiokafka.consumer.fetcher:PartitionRecords._consumer_record", ("self", "tp", "record")),
    Member(
        "aiokafka.consumer.fetcher:PartitionRecords._consume_aborted_up_to",
        ("self", "batch_offset"),
    ),
    Member(
        "aiokafka.consumer.fetcher:PartitionRecords._contains_abort_marker",
        ("self", "next_batch"),
    ),
    Member(
        "aiokafka.consumer.fetcher:PartitionRecords.__init__",
        (
            "self",
            "tp",
            "records",
            "aborted_transactions",
            "fetch_offset",
            "key_deserializer",
            "value_deserializer",
            "check_crcs",
            "isolation_level",
        ),
    ),
    Member("aiokafka.record.default_records:DefaultRecordBatch.validate_crc"),
    Member("aiokafka.codec:snappy_decode"),
    # recovery
    Member(f"{_RECOVERY}.on_recovery_completed", ("self", "generation_id")),
    Member(f"{_RECOVERY}.active_remaining", ("self",)),
    Member(f"{_RECOVERY}._seek_offsets", ("self", "consumer", "tps", "offsets", "title")),
    Member("faust.tables.manager:TableManager.recovery"),
    Member("faust.tables.manager:TableManager.on_stop", ("self",)),
    # tables
    Member("faust.stores.rocksdb:Store._open_for_partition", ("self", "partition")),
    Member("faust.stores.rocksdb:Store._db_for_partition", ("self", "partition")),
    Member("faust.stores.rocksdb:Store.partition_path", ("self", "partition")),
    Member("faust.stores.rocksdb:Store.revoke_partitions", ("self", "table", "tps")),
    Member("faust.stores.rocksdb:Store.set_persisted_offset", ("self", "tp", "offset")),
    Member("faust.stores.rocksdb:Store.offset_key"),
    Member("faust.stores.rocksdb:RocksDBOptions.open", ("self", "path", "read_only")),
    Member("faust.stores.rocksdb:RocksDBOptions.as_options", ("self",)),
    Member("faust.tables.base:Collection._new_store", ("self",)),
    Member(
        "faust.tables.base:Collection.on_rebalance",
        ("self", "assigned", "revoked", "newly_assigned", "generation_id"),
    ),
    Member("faust.tables.base:Collection.on_recover", ("self", "fun")),
    Member("faust.tables.base:Collection.on_changelog_event", ("self", "event")),
    Member("faust.tables.base:Collection.apply_changelog_batch", ("self", "batch")),
    # app
    Member("faust.app.base:App._new_transport", ("self",)),
    Member("faust.app.base:App._new_producer_transport", ("self",)),
    Member("faust.app.base:App.on_rebalance_start", ("self",)),
    Member("faust.app.base:App.on_rebalance_end", ("self",)),
    Member("faust.app.base:App._crash", ("self", "reason")),
)
