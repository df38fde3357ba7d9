"""Labels from a CSV file with the header `path,label`. Opens no picture."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from adabn_cli.errors import TargetError
from adabn_cli.printable import first_few, one_line
from adabn_cli.targets.class_map import csv_table, read_text
from adabn_cli.targets.class_names import Classes

_HEADER = "Name the columns path and label in the header; paths are relative to the target."


@dataclass(frozen=True)
class FileLabels:
    """The class of each picture, -1 where the file has none, and what to tell of the rest."""

    indices: tuple[int, ...]
    notes: tuple[str, ...]


def read_labels_file(
    file: Path, pictures: Sequence[str], listed: Collection[str], classes: Classes
) -> FileLabels:
    """A class for every picture that the file names; `listed` are all that the target has.

    Raises TargetError, with the line, for a label that is no class, for two labels of one picture,
    and where the file names no picture of the target at all.
    """
    try:
        labels, strays = _parse(read_text(file), set(pictures), classes)
    except ValueError as error:
        raise TargetError(
            f"The labels cannot be used: {error}.", where=str(file), hint=_HEADER
        ) from error
    if pictures and not labels:
        raise TargetError(
            f"The file labels no picture of the target, such as {one_line(pictures[0])}.",
            where=str(file),
            hint=_HEADER,
        )
    notes = []
    # Pictures that are there were not drawn or not readable, which is told elsewhere.
    absent = [path for path in strays if path not in listed]
    if absent:
        notes.append(f"{len(absent)} labels are for pictures not there: {first_few(absent)}")
    unknown = len(pictures) - len(labels)
    if unknown:
        notes.append(f"{unknown} of {len(pictures)} pictures have no label in {file.name}")
    return FileLabels(tuple(labels.get(picture, -1) for picture in pictures), tuple(notes))


def _parse(text: str, pictures: set[str], classes: Classes) -> tuple[dict[str, int], list[str]]:
    """Labels of the pictures, and paths that are none of them."""
    header, rows = csv_table(text)
    columns = [name.lower() for name in header]
    if "path" not in columns or "label" not in columns:
        raise ValueError(f"line 1: no columns path and label in {one_line(','.join(header))!r}")
    at_path, at_label = columns.index("path"), columns.index("label")
    labels: dict[str, int] = {}
    strays = []
    for line, row in rows:
        path = same_path(row[at_path], pictures)
        if path not in pictures:
            strays.append(path)
        elif row[at_label]:
            index = _index(row[at_label], classes, line)
            if labels.setdefault(path, index) != index:
                raise ValueError(f"line {line}: {one_line(path)} has another label further up")
    return labels, strays


def same_path(path: str, pictures: set[str]) -> str:
    """The path as pictures are named: no leading `./`, and `/` for a Windows `\\`."""
    if path in pictures:
        return path
    return posixpath.normpath(path.replace("\\", "/"))


def _index(label: str, classes: Classes, line: int) -> int:
    try:
        return classes.index(label)
    except ValueError as error:
        raise ValueError(f"line {line}: {error}") from error
