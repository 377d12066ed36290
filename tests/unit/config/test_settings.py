"""Settings: merged from their sources, checked once, and nothing secret shown."""

from __future__ import annotations

import pickle
import traceback
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.config import KafkaSettings, Settings
from pipeline.errors import EXIT_CONFIG, SettingsError

PASSWORD = "hunter2-very-secret"


def load(*, environ=None, overrides=None, config_file=None):
    return Settings.load(config_file, overrides, environ or {})


def problems_of(**sources):
    with pytest.raises(SettingsError) as caught:
        load(**sources)
    return str(caught.value)


@pytest.fixture
def yaml_file(tmp_path):
    def write(text):
        path = tmp_path / "firstseen.yml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_defaults_are_complete_and_valid():
    assert Settings() == load()


def test_a_flag_wins_over_the_environment_which_wins_over_the_file(yaml_file):
    path = yaml_file(
        "kafka: {group_id: file, client_id: file, sasl_username: null}\nweb: {port: 1}\n"
    )

    settings = load(
        config_file=path,
        environ={"FIRSTSEEN_KAFKA__GROUP_ID": "env", "FIRSTSEEN_KAFKA__CLIENT_ID": "env"},
        overrides={"kafka.group_id": "flag", "web.port": None},
    )

    assert ("flag", "env", 1) == (
        settings.kafka.group_id,
        settings.kafka.client_id,
        settings.web.port,
    )


def test_a_bare_off_of_yaml_is_the_word(yaml_file):
    assert "off" == load(config_file=yaml_file("state: {backfill: off}\n")).state.backfill


def test_every_value_knows_its_source(yaml_file):
    path = yaml_file("# first line\nweb:\n  port: 1\n")

    settings = load(
        config_file=path,
        environ={"FIRSTSEEN_LOG__LEVEL": "DEBUG"},
        overrides={"kafka.group_id": "soc"},
    )

    assert {
        "web.port": f"{path}:3",
        "log.level": "FIRSTSEEN_LOG__LEVEL",
        "kafka.group_id": "command line",
        "web.host": "default",
    } == {
        key: settings.source(key) for key in ("web.port", "log.level", "kafka.group_id", "web.host")
    }


def test_the_variable_firstseen_config_names_the_file(yaml_file):
    path = yaml_file("web: {port: 7}\n")

    assert 7 == load(environ={"FIRSTSEEN_CONFIG": str(path)}).web.port


def test_a_file_that_is_given_wins_over_the_variable(yaml_file):
    path = yaml_file("web: {port: 7}\n")

    assert 7 == load(config_file=path, environ={"FIRSTSEEN_CONFIG": "/nowhere"}).web.port


def test_the_process_environment_is_read_unless_another_is_given(monkeypatch):
    monkeypatch.setenv("FIRSTSEEN_WEB__PORT", "8")

    assert 8 == Settings.load().web.port


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        Settings().kafka.group_id = "other"


def test_settings_survive_a_pickle():
    settings = load(overrides={"kafka.group_id": "soc"})

    assert settings == pickle.loads(pickle.dumps(settings))  # noqa: S301


def test_text_from_the_environment_becomes_each_type():
    settings = load(
        environ={
            "FIRSTSEEN_TOPICS__INPUTS": "a, b.c ,",
            "FIRSTSEEN_RULES__PATHS": "/rules,more.toml",
            "FIRSTSEEN_RULES__MATCH_INDEX": "false",
            "FIRSTSEEN_STATE__MAX_FUTURE": "250ms",
            "FIRSTSEEN_STREAM__MAX_EVENT_BYTES": "512KiB",
            "FIRSTSEEN_DEAD_LETTERS__MAX_RATIO": "null",
            "FIRSTSEEN_DEAD_LETTERS__MAX_CONSECUTIVE": "3",
            "FIRSTSEEN_KAFKA__SECURITY_PROTOCOL": "ssl",
        }
    )

    assert (
        ("a", "b.c"),
        (Path("/rules"), Path("more.toml")),
        False,
        timedelta(milliseconds=250),
    ) == (
        settings.topics.inputs,
        settings.rules.paths,
        settings.rules.match_index,
        settings.state.max_future,
    )
    assert (512 << 10, None, 3, "SSL") == (
        settings.stream.max_event_bytes,
        settings.dead_letters.max_ratio,
        settings.dead_letters.max_consecutive,
        settings.kafka.security_protocol,
    )


