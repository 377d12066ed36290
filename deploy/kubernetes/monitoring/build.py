"""Write `prometheusrule.yaml`, the alerts as the Prometheus operator takes them.

    uv run python deploy/kubernetes/monitoring/build.py

Kustomize reads no file outside of its folder, so the alerts stand twice; a test compares them.
"""

from __future__ import annotations

from pathlib import Path
from textwrap import indent

DIRECTORY = Path(__file__).parent
ALERTS = DIRECTORY.parents[1] / "prometheus" / "alerts.yml"

_HEAD = """\
# Written by build.py from deploy/prometheus/alerts.yml: change that.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: firstseen
spec:
"""


def build() -> str:
    """Return the manifest; the comments that stand before the first group are left out."""
    text = ALERTS.read_text(encoding="utf-8")
    return _HEAD + indent(text[text.index("groups:") :], "  ")


if __name__ == "__main__":
    (DIRECTORY / "prometheusrule.yaml").write_text(build(), encoding="utf-8")
