"""The rules by which folder names, or labels of pictures, become classes, or why they do not.

Opens no file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from adabn_cli.data.truth.classes import Classes, NameTable, is_number, natural_key
from adabn_cli.errors import TargetError
from adabn_cli.text import first_few, one_line

_MAP = "--class-map FILE"
_NEGATIVE = re.compile("-[0-9]+")


@dataclass(frozen=True)
class Wording:
    """What is assigned a class ("folder"), where it is from, and whether its numbers are `counted`.

    Numbers that are folder names may have been sorted as text to become classes; labels in a file
    never were.
    """

    one: str = "folder"
    origin: str = "folder names"
    counted: bool = False

    @property
    def several(self) -> str:
        """More than one of it."""
        return f"{self.one}s"


_FOLDERS = Wording()

#: How a folder or label is known to be a class: by its name or a class map, by its number, or by
#: its place among the others.
KnownBy = Literal["name", "number", "order"]


@dataclass(frozen=True)
class Assignment:
    """The class of each folder or label, none where they are unlabeled; `notes` then say why.

    `known_by` says how they are classes; `natural` is the same with the folders in natural order,
    where that is another one and nobody said which it is.
    """

    index: Mapping[str, int] = field(default_factory=dict)
    origin: str | None = None
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None
    known_by: KnownBy = "name"
    natural: Assignment | None = None


def assign(
    folders: Sequence[str], classes: Classes, where: str, wording: Wording = _FOLDERS
) -> Assignment:
    """The class of each folder or label, by the class map, by name, by number or by order.

    Raises TargetError where some of them are classes and others are not.
    """
    if not folders:
        return Assignment()  # What unlabeled pictures are like: nothing to remark.
    if classes.mapped:
        return _by_class_map(folders, classes, where, wording)
    numbers = classes.order is None and all(map(classes.counts, folders))
    if numbers and (classes.offset is not None or classes.names is None):
        return _by_number(folders, classes, where, wording)
    if classes.names is not None:
        return _by_name(folders, classes, where, wording)
    return _by_order(folders, classes, where, wording)


def _by_order(folders: Sequence[str], classes: Classes, where: str, wording: Wording) -> Assignment:
    if wording.counted and (negative := [name for name in folders if _NEGATIVE.fullmatch(name)]):
        raise TargetError(
            f"A label is below 0: {first_few(negative)}.",
            where=where,
            hint="Leave it empty where the class is not known.",
        )
    if classes.count is None:
        return _unlabeled("the model's classes are unknown, by name and by number")
    if len(folders) != classes.count:
        return _unlabeled(
            f"the model's class names are unknown, and its {classes.count} outputs are not as many "
            f"as the {len(folders)} {wording.several} ({first_few(folders)}): give {_MAP}"
        )
    text = _in_order(folders, "alphabetical order, as ImageFolder has them", wording)
    by_number = sorted(folders, key=natural_key)
    natural = _in_order(by_number, "natural order, as timm has them", wording)
    if classes.order == "natural":
        return natural
    same = classes.order == "text" or natural.classes == text.classes
    return text if same else replace(text, natural=natural)


def _in_order(folders: Sequence[str], order: str, wording: Wording) -> Assignment:
    listed = first_few([f"{index} = {name}" for index, name in enumerate(folders)])
    note = f"the classes are the {wording.several} in {order}: {listed}"
    index = {name: position for position, name in enumerate(folders)}
    origin = f"{wording.origin} in {order.partition(',')[0]}"
    return Assignment(index, origin, (note,), tuple(folders), "order")


def _by_class_map(
    folders: Sequence[str], classes: Classes, where: str, wording: Wording
) -> Assignment:
    table = NameTable(tuple(classes.mapped))
    found = _find_all(folders, table, where, wording)
    missing = [name for name in folders if name not in found]
    if missing:
        raise TargetError(
            f"{len(missing)} of {len(folders)} {wording.several} are not in the class map: "
            f"{first_few(missing)}.",
            where=where,
            hint="Add them to the file given with --class-map, or use --labels none.",
        )
    index = {name: classes.mapped[table.names[position]] for name, position in found.items()}
    names = classes.names.names if classes.names is not None else None
    notes = _absent(index, classes, wording)
    known_by: KnownBy = "number" if all(map(classes.counts, folders)) else "name"
    return Assignment(index, f"{wording.origin} in the class map", notes, names, known_by)


def _by_name(folders: Sequence[str], classes: Classes, where: str, wording: Wording) -> Assignment:
    table = classes.names or NameTable(())
    found = _find_all(folders, table, where, wording)
    if len(found) == len(folders):
        known_by: KnownBy = "number" if all(map(classes.counts, folders)) else "name"
        notes = _absent(found, classes, wording)
        return Assignment(found, wording.origin, notes, table.names, known_by)
    if found:
        strange = [name for name in folders if name not in found]
        near = {name: table.nearest(name) for name in strange}
        shown = [name + (f" (nearest: {near[name]})" if near[name] else "") for name in strange]
        raise TargetError(
            f"{len(strange)} of {len(folders)} {wording.several} are not among the model's "
            f"classes: {first_few(shown)}.",
            where=where,
            hint=f"Say which classes they are with {_MAP}, or use --labels none.",
        )
    if all(map(is_number, folders)):
        return _by_number(folders, classes, where, wording)
    return _unlabeled(
        f"no {wording.one} ({first_few(folders, 3)}) is named like one of the model's "
        f"{len(table.names)} classes ({first_few(table.names, 3)}); "
        f"if they are classes, give {_MAP}"
    )


def _by_number(
    folders: Sequence[str], classes: Classes, where: str, wording: Wording
) -> Assignment:
    numbers = {name: int(name) for name in folders}
    if classes.count is None:
        return _unlabeled(
            f"the {wording.several} are numbers, and how many classes the model has is unknown: "
            f"give {_MAP}"
        )
    index, strange = _indices(numbers, classes)
    if strange:
        return _beyond(numbers, strange, classes, where, wording)
    said = wording.counted or classes.offset is not None
    if not said and not _same_order_as_text(folders, classes.count):
        return _unlabeled(
            "the folders are numbers without leading zeros: sorted as text, as ImageFolder does, "
            f"10 comes before 2, so their classes are ambiguous: give {_MAP} or --class-order"
        )
    names = classes.names.names if classes.names is not None else None
    word = "labels" if wording.counted else "folder names"
    note = f"the {word} are numbers and not class names: they are used as class indices"
    notes = (note, *_absent(index, classes, wording))
    counted = f", counted from {classes.offset}" if classes.offset else ""
    origin = f"{wording.origin} as class indices{counted}"
    return Assignment(index, origin, notes, names, "number")


def _indices(numbers: Mapping[str, int], classes: Classes) -> tuple[dict[str, int], list[str]]:
    """The class of every number, and those that are none."""
    index, strange = {}, []
    for name, number in numbers.items():
        try:
            index[name] = classes.at(number)
        except ValueError:
            strange.append(name)
    return index, strange


def _beyond(
    numbers: Mapping[str, int],
    strange: Sequence[str],
    classes: Classes,
    where: str,
    wording: Wording,
) -> Assignment:
    """No labels where no folder's number is a class; raises TargetError where it is of some.

    Labels are always meant for classes.
    """
    low, high, first = min(numbers.values()), max(numbers.values()), classes.offset or 0
    range_ = f"the model's outputs go from {first} to {first + (classes.count or 0) - 1}"
    from_one = classes.counted_from_one(numbers.values())
    if not wording.counted and len(strange) == len(numbers) and not from_one:
        return _unlabeled(
            f"the {wording.several} are numbers from {low} to {high}, {range_}: give {_MAP}"
        )
    which = wording.one if len(numbers) == 1 else wording.several
    raise TargetError(
        f"{len(strange)} of {len(numbers)} {which} are not a class of the model: "
        f"{first_few(strange)}; {range_}.",
        where=where,
        hint=f"Say which classes they are with {_MAP}, or use --labels none.{from_one}",
    )


def _same_order_as_text(folders: Sequence[str], count: int) -> bool:
    """Whether numbers from 0 to count - 1, written like these, sort as text like as numbers."""
    widths = {len(name) for name in folders}
    if widths == {1}:
        return count <= 10
    # Of 100 classes, 50 and 51 alone do not tell whether 7 would be written 07.
    return len(widths) == 1 and any(name.startswith("0") for name in folders)


def _find_all(
    folders: Sequence[str], table: NameTable, where: str, wording: Wording
) -> dict[str, int]:
    found = {}
    for name in folders:
        try:
            position = table.find(name)
        except ValueError as error:
            raise TargetError(
                f"A {wording.one} has no class: {error}.",
                where=where,
                hint=f"Say which one with {_MAP}: {one_line(name)},INDEX.",
            ) from error
        if position is not None:
            found[name] = position
    return found


def _absent(index: Mapping[str, int], classes: Classes, wording: Wording) -> tuple[str, ...]:
    present = len(set(index.values()))
    if classes.count is None or present == classes.count:
        return ()
    return (
        f"the target has {wording.several} of {present} of the model's {classes.count} classes",
    )


def _unlabeled(reason: str) -> Assignment:
    return Assignment(notes=(f"unlabeled: {reason}",))
