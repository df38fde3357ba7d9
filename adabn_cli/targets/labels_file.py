"""Labels from a CSV file with the header `path,label`. Opens no picture."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from adabn_cli.errors import TargetError
from adabn_cli.printable import first_few, one_line
from adabn_cli.targets.class_map import csv_table, read_text
from adabn_cli.targets.class_names import Classes, is_number

_HEADER = "Name the columns path and label in the header; paths are relative to the target."


@dataclass(frozen=True)
class FileLabels:
    """The class of each picture, -1 where the file has none, and what to tell of the rest.

    `counted` is whether any of them was a number.
    """

    indices: tuple[int, ...]
    notes: tuple[str, ...]
    counted: bool


def read_labels_file(
    file: Path, pictures: Sequence[str], listed: Collection[str], classes: Classes
) -> FileLabels:
    """A class for every picture that the file names; `listed` are all that the target has.

    Raises TargetError, with the line, for a label that is no class, for two labels of one picture,
    and where the file names no picture of the target at all.
    """
    from_one = ""
    try:
        rows, strays = _parse(read_text(file), set(pictures))
        from_one = classes.counted_from_one(int(row.label) for row in rows if is_number(row.label))
        labels = _indices(rows, classes)
    except ValueError as error:
        raise TargetError(
            f"The labels cannot be used: {error}.", where=str(file), hint=_HEADER + from_one
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
    indices = tuple(labels.get(picture, -1) for picture in pictures)
    counted = any(classes.counts(row.label) for row in rows)
    return FileLabels(indices, tuple(notes), counted)


class _Row(NamedTuple):
    line: int
    picture: str
    label: str


def _parse(text: str, pictures: set[str]) -> tuple[list[_Row], list[str]]:
    """Rows that label a picture, and paths that are none of them."""
    header, rows = csv_table(text)
    columns = [name.lower() for name in header]
    if "path" not in columns or "label" not in columns:
        raise ValueError(f"line 1: no columns path and label in {one_line(','.join(header))!r}")
    at_path, at_label = columns.index("path"), columns.index("label")
    labels: list[_Row] = []
    strays = []
    for line, row in rows:
        path = same_path(row[at_path], pictures)
        if path not in pictures:
            strays.append(path)
        elif row[at_label]:
            labels.append(_Row(line, path, row[at_label]))
    return labels, strays


def same_path(path: str, pictures: set[str]) -> str:
    """The path as pictures are named: no leading `./`, and `/` for a Windows `\\`."""
    if path in pictures:
        return path
    return posixpath.normpath(path.replace("\\", "/"))


def _indices(rows: Sequence[_Row], classes: Classes) -> dict[str, int]:
    """The class of every picture. Raises ValueError, with the line, where some have none or two."""
    indices: dict[str, int] = {}
    strange = []
    for line, picture, label in rows:
        try:
            index = classes.index(label)
        except ValueError as error:
            strange.append(f"line {line}: {error}")
        else:
            if indices.setdefault(picture, index) != index:
                raise ValueError(f"line {line}: {one_line(picture)} has another label further up")
    if strange:
        more = f", and {len(strange) - 1} more such labels" if len(strange) > 1 else ""
        raise ValueError(f"{strange[0]}{more}")
    return indices