def test_an_empty_variable_counts_as_not_set():
    assert Settings() == load(
        environ={"FIRSTSEEN_TOPICS__INPUTS": "", "FIRSTSEEN_KAFKA__GROUP_ID": ""}
    )


def test_a_file_may_spell_kafka_settings_with_dots(yaml_file):
    path = yaml_file("kafka:\n  bootstrap.servers: kafka:9092\n  group.instance.id: a\n")

    kafka = load(config_file=path).kafka

    assert ("kafka:9092", "a") == (kafka.bootstrap_servers, kafka.group_instance_id)


@pytest.mark.parametrize("text", ["", "# nothing\n", "kafka:\n  # group_id: x\nweb: {}\n"])
def test_an_empty_file_or_section_changes_nothing(yaml_file, text):
    assert Settings() == load(config_file=yaml_file(text))


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (
            {"FIRSTSEEN_KAFKA__GRUOP_ID": "x"},
            "FIRSTSEEN_KAFKA__GRUOP_ID: no such setting; did you mean FIRSTSEEN_KAFKA__GROUP_ID?",
        ),
        (
            {"FIRSTSEEN_WEB_PORT": "80"},
            "FIRSTSEEN_WEB_PORT: no such setting; did you mean FIRSTSEEN_WEB__PORT?",
        ),
        ({"FIRSTSEEN_ZZZ": ""}, "FIRSTSEEN_ZZZ: no such setting"),
        (
            {"FIRSTSEEN_KAFKA__MESSAGE_MAX_BYTES": "9999GiB"},
            (
                "kafka.message_max_bytes: '9999GiB' must be less than or equal to 2147483647 "
                "(from FIRSTSEEN_KAFKA__MESSAGE_MAX_BYTES)"
            ),
        ),
        (
            {"FIRSTSEEN_DEAD_LETTERS__RATIO_RECORDS": "99999999999999999999"},
            (
                "dead_letters.ratio_records: '99999999999999999999' must be less than or equal "
                "to 1000000 (from FIRSTSEEN_DEAD_LETTERS__RATIO_RECORDS)"
            ),
        ),
        (
            {"FIRSTSEEN_WEB__PORT": "70000"},
            "web.port: '70000' must be less than or equal to 65535 (from FIRSTSEEN_WEB__PORT)",
        ),
        (
            {"FIRSTSEEN_KAFKA__SESSION_TIMEOUT": "45"},
            "kafka.session_timeout: '45' is not a duration: write a number and a unit, like 250ms, 90s, 5m, 24h, 14d (from FIRSTSEEN_KAFKA__SESSION_TIMEOUT)",
        ),
        (
            {"FIRSTSEEN_TOPICS__INPUTS": "good,not good"},
            "topics.inputs: 'not good' is not a topic name: letters, digits, '.', '_' and '-', at most 249 characters (from FIRSTSEEN_TOPICS__INPUTS)",
        ),
        (
            {"FIRSTSEEN_KAFKA__BOOTSTRAP_SERVERS": "kafka"},
            "kafka.bootstrap_servers: 'kafka' is not a list of host:port, like kafka-1:9092,kafka-2:9092 (from FIRSTSEEN_KAFKA__BOOTSTRAP_SERVERS)",
        ),
        (
            {"FIRSTSEEN_KAFKA__ISOLATION_LEVEL": "all"},
            "kafka.isolation_level: 'all' must be 'read_committed' or 'read_uncommitted' (from FIRSTSEEN_KAFKA__ISOLATION_LEVEL)",
        ),
    ],
)
def test_a_problem_names_what_value_source_and_remedy(environ, expected):
    assert expected == problems_of(environ=environ)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "kafka:\n  gruop_id: x\n",
            "kafka.gruop_id: no such setting; did you mean kafka.group_id? (from {path}:2)",
        ),
        ("kafak: {}\n", "kafak: no such section; did you mean kafka? (from {path}:1)"),
        (
            "web:\n  port: no\n  # x\n",
            "web.port: 'False' must be a valid integer, unable to parse string as an integer (from {path}:2)",
        ),
        (
            "web: {port: 1}\nlog: {}\nweb: {port: 2}\n",
            "web: given twice in the file (from {path}:3)",
        ),
        ("web:\n  port: 1\n  port: 1\n", "port: given twice in web (from {path}:3)"),
        ("kafka:\n  group.id: a\n  group_id: b\n", "kafka.group_id: given twice (from {path}:3)"),
        ("web: 3\n", "web: must be a mapping (from {path}:1)"),
        ("- a\n", "the file: must be a mapping (from {path}:1)"),
        ("web: [\n", "{path}:2: this is not YAML: "),
        (
            "kafka: {group_id: a",
            "{path}:1: this is not YAML: expected ',' or '}}', but got '<stream end>'",
        ),
        (
            "kafka:\n  group_id: on\n",
            "kafka.group_id: True is what YAML makes of this word: put it in quotes (from {path}:2)",
        ),
        ("web:\n  host: " + "[" * 5_000, "{path}:2: this is not YAML: it is nested too deep"),
        ("web: " + "{a: " * 5_000, "{path}:1: this is not YAML: it is nested too deep"),
        (
            "kafka:\n  client_id: &a [x, x]\n  group_id: [*a, *a]\n",
            "{path}:3: this is not YAML: a reference (*) is not read here",
        ),
    ],
)
def test_a_problem_in_the_file_has_its_line(yaml_file, text, expected):
    path = yaml_file(text)

    message = problems_of(config_file=path)

    assert expected.format(path=path) in message


