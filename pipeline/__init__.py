"""firstseen: Elastic's new_terms rules on a Kafka stream."""

from __future__ import annotations

from pipeline.errors import QueryError
from pipeline.kql.compiler import compile_query

__version__ = "0.1.0"

__all__ = ["QueryError", "__version__", "compile_query"]
