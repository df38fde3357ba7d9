"""The classes of a model, and a file that says which one an output or a folder is.

names.txt    one class name a line, in the order of the outputs
names.json   a list of the same, or an object {folder name: class name or index}, or {index: name}
names.csv    two columns: folder, class name or index; or three: folder, index, class name
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from adabn_cli.data.tables.csv_table import csv_rows
from adabn_cli.data.tables.text_file import read_text
from adabn_cli.data.truth.classes import Classes, NameTable, is_number
from adabn_cli.errors import TargetError
from adabn_cli.text import one_line

_FIELDS = "two fields are needed, folder and class, or three: folder, index and name"
_NAMES = "Give class names of the model, or indices from 0."
_INDICES = (
    "Give indices from 0, as the model's class names are unknown: folder,index or "
    'folder,index,name a line, or {"folder": 3}; {"3": "name"} names them.'
)
_HINT = "Write a .txt (a class a line), .json (list or object) or .csv (folder,class)."


@dataclass(frozen=True)
class ClassMap:
    """Class names in the order of the outputs, or pairs of a folder and its class, as written.

    Where `titles` has names by index, the classes of the pairs are such indices.
    """

    names: tuple[str, ...] | None
    pairs: tuple[tuple[str, str], ...]
    titles: Mapping[int, str] = field(default_factory=dict)


def known_classes(
    names: Sequence[str] | None, count: int | None, class_map: Path | None, said: Classes
) -> tuple[Classes, tuple[str, ...]]:
    """The classes of a model that names them so and has so many outputs, and notes on the names.

    `said` holds what options say of them. Raises TargetError for a class map that does not fit.
    """
    notes: tuple[str, ...] = ()
    if names is not None and count is not None and len(names) != count:
        notes = (f"the model names {len(names)} classes and has {count} outputs: names unused",)
        names = None
    if class_map is None:
        return _named(names, count, said), notes
    read, where = read_class_map(class_map), str(class_map)
    if read.names is not None:
        if count is not None and len(read.names) != count:
            raise TargetError(
                f"The class map names {len(read.names)} classes, the model has {count} outputs.",
                where=where,
                hint="Write one name for each output, in the order of the outputs.",
            )
        return _named(read.names, count, said), ()
    known = _named(names, count, said)
    try:
        return _mapped(read, known), notes
    except ValueError as error:
        from_one = known.counted_from_one(int(key) for key, _ in read.pairs if is_number(key))
        raise TargetError(
            f"The class map cannot be used: {error}.",
            where=where,
            hint=f"{_INDICES if known.names is None else _NAMES}{from_one}",
        ) from error


def _named(names: Sequence[str] | None, count: int | None, said: Classes) -> Classes:
    if names is None:
        return replace(said, count=count)
    return replace(said, count=len(names), names=NameTable(names))


def _mapped(read: ClassMap, known: Classes) -> Classes:
    """The classes with what pairs of a folder and its class say; ValueError where that is none."""
    outputs = replace(known, offset=None)  # Indices in the map are those of the outputs.
    if read.titles:
        known = _titled(known, {outputs.at(index): name for index, name in read.titles.items()})
        return replace(known, mapped={key: outputs.at(int(value)) for key, value in read.pairs})
    numbers = all(is_number(key) for key, _ in read.pairs)
    if known.names is None and numbers and not any(is_number(value) for _, value in read.pairs):
        titles = {known.at(int(key)): name for key, name in read.pairs}
        mapped = {key: known.at(int(key)) for key, _ in read.pairs}
        mapped |= {name: index for index, name in titles.items()}
        return replace(_titled(known, titles), mapped=mapped, numbered=True)
    return replace(known, mapped={key: outputs.index(value) for key, value in read.pairs})


def _titled(known: Classes, titles: Mapping[int, str]) -> Classes:
    """The classes with these names by index; the others are called by their number."""
    count = known.count or max(titles) + 1
    return replace(known, names=NameTable([titles.get(i, str(i)) for i in range(count)]))


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
