"""Rows of a list or manifest, a path and perhaps a label each, as pictures. Opens none."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import BinaryIO

from adabn_cli.data.listing import Listing, Picture
from adabn_cli.data.readers.video import frames_of, is_video
from adabn_cli.data.tables.rows import Row, Rows, check_suffix
from adabn_cli.errors import TargetError
from adabn_cli.text import one_line, valid_text


def listing_of_rows(kind: str, found: Rows, file: Path) -> Listing:
    """The pictures that a file lists. Raises TargetError, with the line, for unusable paths."""
    for row in found.rows[:1]:
        check_suffix(row, lambda path: is_there(file.parent / path), str(file))
    return Listing(
        kind=kind,
        pictures=_pictures_of(found.rows, file.parent, str(file)),
        labels_from=f"labels in {'stdin' if file.name == '-' else one_line(file.name)}",
        one_hot=found.one_hot,
        notes=found.notes,
    )


def is_there(file: Path) -> bool:
    """Whether it is a file; a name that could be none is not."""
    return os.path.isfile(file)  # noqa: PTH113 -- Path.is_file raises for names that are too long.


def _pictures_of(rows: Iterable[Row], folder: Path, where: str) -> list[Picture]:
    """A picture for each row; relative paths are from `folder`.

    Raises TargetError, with the place, for an empty path and one that is there twice.
    """
    found: dict[str, Row] = {}
    pictures = []
    for row in rows:
        if not row.path.strip() or "\0" in row.path:
            raise TargetError(f"{row.at}: no path.", where=where, hint="Write or remove it.")
        written = _as_written_here(row.path, folder)
        name = valid_text(posixpath.normpath(written))
        other = found.setdefault(name, row)
        if other is not row:
            raise TargetError(
                f"{row.at}: {one_line(name)} is listed at {other.at} too.",
                where=where,
                hint="List every picture once: it would count twice in the statistics.",
            )
        file, label = folder / written, row.label or None
        if is_video(file) and file.is_file():
            pictures += frames_of(name, file, label)
        else:
            opening = partial(_open, file, row.at)
            pictures.append(Picture(name, opening, label=label, file=file))
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
