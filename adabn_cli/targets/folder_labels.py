"""The rules by which folder names, or a source's own labels, become classes, or why they do not.

Opens no file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from adabn_cli.errors import TargetError
from adabn_cli.printable import first_few, one_line
from adabn_cli.targets.class_names import Classes, NameTable, is_number

_MAP = "--class-map FILE"


@dataclass(frozen=True)
class Wording:
    """What is assigned a class ("folder"), where it is from, and whether its numbers are `counted`.

    Numbers that are folder names may have been sorted as text to become classes; labels in a file
    never were.
    """

    one: str = "folder"
    source: str = "folder names"
    counted: bool = False

    @property
    def several(self) -> str:
        """More than one of it."""
        return f"{self.one}s"


_FOLDERS = Wording()


@dataclass(frozen=True)
class Assignment:
    """The class of each folder or label, none where they are unlabeled; `notes` then say why."""

    index: Mapping[str, int] = field(default_factory=dict)
    source: str | None = None
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None


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
    if classes.names is not None:
        return _by_name(folders, classes, where, wording)
    if all(map(is_number, folders)):
        return _by_number(folders, classes, wording)
    return _by_order(folders, classes, wording)


def _by_order(folders: Sequence[str], classes: Classes, wording: Wording) -> Assignment:
    if classes.count is None:
        return _unlabeled("the model's classes are unknown, by name and by number")
    if len(folders) != classes.count:
        return _unlabeled(
            f"the model's class names are unknown, and its {classes.count} outputs are not as many "
            f"as the {len(folders)} {wording.several} ({first_few(folders)}): give {_MAP}"
        )
    order = first_few([f"{index} = {name}" for index, name in enumerate(folders)])
    note = (
        f"the classes are the {wording.several} in alphabetical order, as ImageFolder has them: "
        f"{order}"
    )
    index = {name: position for position, name in enumerate(folders)}
    return Assignment(index, f"{wording.source} in alphabetical order", (note,), tuple(folders))


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
    return Assignment(index, f"{wording.source} in the class map", notes, names)


def _by_name(folders: Sequence[str], classes: Classes, where: str, wording: Wording) -> Assignment:
    table = classes.names or NameTable(())
    found = _find_all(folders, table, where, wording)
    if len(found) == len(folders):
        return Assignment(found, wording.source, _absent(found, classes, wording), table.names)
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
        return _by_number(folders, classes, wording)
    return _unlabeled(
        f"no {wording.one} ({first_few(folders, 3)}) is named like one of the model's "
        f"{len(table.names)} classes ({first_few(table.names, 3)}); "
        f"if they are classes, give {_MAP}"
    )


def _by_number(folders: Sequence[str], classes: Classes, wording: Wording) -> Assignment:
    numbers = {name: int(name) for name in folders}
    low, high = min(numbers.values()), max(numbers.values())
    if classes.count is None:
        return _unlabeled(
            f"the {wording.several} are numbers, and how many classes the model has is unknown: "
            f"give {_MAP}"
        )
    if high >= classes.count:
        return _unlabeled(
            f"the {wording.several} are numbers from {low} to {high}, the model's outputs go from "
            f"0 to {classes.count - 1}: give {_MAP}"
        )
    if not wording.counted and not _same_order_as_text(folders, classes.count):
        return _unlabeled(
            "the folders are numbers without leading zeros: sorted as text, as ImageFolder does, "
            f"10 comes before 2, so their classes are ambiguous: give {_MAP}"
        )
    names = classes.names.names if classes.names is not None else None
    word = "labels" if wording.counted else "folder names"
    note = f"the {word} are numbers and not class names: they are used as class indices"
    notes = (note, *_absent(numbers, classes, wording))
    return Assignment(numbers, f"{wording.source} as class indices", notes, names)


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