def test_a_file_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "none.yml"

    assert f"cannot read the configuration file {path}: No such file or directory" == problems_of(
        config_file=path
    )


def test_a_file_that_is_not_text_is_named(tmp_path):
    path = tmp_path / "binary.yml"
    path.write_bytes(b"\xff\xfe")

    assert f"cannot read the configuration file {path}: it is not UTF-8 text" == problems_of(
        config_file=path
    )


def test_all_problems_are_told_at_once():
    message = problems_of(
        environ={"FIRSTSEEN_WEB__PORT": "x", "FIRSTSEEN_NOPE": "1"},
        overrides={"log.level": "loud", "a.b": 1},
    )

    assert ["4 settings are wrong:", "FIRSTSEEN_NOPE", "a.b", "web.port", "log.level"] == [
        line.strip().split(": ")[0].removesuffix(":") + (":" if line.endswith("wrong:") else "")
        for line in message.splitlines()
    ]


def test_a_wrong_setting_ends_with_the_exit_code_of_the_configuration():
    assert EXIT_CONFIG == SettingsError.exit_code


def test_a_long_value_is_cut_in_the_message():
    assert len(problems_of(environ={"FIRSTSEEN_WEB__PORT": "9" * 5000})) < 400


def test_variables_of_kubernetes_services_are_not_ours():
    environ = {
        "FIRSTSEEN_SERVICE_HOST": "10.0.0.1",
        "FIRSTSEEN_SERVICE_PORT": "9100",
        "FIRSTSEEN_SERVICE_PORT_METRICS": "9100",
        "FIRSTSEEN_PORT": "tcp://10.0.0.1:9100",
        "FIRSTSEEN_WORKER_PORT_9100_TCP": "tcp://10.0.0.1:9100",
        "FIRSTSEEN_WORKER_PORT_9100_TCP_PROTO": "tcp",
        "FIRSTSEEN_WORKER_PORT_9100_TCP_ADDR": "10.0.0.1",
        "FIRSTSEEN_TEST_ANYTHING": "1",
    }

    assert Settings() == load(environ=environ)


