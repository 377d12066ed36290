"""firstseen: Elastic's new_terms rules on a Kafka stream."""

from __future__ import annotations

__version__ = "0.1.0"
