"""What the model and a class map say together of the classes. Knows no picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from adabn_cli.data.truth.class_map import ClassMap, read_class_map
from adabn_cli.data.truth.class_names import Classes, NameTable, is_number
from adabn_cli.errors import TargetError

_NAMES = "Give class names of the model, or indices from 0."
_INDICES = (
    "Give indices from 0, as the model's class names are unknown: folder,index or "
    'folder,index,name a line, or {"folder": 3}; {"3": "name"} names them.'
)


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
