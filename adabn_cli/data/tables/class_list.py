"""Lists with a class behind every path, as Caffe's and mmpretrain's: `img/a.png 2`. Opens none."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath

from adabn_cli.data.picture_formats import picture_suffixes
from adabn_cli.data.tables.rows import Row

# Behind the last tab anything may be a class, behind the last space a word; names of files hold
# spaces.
_SPLIT = re.compile(r"(?P<path>[^\t]*[^\t ])(?:\t *(?P<told>[^\t]+)| +(?P<word>\S+))")
_INDEX = re.compile("[0-9]+")


def rows_of_lines(lines: Iterable[tuple[str, str]], is_picture: Callable[[str], bool]) -> list[Row]:
    """A row for each line, a place ("line 7") and what is there; with labels if all have one.

    A last word is taken for a class only if no line as a whole is a picture: names may end in a
    number. Other words than numbers are taken only behind a picture. Raises ValueError where some
    lines have a class behind their path and some do not.
    """
    plain = [Row(place, text) for place, text in lines]
    split = [_split(row) for row in plain]
    told = [row for row in split if row.label is not None]
    whole = (row.path for row, other in zip(plain, split, strict=True) if other is not row)
    if not told or not _are_classes(told, is_picture) or any(map(is_picture, whole)):
        return plain
    if len(told) < len(plain):
        other = next(row for row in split if row.label is None)
        raise ValueError(
            f"{other.at}: no class after the path, and {told[0].at} has {told[0].label}"
        )
    return split


def _are_classes(rows: Sequence[Row], is_picture: Callable[[str], bool]) -> bool:
    """Whether two of three signs are there: numbers, paths with a picture's suffix, a picture."""
    numbers = all(_INDEX.fullmatch(row.label or "") for row in rows)
    suffixes = all(_has_suffix(row.path) for row in rows)
    return numbers + suffixes + any(is_picture(row.path) for row in rows) > 1


def _split(row: Row) -> Row:
    found = _SPLIT.fullmatch(row.path.strip())
    return Row(row.at, found["path"], found["told"] or found["word"]) if found else row


def _has_suffix(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in picture_suffixes()
