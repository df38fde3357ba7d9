"""Labels of pictures from a table (CSV, Parquet) or a list of `path class`. Opens no picture."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from adabn_cli.data.tables.class_list import rows_of_lines
from adabn_cli.data.tables.columns import (
    BY_HEADER,
    HINT,
    Columns,
    has_fraction,
    labelled_rows,
)
from adabn_cli.data.tables.csv_table import csv_table, is_table
from adabn_cli.data.tables.rows import Row, Rows, no_picture_of, same_path
from adabn_cli.data.tables.table_file import read_table
from adabn_cli.data.tables.text_file import read_text_or_latin
from adabn_cli.data.truth.classes import Classes, is_number
from adabn_cli.data.truth.one_hot import assign_columns
from adabn_cli.errors import TargetError
from adabn_cli.text import first_few, one_line

_HEADER = f"{HINT}; paths are relative to the target."
_LISTS = (".txt", ".lst")


@dataclass(frozen=True)
class FileLabels:
    """The class of each picture, -1 where the file has none, and what to tell of the rest.

    `classes` are the names that the indices refer to, where they are known. `counted` is whether
    any label was a number.
    """

    indices: tuple[int, ...]
    notes: tuple[str, ...]
    classes: tuple[str, ...] | None
    counted: bool


def require_labels_file(mode: str) -> None:
    """Raises TargetError where `mode` is not a file, and not "auto" or "none" either."""
    if mode not in ("auto", "none") and not Path(mode).is_file():
        raise TargetError(
            "There is no such file of labels.",
            where=mode,
            hint="--labels takes auto, none or a CSV file with the header path,label.",
        )


def read_labels_file(
    file: Path,
    pictures: Sequence[str],
    listed: Collection[str],
    classes: Classes,
    columns: Columns = BY_HEADER,
) -> FileLabels:
    """A class for every picture that the file names; `listed` are all that the target has.

    Raises TargetError, with the line, for a label that is no class, for two labels of one picture,
    and where the file names no picture of the target at all.
    """
    require_labels_file(str(file))
    known, wanted = {*listed, *pictures}, set(pictures)
    found = _read(file, known, columns)
    named = [replace(row, path=same_path(row.path, known)) for row in found.rows]
    rows = [row for row in named if row.path in wanted and row.label is not None]
    if pictures and not rows:
        raise _no_picture(file, pictures[0], found, named, known)
    index, notes, names = _meaning(rows, found, classes, str(file))
    try:
        labels = _indices(rows, index)
    except ValueError as error:
        numbers = (int(row.label) for row in rows if row.label and is_number(row.label))
        raise _unusable(str(error), file, classes.counted_from_one(numbers)) from error
    # Pictures that are there were not drawn or not readable, which is told elsewhere.
    absent = [row.path for row in named if row.path not in known]
    if absent:
        notes += (f"{len(absent)} labels are for pictures not there: {first_few(absent)}",)
    unknown = len(pictures) - len(labels)
    if unknown:
        notes += (f"{unknown} of {len(pictures)} pictures have no label in {file.name}",)
    indices = tuple(labels.get(picture, -1) for picture in pictures)
    counted = any(classes.counts(row.label or "") for row in rows)
    return FileLabels(indices, (*found.notes, *notes), names, counted)


def _read(file: Path, known: Set[str], columns: Columns) -> Rows:
    try:
        if file.suffix.lower() not in _LISTS:
            return labelled_rows(read_table(file, columns), columns)
        text, notes = read_text_or_latin(file)
        if is_table(text, columns):
            return labelled_rows(csv_table(text, columns, notes), columns)
        lines = enumerate(text.splitlines(), start=1)
        told = [(f"line {number}", line) for number, line in lines if line.strip()]
        rows = rows_of_lines(told, lambda path: same_path(columns.whole(path), known) in known)
    except ValueError as error:
        raise _unusable(str(error), file) from error
    whole = tuple(replace(row, path=columns.whole(row.path)) for row in rows)
    return Rows(rows=whole, unlabeled="no class after the paths, as in img/a.png 2", notes=notes)


def _meaning(
    rows: Sequence[Row], found: Rows, classes: Classes, where: str
) -> tuple[Callable[[str], int], tuple[str, ...], tuple[str, ...] | None]:
    """The class of a label, what to tell of that, and the names of the classes."""
    labels = [row.label or "" for row in rows]
    if found.one_hot:
        assigned = assign_columns(found.one_hot, labels, classes, where, where)
        if assigned.origin is None:
            raise _unusable(assigned.notes[0].removeprefix("unlabeled: "), Path(where))
        return assigned.index.__getitem__, assigned.notes, assigned.classes
    require_whole(labels, classes, where)
    return classes.index, (), classes.names.names if classes.names is not None else None


def require_whole(labels: Iterable[str], classes: Classes, where: str) -> None:
    """Raises TargetError where a label is a number with a fraction, and the name of no class."""
    strange = [label for label in labels if has_fraction(label) and not classes.knows(label)]
    if strange:
        raise TargetError(
            f"A label is no whole number: {first_few(strange, 3)}.",
            where=where,
            hint="Give class indices or names; to numbers that are not classes, --task regression.",
        )


def _indices(rows: Sequence[Row], index: Callable[[str], int]) -> dict[str, int]:
    """The class of every picture. Raises ValueError, with the line, where some have none or two."""
    labels: dict[str, int] = {}
    strange = []
    for row in rows:
        try:
            label = index(row.label or "")
        except ValueError as error:
            strange.append(f"{row.at}: {error}")
        else:
            if labels.setdefault(row.path, label) != label:
                raise ValueError(f"{row.at}: {one_line(row.path)} has another label further up")
    if strange:
        more = f", and {len(strange) - 1} more such labels" if len(strange) > 1 else ""
        raise ValueError(f"{strange[0]}{more}")
    return labels


def _no_picture(
    file: Path, picture: str, found: Rows, named: Sequence[Row], known: Set[str]
) -> TargetError:
    """What is wrong with a file of which no row labels a picture."""
    if named and all(row.label is None for row in named):
        return _unusable(found.unlabeled or "no row has a label", file)
    path = named[0].path if named else ""
    return no_picture_of(known, picture, path, str(file), _HEADER)


def _unusable(reason: str, file: Path, cure: str = "") -> TargetError:
    return TargetError(
        f"The labels cannot be used: {reason}.", where=str(file), hint=_HEADER + cure
    )
