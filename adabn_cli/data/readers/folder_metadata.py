"""A folder whose `metadata.csv` or `metadata.jsonl` has labels, as Hugging Face's imagefolder.

Each lies beside or above its pictures, with the columns `file_name` (relative to it) and `label`.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping, Set
from dataclasses import replace
from pathlib import Path

from adabn_cli.data.folder_files import SkippedPicture
from adabn_cli.data.listing import Listing, Location
from adabn_cli.data.readers import folder
from adabn_cli.data.readers.reader import Reader
from adabn_cli.data.tables.columns import (
    Columns,
    Table,
    labelled_rows,
    path_column,
)
from adabn_cli.data.tables.rows import Rows, check_suffix
from adabn_cli.data.tables.table_file import read_csv
from adabn_cli.data.tables.text_file import read_text_or_latin
from adabn_cli.errors import TargetError
from adabn_cli.text import valid_text

NAMES = ("metadata.csv", "metadata.jsonl")
_COLUMN = "file_name"
_HINT = (
    "It has the columns file_name, relative to it, and label; --target-format folder ignores it."
)


def recognizes(location: Location, columns: Columns) -> bool:
    """Whether it is a folder, and such a file lies in it or in a folder in it."""
    folder = Path(str(location))
    return folder.is_dir() and any(
        (columns.path or _COLUMN) in _first_line(file) for file in _files(folder)
    )


def read(location: Location, columns: Columns) -> Listing:
    """The pictures of the folder, with the labels that its metadata gives them.

    Raises TargetError, with the line, where that cannot be understood.
    """
    root = Path(str(location))
    found, files = folder.read(root, columns), _files(root)
    if not files:
        raise TargetError(f"There is no {' or '.join(NAMES)}.", where=str(root), hint=_HINT)
    columns = replace(columns, path=columns.path or _COLUMN)
    read = {file: _rows(file, columns) for file in files}
    labels, missing = _labels(read, root, {picture.name for picture in found.pictures})
    told = files[0].name
    return replace(
        found,
        kind=f"{found.kind} with {told}",
        pictures=[replace(picture, label=labels.get(picture.name)) for picture in found.pictures],
        skipped=(*found.skipped, *missing),
        labels_from=f"labels in {told}",
        one_hot=_one_hot(read),
        notes=tuple(note for rows in read.values() for note in rows.notes),
        told_by=tuple(files),
    )


def _labels(
    read: Mapping[Path, Rows], root: Path, pictures: Set[str]
) -> tuple[dict[str, str | None], list[SkippedPicture]]:
    """The label of every picture that has a row, and rows of pictures that are not there."""
    labels: dict[str, str | None] = {}
    missing = []
    for file, found in read.items():
        prefix = valid_text(file.parent.relative_to(root))
        for row in found.rows:
            name = posixpath.normpath(posixpath.join(prefix, row.path.replace("\\", "/")))
            if name in labels:
                raise _unusable(f"{row.at}: {name} has a row further up", file)
            labels[name] = row.label
            if name in pictures:
                continue
            reason = f"no such file or directory ({file.name}, {row.at})"
            missing.append(SkippedPicture(name, reason))
            check_suffix(replace(row, path=name), pictures.__contains__, str(file))
    return labels, missing


def _one_hot(read: Mapping[Path, Rows]) -> tuple[str, ...]:
    """The one-hot columns of all files. Raises TargetError where they have different ones."""
    columns = {rows.one_hot: file for file, rows in read.items()}
    if len(columns) > 1:
        raise _unusable("its one-hot columns are not those of the others", [*columns.values()][-1])
    return next(iter(columns))


def _files(folder: Path) -> list[Path]:
    found = [*folder.iterdir(), *folder.glob("*/metadata.*")]
    return sorted(file for file in found if file.name in NAMES and file.is_file())


def _first_line(file: Path) -> str:
    with file.open(encoding="utf-8", errors="replace") as text:
        return text.readline(1 << 16).replace("\0", "")  # Which UTF-16 has between its letters.


def _rows(file: Path, columns: Columns) -> Rows:
    try:
        table = _read_json(file, columns) if file.suffix == ".jsonl" else read_csv(file, columns)
        return labelled_rows(table, columns)
    except ValueError as error:
        raise _unusable(str(error), file) from error


def _read_json(file: Path, columns: Columns) -> Table:
    """The values that are text or numbers in lines of JSON, as text."""
    text, notes = read_text_or_latin(file)
    lines = enumerate(text.splitlines(), start=1)
    objects = {f"line {number}": line for number, line in lines if line.strip()}
    records = {place: _from_json(line, place, columns) for place, line in objects.items()}
    header = tuple(dict.fromkeys(name for values in records.values() for name in values))
    path = path_column(header, columns) if records else 0
    texts = [
        (place, [_text(values.get(name)) for name in header]) for place, values in records.items()
    ]
    return Table(header=header, path=path, records=texts, notes=notes)


def _from_json(line: str, place: str, columns: Columns) -> dict[str, object]:
    try:
        values = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{place}: {error}") from error
    if not isinstance(values, dict) or not isinstance(values.get(str(columns.path)), str):
        raise ValueError(f"{place}: no text called {columns.path}")
    return values


def _text(value: object) -> str:
    """Text or a number; boxes and captions are metadata too, and no class."""
    known = isinstance(value, str | int | float) and not isinstance(value, bool)
    return str(value) if known else ""


def _unusable(reason: str, file: Path) -> TargetError:
    return TargetError(f"The metadata cannot be used: {reason}.", where=str(file), hint=_HINT)


READER = Reader(
    name="imagefolder", recognizes=recognizes, read=read, has_columns=True, has_paths=True
)
