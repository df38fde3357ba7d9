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
from adabn_cli.data.listing import Listing, Location, listing_of
from adabn_cli.data.readers import folder as picture_folder
from adabn_cli.data.tables.columns import (
    BY_HEADER,
    Columns,
    Table,
    labelled_rows,
    path_column,
    read_rows,
)
from adabn_cli.data.tables.rows import Rows, missing_suffix
from adabn_cli.data.tables.text_file import read_text_or_latin
from adabn_cli.errors import TargetError
from adabn_cli.text import one_line, valid_text

NAMES = ("metadata.csv", "metadata.jsonl")
_COLUMN = "file_name"
_HINT = (
    "It has the columns file_name, relative to it, and label; --target-format folder ignores it."
)


def has_metadata(folder: Path, columns: Columns = BY_HEADER) -> bool:
    """Whether such a file lies in the folder or a folder in it."""
    return any((columns.path or _COLUMN) in _first_line(file) for file in _files(folder))


def read(location: Location, columns: Columns = BY_HEADER) -> Listing:
    """The pictures of the folder, with the labels that its metadata gives them.

    Raises TargetError, with the line, where that cannot be understood.
    """
    root = Path(str(location))
    found, files = picture_folder.read(root), _files(root)
    if not files:
        raise TargetError(f"There is no {' or '.join(NAMES)}.", where=str(root), hint=_HINT)
    columns = replace(columns, path=columns.path or _COLUMN)
    read = {file: _rows(file, columns) for file in files}
    labels, missing = _labels(read, root, {picture.name for picture in found.pictures})
    pictures = [replace(picture, label=labels.get(picture.name)) for picture in found.pictures]
    told = files[0].name
    listing = listing_of(
        f"{found.kind} with {told}",
        pictures,
        (*found.skipped, *missing),
        found.other_suffixes,
        f"labels in {told}",
    )
    notes = tuple(note for rows in read.values() for note in rows.notes)
    return replace(listing, one_hot=_one_hot(read), notes=notes)


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
                raise _unusable(f"{row.place}: {name} has a row further up", file)
            labels[name] = row.label
            if name in pictures:
                continue
            reason = f"no such file or directory ({file.name}, {row.place})"
            missing.append(SkippedPicture(name, reason))
            if suffix := missing_suffix(name, pictures.__contains__):
                raise TargetError(
                    f"{row.place}: {one_line(name)} is no file, {one_line(name)}{suffix} is.",
                    where=str(file),
                    hint=f"Give --path-suffix {suffix}.",
                )
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
    text, notes = read_text_or_latin(file)
    try:
        if file.suffix == ".csv":
            return replace(read_rows(text, columns), notes=notes)
        return replace(labelled_rows(_json_table(text, columns), columns), notes=notes)
    except ValueError as error:
        raise _unusable(str(error), file) from error


def _json_table(text: str, columns: Columns) -> Table:
    """The values that are text or numbers in lines of JSON, as text."""
    lines = enumerate(text.splitlines(), start=1)
    objects = {f"line {number}": line for number, line in lines if line.strip()}
    records = {place: _from_json(line, place, columns) for place, line in objects.items()}
    header = tuple(dict.fromkeys(name for values in records.values() for name in values))
    path = path_column(header, columns) if records else 0
    texts = [
        (place, [_text(values.get(name)) for name in header]) for place, values in records.items()
    ]
    return Table(header, path, texts)


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
