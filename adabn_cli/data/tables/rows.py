"""What a table or list says of its pictures: a row for each, a path and perhaps a label."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Set
from dataclasses import dataclass

from adabn_cli.data.picture_formats import picture_suffixes
from adabn_cli.errors import TargetError
from adabn_cli.text import one_line


@dataclass(frozen=True)
class Row:
    """Where it stands ("line 7"), a path as it was written, and its label if it has one."""

    at: str
    path: str
    label: str | None = None


@dataclass(frozen=True, kw_only=True)
class Rows:
    """All rows of a list or table, and what to tell of them.

    `one_hot` are the columns that were read as one label, in their order; `unlabeled` says why no
    row has a label.
    """

    rows: tuple[Row, ...]
    one_hot: tuple[str, ...] = ()
    unlabeled: str = ""
    notes: tuple[str, ...] = ()


def same_path(path: str, pictures: Set[str]) -> str:
    """The path as pictures are named: no leading `./`, and `/` for a Windows `\\`."""
    if path in pictures:
        return path
    return posixpath.normpath(path.replace("\\", "/"))


def check_suffix(row: Row, is_picture: Callable[[str], bool], where: str) -> None:
    """Raises TargetError if the row's path is that of a picture but for its suffix."""
    if suffix := _missing_suffix(row.path, is_picture):
        raise TargetError(
            f"{row.at}: {one_line(row.path)} is not a file, {one_line(row.path)}{suffix} is.",
            where=where,
            hint=f"Give --path-suffix {suffix}.",
        )


def no_picture_of(target: Set[str], first: str, path: str, where: str, hint: str) -> TargetError:
    """The error of a file that labels no picture of the target, such as the `first`.

    `path` is that of the file's first row, "" if it has none.
    """
    suffix = _missing_suffix(path, target.__contains__)
    return TargetError(
        f"The file labels no picture of the target, such as {one_line(first)}"
        + (f"; its first row is of {one_line(path)}." if path else "; it has no row."),
        where=where,
        hint=f"Give --path-suffix {suffix}." if suffix else hint,
    )


def _missing_suffix(path: str, is_picture: Callable[[str], bool]) -> str | None:
    """The suffix with which the path is that of a picture, if it is none without."""
    if not path or "\0" in path or is_picture(path):
        return None
    suffixes = sorted(picture_suffixes())
    endings = [ending for suffix in suffixes for ending in (suffix, suffix.upper())]
    return next((ending for ending in endings if is_picture(path + ending)), None)
