"""What may be written to a terminal.

The values in events are written by whoever runs a program on a host. An escape sequence in a file
name must not clear an analyst's screen, or change what it shows.
"""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Return the text with everything invisible written out: ``\x1b``, ``\u202e``, ``\n``.

    This covers control characters (C0, C1, DEL), line and paragraph separators, characters that
    change the direction of text or have no width, private and unassigned characters, and lone
    surrogates. A backslash stays as it is, so that Windows paths remain readable. The result is for
    people to read, and does not show whether ``\x1b`` was one character or four.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def printable_lines(text: str) -> str:
    """Return the text like `printable`, but keep its line breaks and tabs."""
    return "\n".join(
        "\t".join(printable(part) for part in line.split("\t")) for line in text.split("\n")
    )


def printable_json(text: str) -> str:
    """Return JSON text with the same meaning, but with every invisible character escaped.

    JSON text can contain only characters above the C0 controls unescaped, and only in strings.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t\r" else _json_escape(c) for c in text)


def _escape(char: str) -> str:
    # ascii(), not repr(), which depends on what Python considers printable.
    return ascii(char)[1:-1]


def _json_escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))
