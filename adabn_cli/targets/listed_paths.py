"""Rows of a list or manifest, a path and perhaps a label each, as pictures. Opens none."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from adabn_cli.errors import TargetError
from adabn_cli.printable import one_line, valid_text
from adabn_cli.targets.source import Picture
from adabn_cli.targets.videos import SUFFIXES, frames_of


@dataclass(frozen=True)
class Row:
    """A path as it was written, its label where it has one, and where that stands ("line 7")."""

    place: str
    path: str
    label: str | None = None


def pictures_of(rows: Iterable[Row], folder: Path, where: str) -> list[Picture]:
    """A picture for each row; relative paths are from `folder`.

    Raises TargetError, with the place, for an empty path and one that is there twice.
    """
    found: dict[str, Row] = {}
    pictures = []
    for row in rows:
        if not row.path.strip() or "\0" in row.path:
            raise TargetError(f"{row.place}: no path.", where=where, hint="Write or remove it.")
        written = _as_written_here(row.path, folder)
        name = valid_text(posixpath.normpath(written))
        other = found.setdefault(name, row)
        if other is not row:
            raise TargetError(
                f"{row.place}: {one_line(name)} is listed at {other.place} too.",
                where=where,
                hint="List every picture once: it would count twice in the statistics.",
            )
        file, label = folder / written, row.label or None
        if file.suffix.lower() in SUFFIXES and file.is_file():
            pictures += frames_of(name, file, label)
        else:
            pictures.append(Picture(name, partial(_open, file, row.place), label))
    return pictures


def _as_written_here(path: str, folder: Path) -> str:
    r"""The path with `/` for the `\` of a list that was written on Windows."""
    if "\\" in path and not (folder / path).exists():
        return path.replace("\\", "/")
    return path


def _open(file: Path, place: str) -> BinaryIO:
    try:
        return file.open("rb")
    except OSError as error:
        raise ValueError(f"{(error.strerror or str(error)).lower()} ({place})") from error