# --- secrets


SASL = {
    "FIRSTSEEN_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
    "FIRSTSEEN_KAFKA__SASL_MECHANISM": "SCRAM-SHA-512",
    "FIRSTSEEN_KAFKA__SASL_USERNAME": "worker",
}


def test_a_secret_shows_nowhere():
    settings = load(environ={**SASL, "FIRSTSEEN_KAFKA__SASL_PASSWORD": PASSWORD})

    shown = f"{settings!r} {settings!s} {settings.model_dump()} {settings.model_dump_json()} {settings.describe()}"

    assert PASSWORD == settings.kafka.sasl_password.get_secret_value()
    assert PASSWORD not in shown


@pytest.mark.parametrize(
    "text",
    [
        f"kafka:\n  sasl_password: [{PASSWORD}]\n",
        f"kafka:\n  sasl_password: {{{PASSWORD}: 1}}\n",
        f"kafka:\n  sasl_password: 'x\n  {PASSWORD}: [\n",
        f"kafka:\n  sasl_password: {PASSWORD}\n",  # no SASL protocol
    ],
)
def test_a_secret_shows_in_no_error_and_no_traceback(yaml_file, text):
    with pytest.raises(SettingsError) as caught:
        load(config_file=yaml_file(text))

    # Source lines are not shown by a traceback of the value alone, so the test's own text is not.
    assert PASSWORD not in "".join(traceback.format_exception(caught.value)).replace(text, "")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (f"!{PASSWORD}", "{path}:2: this is not YAML: could not determine a constructor for"),
        (f"*{PASSWORD}", "{path}:2: this is not YAML: a reference (*) is not read"),
        (f"!it's-{PASSWORD} x", "{path}:2: this is not YAML: could not determine"),
        ("!hunter2-very!secret", "{path}:2: this is not YAML: found undefined tag handle …"),
        (f"!!int {PASSWORD}", "kafka.sasl_password: put this value in quotes (from {path}:2)"),
        ("2026-13-45", "kafka.sasl_password: put this value in quotes (from {path}:2)"),
        (f"\x07{PASSWORD}", "{path}: this is not YAML: unreadable"),
    ],
)
def test_a_secret_that_yaml_reads_as_something_else_is_a_problem_and_not_shown(
    yaml_file, written, expected
):
    path = yaml_file(f"kafka:\n  sasl_password: {written}\n")

    message = problems_of(config_file=path)

    assert expected.format(path=path) in message
    assert "hunter2" not in message
    assert "2026" not in message.replace(str(path), "")


@pytest.mark.parametrize("key", [spec.key for spec in Settings.specs() if spec.is_secret])
def test_a_secret_is_not_taken_from_the_command_line(key):
    message = problems_of(
        environ={
            **SASL,
            "FIRSTSEEN_KAFKA__SASL_PASSWORD": "of-the-environment",
            "FIRSTSEEN_KAFKA__SSL_CERTIFICATE_LOCATION": "c",
            "FIRSTSEEN_KAFKA__SSL_KEY_LOCATION": "k",
        },
        overrides={key: PASSWORD},
    )

    variable = f"FIRSTSEEN_{key.upper().replace('.', '__')}"
    assert (
        f"{key}: a secret is not taken from the command line, which every user of the machine "
        f"can read: set {variable} or {key}_file" == message
    )


def test_a_secret_file_is_taken_from_the_command_line(tmp_path):
    path = tmp_path / "password"
    path.write_text(PASSWORD, encoding="utf-8")

    settings = load(environ=SASL, overrides={"kafka.sasl_password_file": str(path)})

    assert PASSWORD == settings.kafka.sasl_password.get_secret_value()


