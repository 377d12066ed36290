"""Topic files: read whole, checked, named by the settings."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from pipeline.config import Settings
from pipeline.errors import EXIT_CONFIG, TopicSpecError
from pipeline.kafka.topics import load_topic_specs, topics_directory
from pipeline.kafka.topics.spec import CHANGELOG_SOURCES, ROLES


def settings(**overrides):
    return Settings.load(
        None, {name.replace("__", "."): value for name, value in overrides.items()}, {}
    )


def by_role(specs):
    return {spec.role: spec for spec in specs}


@pytest.fixture
def folder(tmp_path):
    """A copy of the packaged files, to break."""
    return Path(shutil.copytree(topics_directory(), tmp_path / "topics"))


def edit(path, **changes):
    data = yaml.safe_load(path.read_text(encoding="utf-8")) | changes
    data = {name: value for name, value in data.items() if value is not ...}
    path.write_text(yaml.safe_dump(data), encoding="utf-8")


def problems_of(folder, **overrides):
    with pytest.raises(TopicSpecError) as caught:
        load_topic_specs(folder, settings(**overrides))
    return str(caught.value).splitlines()


# --- the packaged files


def test_the_packaged_files_are_valid_and_have_every_role():
    assert list(ROLES) == [spec.role for spec in load_topic_specs(None, Settings())]


def test_a_file_names_the_topic_that_the_settings_name_by_default():
    files = [
        yaml.safe_load(path.read_text(encoding="utf-8"))
        for path in topics_directory().glob("*.yml")
    ]
    named = {data["role"]: data["name"] for data in files if "role" in data}

    assert {spec.role: spec.name for spec in load_topic_specs(None, Settings())} == named


def test_our_topics_survive_the_loss_of_a_broker():
    ours = [spec for spec in load_topic_specs(None, Settings()) if not spec.external]

    assert {(3, "2")} == {(spec.replication, spec.configs["min.insync.replicas"]) for spec in ours}


def test_our_topics_take_the_largest_record_that_we_write():
    limits = {
        int(s.configs["max.message.bytes"])
        for s in load_topic_specs(None, Settings())
        if not s.external
    }

    assert min(limits) > Settings().kafka.message_max_bytes


def test_every_topic_is_to_be_stamped_by_the_broker():
    """#createtime-and-logappendtime: the input, which is only checked, and our own."""
    specs = load_topic_specs(topics_directory(), Settings())

    assert {"LogAppendTime"} == {spec.configs["message.timestamp.type"] for spec in specs}


def test_changelogs_are_compacted_and_fit_their_source():
    specs = by_role(load_topic_specs(None, Settings()))

    for changelog, source in CHANGELOG_SOURCES.items():
        assert ("compact", specs[source].partitions) == (
            specs[changelog].configs["cleanup.policy"],
            specs[changelog].partitions,
        )


def test_dead_letters_are_kept_longest_of_what_must_be_written_back():
    day = 86_400_000
    specs = by_role(load_topic_specs(None, Settings()))

    assert {
        "observations": 3,
        "new_terms": 7,
        "alerts": 30,
        "overflow": 14,
        "dead_letters": 28,
    } == {
        role: int(specs[role].configs["retention.ms"]) // day
        for role in ("observations", "new_terms", "alerts", "overflow", "dead_letters")
    }


# --- what the settings decide


def test_the_settings_name_the_topics():
    specs = by_role(
        load_topic_specs(None, settings(topics__alerts="soc-alerts", kafka__group_id="soc"))
    )

    assert ("soc-alerts", "soc-first-seen-changelog") == (
        specs["alerts"].name,
        specs["first_seen_changelog"].name,
    )


def test_every_input_gets_the_spec_of_an_input():
    specs = load_topic_specs(None, settings(topics__inputs=["a", "b"]))

    assert [("a", True, None), ("b", True, None)] == [
        (spec.name, spec.external, spec.replication) for spec in specs if spec.role == "input"
    ]


@pytest.mark.parametrize(("replication", "insync"), [(1, "1"), (2, "1"), (3, "2"), (5, "2")])
def test_a_small_cluster_has_fewer_copies_and_needs_fewer_in_sync(replication, insync):
    specs = load_topic_specs(None, settings(topics__replication=replication))

    assert {(replication, insync)} == {
        (spec.replication, spec.configs["min.insync.replicas"])
        for spec in specs
        if not spec.external
    }


def test_the_folder_of_the_settings_is_read(folder):
    edit(folder / "firstseen-alerts.yml", partitions=3)

    specs = by_role(load_topic_specs(None, settings(topics__directory=folder)))

    assert 3 == specs["alerts"].partitions


