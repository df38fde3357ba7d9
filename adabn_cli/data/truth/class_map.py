"""A file that says which class an output or a folder is. Knows no picture.

names.txt    one class name a line, in the order of the outputs
names.json   a list of the same, or an object {folder name: class name or index}, or {index: name}
names.csv    two columns: folder, class name or index; or three: folder, index, class name
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from adabn_cli.data.tables.text_file import read_text
from adabn_cli.data.truth.class_names import is_number
from adabn_cli.errors import TargetError
from adabn_cli.text import one_line

_FIELDS = "two fields are needed, folder and class, or three: folder, index and name"
_HINT = "Write a .txt (a class a line), .json (list or object) or .csv (folder,class)."


@dataclass(frozen=True)
class ClassMap:
    """Class names in the order of the outputs, or pairs of a folder and its class, as written.

    Where `titles` has names by index, the classes of the pairs are such indices.
    """

    names: tuple[str, ...] | None
    pairs: tuple[tuple[str, str], ...]
    titles: Mapping[int, str] = field(default_factory=dict)


def read_class_map(file: Path) -> ClassMap:
    """What the file says. Raises TargetError, with the line, where it cannot be understood."""
    readers = {".txt": _from_text, ".json": _from_json, ".csv": _from_csv}
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise TargetError("The class map is of an unknown kind.", where=str(file), hint=_HINT)
    text = read_text(file)
    try:
        return reader(text)
    except ValueError as error:
        raise TargetError(
            f"The class map cannot be used: {error}.", where=str(file), hint=_HINT
        ) from error


def csv_rows(text: str, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Line number and stripped fields of each row that is not blank.

    Raises ValueError, with the line, where it is no CSV.
    """
    # Split keeping the ends: a quoted name may hold a newline.
    reader = csv.reader(text.splitlines(keepends=True), strict=True, delimiter=delimiter)
    try:
        for row in reader:
            if any(field.strip() for field in row):
                yield reader.line_num, [field.strip() for field in row]
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error


def _from_text(text: str) -> ClassMap:
    lines = [line.strip() for line in text.rstrip().splitlines()]
    for number, line in enumerate(lines, start=1):
        if not line:
            raise ValueError(f"line {number} is empty")
    if not lines:
        raise ValueError("no class name in it")
    return ClassMap(tuple(lines), ())


def _from_json(text: str) -> ClassMap:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}: {error.msg}") from error
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if isinstance(content, list) and content and all(isinstance(name, str) for name in content):
        return ClassMap(tuple(content), ())
    if not isinstance(content, dict) or not content:
        raise ValueError("neither a list of class names nor an object of folders and classes")
    for folder, value in content.items():
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise ValueError(f"the class of {one_line(folder)} is neither a name nor an index")
    return ClassMap(None, tuple((folder, str(value)) for folder, value in content.items()))


def _from_csv(text: str) -> ClassMap:
    pairs: dict[str, str] = {}
    titles: dict[int, str] = {}
    width = 0
    for line, row in csv_rows(text):
        width = width or len(row)
        if len(row) != width or width not in (2, 3) or not all(row):
            raise ValueError(f"line {line}: {_FIELDS}")
        folder, name, *title = row
        if not pairs and folder.lower() == "folder" and name.lower() in ("class", "index"):
            continue
        if pairs.setdefault(folder, name) != name:
            raise ValueError(f"line {line}: {one_line(folder)} has another class further up")
        if title and not is_number(name):
            raise ValueError(f"line {line}: {one_line(name)} is no index, as of three fields")
        if title and titles.setdefault(int(name), title[0]) != title[0]:
            raise ValueError(f"line {line}: class {name} has another name further up")
    if not pairs:
        raise ValueError("no folder in it")
    return ClassMap(None, tuple(pairs.items()), titles)