def test_a_password_in_the_address_of_a_broker_is_not_shown():
    message = problems_of(
        environ={"FIRSTSEEN_KAFKA__BOOTSTRAP_SERVERS": f"a:1,ann:{PASSWORD}@kafka:9092"}
    )

    assert "'a:1,********@kafka:9092' is not a list of host:port" in message


def test_a_secret_given_to_a_section_directly_shows_in_no_error():
    with pytest.raises(ValidationError) as caught:
        KafkaSettings(sasl_password=[PASSWORD])

    assert PASSWORD not in str(caught.value)


def test_a_secret_may_come_from_a_file(tmp_path):
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\n", encoding="utf-8")

    settings = load(environ={**SASL, "FIRSTSEEN_KAFKA__SASL_PASSWORD_FILE": str(path)})

    assert (PASSWORD, f"file {path}") == (
        settings.kafka.sasl_password.get_secret_value(),
        settings.source("kafka.sasl_password"),
    )
    assert PASSWORD not in repr(settings.describe())


def test_blanks_in_a_secret_file_belong_to_the_secret(tmp_path):
    path = tmp_path / "password"
    path.write_text(" a b \r\n", encoding="utf-8")

    settings = load(environ={**SASL, "FIRSTSEEN_KAFKA__SASL_PASSWORD_FILE": str(path)})

    assert " a b " == settings.kafka.sasl_password.get_secret_value()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"\n", "is empty"),
        (b"\xff", "is not UTF-8 text"),
    ],
)
def test_a_secret_file_that_is_of_no_use_is_named(tmp_path, content, expected):
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)

    message = problems_of(environ={"FIRSTSEEN_KAFKA__SASL_PASSWORD_FILE": str(path)})

    assert (
        f"kafka.sasl_password_file: {str(path)!r} {expected} (from FIRSTSEEN_KAFKA__SASL_PASSWORD_FILE)"
        == message
    )


def test_a_secret_and_its_file_from_one_source_are_refused():
    message = problems_of(
        environ={
            **SASL,
            "FIRSTSEEN_KAFKA__SASL_PASSWORD": "a",
            "FIRSTSEEN_KAFKA__SASL_PASSWORD_FILE": "/b",
        }
    )

    assert (
        "kafka.sasl_password and kafka.sasl_password_file are both given: keep one of them"
        in message
    )


def test_a_secret_of_a_stronger_source_replaces_the_file_of_a_weaker(yaml_file):
    path = yaml_file("kafka: {sasl_password_file: /nowhere}\n")

    settings = load(
        config_file=path, environ={**SASL, "FIRSTSEEN_KAFKA__SASL_PASSWORD": "stronger"}
    )

    assert ("stronger", None) == (
        settings.kafka.sasl_password.get_secret_value(),
        settings.kafka.sasl_password_file,
    )


def test_a_secret_file_of_a_stronger_source_replaces_the_secret_of_a_weaker(yaml_file, tmp_path):
    secret = tmp_path / "password"
    secret.write_text("stronger", encoding="utf-8")
    path = yaml_file("kafka: {sasl_password: weaker}\n")

    settings = load(
        config_file=path, environ={**SASL, "FIRSTSEEN_KAFKA__SASL_PASSWORD_FILE": str(secret)}
    )

    assert "stronger" == settings.kafka.sasl_password.get_secret_value()


# --- descriptions


def test_describe_has_a_row_for_every_setting_in_order():
    assert [spec.key for spec in Settings.specs()] == [row.key for row in Settings().describe()]


