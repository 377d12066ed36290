"""The JSON texts of a value: all that a writer is free to choose."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from hypothesis import strategies as st

_SHORT = {'"': '\\"', "\\": "\\\\", "/": "\\/", "\n": "\\n", "\t": "\\t", "\b": "\\b"}
_SPACES = ("", "", "", " ", "\t", "\n ", "\r\n")


def json_texts(value: Any) -> st.SearchStrategy[str]:
    """JSON texts of a value; the simplest one is compact and without needless escapes."""
    return st.integers(0, 2**32).map(lambda seed: _Writer(seed).text(value))


def strings(text: str) -> st.SearchStrategy[str]:
    """JSON strings that mean this text."""
    return st.integers(0, 2**32).map(lambda seed: _Writer(seed).string(text))


class _Writer:
    """One writer's habits. They are drawn at once: a draw for each character would take minutes."""

    def __init__(self, seed: int) -> None:
        self._rng = Random(seed)
        self._escapes = self._rng.choice([0.0, 0.05, 0.3, 1.0]) if seed else 0.0
        self._spaced = bool(seed) and self._rng.random() < 0.5

    def text(self, value: Any) -> str:
        if isinstance(value, str):
            text = self.string(value)
        elif isinstance(value, bool) or value is None:
            text = json.dumps(value)
        elif isinstance(value, int | float):
            text = self._number(value)
        elif isinstance(value, dict):
            entries = [
                f"{self._space()}{self.string(key)}{self._space()}:{self.text(each)}"
                for key, each in value.items()
            ]
            text = "{" + (",".join(entries) or self._space()) + "}"
        else:
            text = "[" + (",".join(map(self.text, value)) or self._space()) + "]"
        return self._space() + text + self._space()

    def string(self, text: str) -> str:
        return '"' + "".join(map(self._character, text)) + '"'

    def _space(self) -> str:
        return self._rng.choice(_SPACES) if self._spaced else ""

    def _character(self, character: str) -> str:
        if self._rng.random() < self._escapes:
            return self._escape(character)
        if character in _SHORT and (character in '"\\' or self._rng.random() < 0.5):
            return _SHORT[character]
        is_plain = character >= " " and not "\ud800" <= character <= "\udfff"
        return character if is_plain else self._escape(character)

    def _escape(self, character: str) -> str:
        units = character.encode("utf-16-be", "surrogatepass").hex()
        spelled = (units[i : i + 4] for i in range(0, len(units), 4))
        return "".join("\\u" + self._rng.choice([unit, unit.upper()]) for unit in spelled)

    def _number(self, number: float) -> str:
        text = json.dumps(number)
        choices = [text, text, text.replace("e", "E")]
        if isinstance(number, float) and number.is_integer() and abs(number) < 1e17:
            choices += [f"{int(number)}.0", f"{int(number)}.00e0", f"{int(number)}0E-1"]
        return self._rng.choice(choices) if self._escapes or self._spaced else text
