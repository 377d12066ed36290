from __future__ import annotations

STYLE = """
extends: default
rules:
  document-start: disable
  line-length: disable  # PromQL and descriptions do not get clearer by being broken
  comments: {min-spaces-from-content: 1}
  truthy: {allowed-values: ["true", "false"]}
"""


def test_yamllint_finds_nothing(run_tool):
    done = run_tool("yamllint", "--strict", "-d", STYLE, "docker-compose.yml", "deploy", "topics")

    assert (done.returncode, done.stdout) == (0, "")