def test_a_file_overrides_the_defaults(folder):
    edit(
        folder / "firstseen-alerts.yml",
        replication=2,
        configs={"min.insync.replicas": 1, "preallocate": True},
    )

    spec = by_role(load_topic_specs(folder, Settings()))["alerts"]

    assert (2, "1", "true", "2162688") == (
        spec.replication,
        spec.configs["min.insync.replicas"],
        spec.configs["preallocate"],
        spec.configs["max.message.bytes"],
    )


def test_without_defaults_there_is_one_copy(folder):
    (folder / "defaults.yml").unlink()

    assert 1 == by_role(load_topic_specs(folder, Settings()))["alerts"].replication


# --- what is refused


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"partition": 3}, "partition: no such key; did you mean partitions?"),
        ({"role": "alert"}, "role: no such role: 'alert'; did you mean alerts? (roles: "),
        ({"purpose": ...}, "purpose is missing"),
        ({"partitions": ...}, "partitions is missing"),
        ({"partitions": 0}, "partitions: 0 must be a whole number from 1 to 10000"),
        ({"partitions": True}, "partitions: True must be a whole number from 1 to 10000"),
        ({"replication": "3"}, "replication: '3' must be a whole number from 1 to 32767"),
        ({"configs": ["a"]}, "configs: must be a mapping of Kafka's topic configs to values"),
        ({"configs": {"a": None}}, "configs: must be a mapping of Kafka's topic configs to values"),
        (
            {"configs": {"min.insync.replicas": "two"}},
            "configs: min.insync.replicas: 'two' must be a whole number",
        ),
        ({"produced_by": "firstseen"}, "produced_by: must be a list of names"),
        ({"external": True}, "external: must be true for role input, and for no other"),
        ({"role": "overflow"}, "role 'overflow' has a file already"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(folder, changes, expected):
    edit(folder / "firstseen-alerts.yml", **changes)

    problems = problems_of(folder)

    assert any(line.split(".yml: ")[1].startswith(expected) for line in problems)


def test_an_input_has_no_partitions_of_ours(folder):
    edit(folder / "logs-endpoint.yml", partitions=3)

    assert [
        f"{folder}/logs-endpoint.yml: partitions and replication of an input are not ours to say"
    ] == problems_of(folder)


def test_all_files_are_checked_before_any_is_refused(folder):
    edit(folder / "firstseen-alerts.yml", partitions=0)
    edit(folder / "defaults.yml", retention=1)

    assert 2 == len(problems_of(folder))


def test_a_changelog_with_other_partitions_than_its_source_is_refused(folder):
    edit(folder / "firstseen-observations.yml", partitions=24)

    assert [
        (
            f"{folder}: firstseen-first-seen-changelog has partitions: 12, but firstseen-observations has 24: "
            "a table and its source need as many"
        )
    ] == problems_of(folder)


def test_a_changelog_that_is_not_compacted_is_refused(folder):
    edit(folder / "firstseen-quota-changelog.yml", configs={"cleanup.policy": "compact,delete"})

    assert [
        (
            f"{folder}: firstseen-quota-changelog has cleanup.policy: compact,delete; a changelog needs compact, "
            "else the table is forgotten"
        )
    ] == problems_of(folder)


def test_a_topic_with_fewer_copies_than_must_be_in_sync_is_refused(folder):
    edit(folder / "firstseen-alerts.yml", replication=1, configs={"min.insync.replicas": 2})

    (problem,) = problems_of(folder)
    assert problem.startswith(
        f"{folder}: firstseen-alerts has replication: 1, but min.insync.replicas: 2"
    )
    assert load_topic_specs(folder, settings(topics__replication=1))


def test_a_role_without_a_file_is_refused(folder):
    (folder / "firstseen-alerts.yml").unlink()

    assert [f"{folder}: no file has role 'alerts'"] == problems_of(folder)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a: [", "{path}:1: "),
        (b"role: alerts\nrole: alerts\n", "{path}:2: 'role' is given twice"),
        (b"? [a, b]\n: c\n", "{path}:1: a key must be a text"),
        (b"role: 2026-13-45\n", "{path}: cannot be read: month must be in 1..12"),
        (b"role: " + b"[" * 3000, "{path}: cannot be read: "),
        (b"- a\n", "{path}: must be a mapping of keys"),
        (b"\xff", "{path}: cannot be read: "),
    ],
)
def test_a_file_that_cannot_be_read_is_named(folder, content, expected):
    path = folder / "firstseen-alerts.yml"
    path.write_bytes(content)

    (line,) = problems_of(folder)

    assert line.startswith(expected.format(path=path))


def test_a_folder_without_topic_files_is_refused(tmp_path):
    assert [f"{tmp_path}: no topic files (*.yml) here; check topics.directory"] == problems_of(
        tmp_path
    )


def test_a_wrong_file_ends_with_the_exit_code_of_the_configuration():
    assert EXIT_CONFIG == TopicSpecError.exit_code
