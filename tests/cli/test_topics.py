"""firstseen topics, as far as it goes without a broker."""

from __future__ import annotations

import yaml


def test_our_topics_are_rendered_for_strimzi(run):
    result = run("topics", "render", "--cluster", "mine", "--set", "topics.replication=1")

    topics = {topic["metadata"]["name"]: topic for topic in yaml.safe_load_all(result.stdout)}
    assert result.exit_code == 0
    assert "firstseen-alerts" in topics
    assert "logs-endpoint.events.library" not in topics
    assert topics["firstseen-alerts"]["metadata"]["labels"] == {"strimzi.io/cluster": "mine"}
    assert topics["firstseen-alerts"]["spec"]["replicas"] == 1


def test_wrong_topic_files_are_a_configuration_error(run, tmp_path):
    (tmp_path / "x.yml").write_text("role: nonsense\n")
    result = run("topics", "render", "--directory", tmp_path)

    assert result.exit_code == 3
    assert "x.yml" in result.stderr
