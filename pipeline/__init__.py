"""firstseen: Elastic's new_terms rules on a Kafka stream."""

from __future__ import annotations

from importlib import import_module

__version__ = "0.1.0"

__all__ = ["FieldTypesError", "QueryError", "__version__", "compile_query"]

_MODULES = {
    "FieldTypesError": "pipeline.errors",
    "QueryError": "pipeline.errors",
    "compile_query": "pipeline.kql.compiler",
}

TYPE_CHECKING = False  # as in `typing`, whose import takes as long as all else here
if TYPE_CHECKING:
    from pipeline.errors import FieldTypesError, QueryError
    from pipeline.kql.compiler import compile_query
else:
    # A type checker must not see this: to it, every name would exist.
    def __getattr__(name: str) -> object:
        # Every command imports this package first. Most of them do not need the compiler, and none
        # of them can deal with Ctrl-C before its own code runs.
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found: object = getattr(import_module(_MODULES[name]), name)
        return found


def __dir__() -> list[str]:
    return [*globals(), *_MODULES]
