"""What a table or list says of its pictures: a row for each, a path and perhaps a label."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Set
from dataclasses import dataclass

from adabn_cli.data.picture_formats import picture_suffixes


@dataclass(frozen=True)
class Row:
    """A path as it was written, its label where it has one, and where that stands ("line 7")."""

    place: str
    path: str
    label: str | None = None


@dataclass(frozen=True)
class Rows:
    """All rows of a list or table, and what to tell of them.

    `one_hot` are the columns that were read as one label, in their order; `unlabeled` says why no
    row has a label.
    """

    rows: tuple[Row, ...]
    one_hot: tuple[str, ...] = ()
    unlabeled: str = ""
    notes: tuple[str, ...] = ()


def missing_suffix(path: str, is_picture: Callable[[str], bool]) -> str | None:
    """The suffix with which the path is that of a picture, if it is none without."""
    if not path or "\0" in path or is_picture(path):
        return None
    suffixes = sorted(picture_suffixes())
    endings = [ending for suffix in suffixes for ending in (suffix, suffix.upper())]
    return next((ending for ending in endings if is_picture(path + ending)), None)


def same_path(path: str, pictures: Set[str]) -> str:
    """The path as pictures are named: no leading `./`, and `/` for a Windows `\\`."""
    if path in pictures:
        return path
    return posixpath.normpath(path.replace("\\", "/"))
