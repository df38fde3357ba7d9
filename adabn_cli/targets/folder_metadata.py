"""A folder whose `metadata.csv` or `metadata.jsonl` has labels, as Hugging Face's imagefolder.

Each lies beside or above its pictures, with the columns `file_name` (relative to it) and `label`.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from adabn_cli.errors import TargetError
from adabn_cli.printable import valid_text
from adabn_cli.targets import picture_folder
from adabn_cli.targets.class_map import read_text
from adabn_cli.targets.listed_paths import Row
from adabn_cli.targets.listing import SkippedPicture
from adabn_cli.targets.manifest import table_rows
from adabn_cli.targets.source import Location, Source, source_of

NAMES = ("metadata.csv", "metadata.jsonl")
_COLUMN = "file_name"
_HINT = (
    "It has the columns file_name, relative to it, and label; --target-format folder ignores it."
)


def has_metadata(folder: Path) -> bool:
    """Whether such a file lies in the folder or a folder in it."""
    return any(_COLUMN in _first_line(file) for file in _files(folder))


def read_source(location: Location) -> Source:
    """The pictures of the folder, with the labels that its metadata gives them.

    Raises TargetError, with the line, where that cannot be understood.
    """
    root = Path(str(location))
    found, files = picture_folder.read_source(root), _files(root)
    if not files:
        raise TargetError(f"There is no {' or '.join(NAMES)}.", where=str(root), hint=_HINT)
    labels: dict[str, str | None] = {}
    missing = []
    names = {picture.name for picture in found.pictures}
    for file in files:
        prefix = valid_text(file.parent.relative_to(root))
        for row in _rows(file):
            name = posixpath.normpath(posixpath.join(prefix, row.path.replace("\\", "/")))
            if name in labels:
                raise _unusable(f"{row.place}: {name} has a row further up", file)
            labels[name] = row.label or None
            if name not in names:
                reason = f"no such file or directory ({file.name}, {row.place})"
                missing.append(SkippedPicture(name, reason))
    pictures = [replace(picture, label=labels.get(picture.name)) for picture in found.pictures]
    told = files[0].name
    return source_of(
        f"{found.kind} with {told}",
        pictures,
        (*found.skipped, *missing),
        found.other_suffixes,
        f"labels in {told}",
    )


def _files(folder: Path) -> list[Path]:
    found = [*folder.iterdir(), *folder.glob("*/metadata.*")]
    return sorted(file for file in found if file.name in NAMES and file.is_file())


def _first_line(file: Path) -> str:
    with file.open(encoding="utf-8", errors="replace") as text:
        return text.readline(1 << 16)


def _rows(file: Path) -> Iterator[Row]:
    text = read_text(file)
    try:
        if file.suffix == ".csv":
            yield from table_rows(text, _COLUMN)
            return
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip():
                yield _from_json(line, f"line {number}")
    except ValueError as error:
        raise _unusable(str(error), file) from error


def _from_json(line: str, place: str) -> Row:
    try:
        values = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{place}: {error}") from error
    if not isinstance(values, dict) or not isinstance(values.get(_COLUMN), str):
        raise ValueError(f"{place}: no text called {_COLUMN}")
    label = values.get("label")
    # Boxes and captions are metadata too, and no class.
    known = isinstance(label, str | int) and not isinstance(label, bool)
    return Row(place, values[_COLUMN], str(label) if known else None)


def _unusable(reason: str, file: Path) -> TargetError:
    return TargetError(f"The metadata cannot be used: {reason}.", where=str(file), hint=_HINT)
