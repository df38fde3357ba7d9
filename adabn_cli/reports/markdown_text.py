"""Text and tables as GitHub-flavoured Markdown that stays text. Knows no record."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from adabn_cli.text import one_line

_MARKS = re.compile(r"([\\`*_{}\[\]|~$#]|<(?=[A-Za-z/!?]))")
_REFERENCES = re.compile(r"(?i)(?<=[@#])(?=\w)|(?<=www)(?=\.)|(?<=:)(?=//)")
_NOT_IN_A_SPAN = re.compile(r"[`|]|^\s|\s$|^$")


def cut(text: str, most: int) -> str:
    """The text on one line, its middle left out where it is longer than `most`.

    Ends are kept: of a path they say which file it was.
    """
    line = one_line(text)
    if len(line) <= most:
        return line
    head = most // 2
    return f"{line[:head]}…{line[head + 1 - most :]}"


def prose(text: str, most: int = 500) -> str:
    """A sentence in which no name can become markup, a link or a mention."""
    escaped = _MARKS.sub(r"\\\1", cut(text, most).replace("&", "&amp;"))
    # Mentions are looked for in the finished page, where an escaped @ is an @ again: part them.
    return _REFERENCES.sub("&#8203;", escaped)


def name(text: str, most: int = 80) -> str:
    """A name as code, where nothing is markup, in tables too.

    A span cannot hold a backtick beside its own, nor a table's cell a pipe after a backslash, so
    names with those are written out as entities.
    """
    line = cut(text, most)
    if not _NOT_IN_A_SPAN.search(line):
        return f"`{line}`"
    letters = (
        letter if letter.isalnum() or letter == " " else f"&#{ord(letter)};" for letter in line
    )
    return f"<code>{''.join(letters)}</code>"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are figures."""
    lines = [" | ".join(columns), " | ".join([":--", *["--:"] * (len(columns) - 1)])]
    lines += [" | ".join(row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def folded(summary: str, text: str) -> str:
    """A part that opens on a click."""
    return f"<details><summary>{summary}</summary>\n\n{text}\n\n</details>"
