"""Names as text that a terminal shows and does not obey. Opens no file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping


def one_line(text: str) -> str:
    r"""The text with every character that is not printable escaped: a newline becomes `\n`.

    So a file's name can neither colour, move nor turn around what is written after it.
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def valid_text(name: str | os.PathLike[str]) -> str:
    """The name as valid Unicode: bytes on disk that are no UTF-8 are escaped.

    Python reads them as lone surrogates, which no UTF-8 file can be written with.
    """
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def first_few(names: Iterable[str], most: int = 5) -> str:
    """The first names on one line, and how many more there are."""
    shown = [one_line(name) for name in names]
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more


def count(n: int, noun: str, plural: str | None = None) -> str:
    """ "1 picture", "1,797 pictures"."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def counted(by_suffix: Mapping[str, int]) -> str:
    """ "118 .heic, 2 .mov, 1 without suffix": most frequent first."""
    ordered = sorted(by_suffix.items(), key=lambda item: (-item[1], item[0]))
    return first_few([f"{n:,} {suffix or 'without suffix'}" for suffix, n in ordered], 8)
