"""Reads a field of an event, however the event spells it.

A field is a dotted path. An event may nest objects, use dotted keys, have arrays and arrays of
objects anywhere, and mix all of these: as in Elasticsearch, all values at a path form one bag. The
compiled matchers read fields by type; this module is for the few fields that the engine itself
needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pipeline.kql.fields import as_dict, scalar_reader
from pipeline.types import Event


def scalars_at(event: Event, path: str) -> list[Any]:
    """Return the values at a path; null and objects do not count as values."""
    found = scalar_reader(path)(as_dict(event))
    if found is None:
        return []
    return found if type(found) is list else [found]


def text_at(event: Event, path: str) -> str | None:
    """Return the text at a path; None if there is no value, another type or several values."""
    value = scalar_reader(path)(as_dict(event))
    return value if type(value) is str else None


class FieldsReader:
    """Reads many fields of an event in one pass.

    Nearly all events consist of nested objects that hold scalars and arrays of scalars. Any other
    event is read field by field.

    Args:
        paths: the fields.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = tuple(paths)
        self._root: dict[str, _Step] = {}
        for path in self._paths:
            *above, last = path.split(".")
            steps = self._root
            for name in above:
                steps = steps.setdefault(name, _Step({})).below
            steps[last] = steps.get(last, _Step({}))._replace(path=path)

    def read(self, event: Event) -> Mapping[str, list[Any]]:
        """Return the `scalars_at` of each field that has any."""
        found: dict[str, list[Any]] = {}
        if _gather(as_dict(event), self._root, found):
            return found
        return {path: values for path in self._paths if (values := scalars_at(event, path))}


class _Step(NamedTuple):
    """A key on the path to one or more fields.

    Attributes:
        below: the next keys.
        path: the field that ends here, if one does.
    """

    below: dict[str, _Step]
    path: str | None = None


def _gather(here: Event, steps: Mapping[str, _Step], found: dict[str, list[Any]]) -> bool:
    """Collect the values of fields; return False if there may be more of them."""
    for key, value in here.items():
        step = steps.get(key)
        if step is None:
            if "." in key and key.split(".", 1)[0] in steps:
                return False
            continue
        kind = type(value)
        if kind is dict:
            if step.below and not _gather(value, step.below, found):
                return False
        elif kind is list:
            if any(type(each) is dict or type(each) is list for each in value):
                return False
            several = [each for each in value if each is not None]
            if several and step.path is not None:
                found[step.path] = several
        elif step.path is not None and value is not None:
            found[step.path] = [value]
    return True