def test_described_values_read_back_as_the_same_settings():
    given = {
        "FIRSTSEEN_TOPICS__INPUTS": "a,b",
        "FIRSTSEEN_DEAD_LETTERS__MAX_RATIO": "null",
        "FIRSTSEEN_RULES__MATCH_INDEX": "false",
        "FIRSTSEEN_STATE__BLOCK_CACHE_BYTES": "128MiB",
    }
    settings = load(environ=given)

    again = load(environ={row.env: row.value for row in settings.describe()})
    assert settings.model_dump() == again.model_dump()


def test_a_default_is_written_as_it_would_be_given():
    specs = {spec.key: spec for spec in Settings.specs()}

    assert ("15s", "2MiB", "null", "logs-endpoint.events.library", "true", "") == tuple(
        specs[key].default
        for key in (
            "kafka.session_timeout",
            "kafka.message_max_bytes",
            "topics.replication",
            "topics.inputs",
            "web.enabled",
            "rules.paths",
        )
    )


def test_a_type_is_named_for_people():
    specs = {spec.key: spec.type for spec in Settings.specs()}

    assert {
        "kafka.sasl_mechanism": "PLAIN · SCRAM-SHA-256 · SCRAM-SHA-512 or null",
        "kafka.sasl_password": "secret or null",
        "topics.inputs": "list of names",
        "rules.paths": "list of paths",
        "kafka.session_timeout": "duration",
        "kafka.message_max_bytes": "size",
        "dead_letters.max_ratio": "number or null",
        "web.enabled": "true or false",
    }.items() <= specs.items()


def test_every_setting_says_what_it_means():
    assert [] == [spec.key for spec in Settings.specs() if not spec.description.endswith(".")]


def test_changelogs_are_named_after_the_group():
    settings = load(overrides={"kafka.group_id": "soc"})

    assert ("soc-first-seen-changelog", "soc-quota-changelog") == (
        settings.first_seen_changelog,
        settings.quota_changelog,
    )


def test_asking_for_a_setting_that_does_not_exist_is_a_key_error():
    with pytest.raises(KeyError):
        Settings().value("kafka.nope")


def test_rules_have_learning_periods_of_their_own():
    settings = Settings.load(environ={"FIRSTSEEN_STATE__LEARNING_BY_RULE": "a=7d, b=c=0s"})

    assert {"a": timedelta(days=7), "b=c": timedelta(0)} == settings.state.learning_periods


@pytest.mark.parametrize("value", ["7d", "=7d", "rule=", "rule=soon"])
def test_a_learning_period_names_its_rule_and_its_length(value: str):
    with pytest.raises(SettingsError, match=r"state\.learning_by_rule"):
        Settings.load(environ={"FIRSTSEEN_STATE__LEARNING_BY_RULE": value})


# Beyond each of these a worker starts, and then cannot work: Kafka's protocol and RocksDB have no
# room for the number, or nothing is ever acknowledged in time.
@pytest.mark.parametrize(
    ("name", "outside", "inside"),
    [
        ("kafka.linger", "5001ms", "5s"),
        ("kafka.session_timeout", "25d", "80s"),
        ("kafka.rebalance_timeout", "25d", "24d"),
        ("kafka.rebalance_timeout", "999ms", "1s"),
        ("kafka.max_poll_interval", "25d", "24d"),
        ("kafka.request_timeout", "25d", "24d"),
        ("kafka.delivery_timeout", "25d", "24d"),
        ("kafka.delivery_timeout", "999ms", "1s"),
        ("stream.event_deadline", "999ms", "1s"),
        ("stream.max_values", 2**31, 2**31 - 1),
        ("state.forwarded_entries", 2**31, 2**31 - 1),
        ("state.block_cache_bytes", (1 << 40) + 1, "1024GiB"),
        ("state.write_buffer_bytes", (1 << 40) + 1, "1024GiB"),
    ],
)
def test_a_value_with_which_no_worker_works_is_refused(name, outside, inside):
    with pytest.raises(SettingsError, match=f"{name}: .* must be (less|greater) than or equal to"):
        Settings.load(None, {name: outside}, {})

    Settings.load(None, {name: inside}, {})
