"""Which classes the one-hot columns of a table are, by name or in their order. Opens no file."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from adabn_cli.errors import TargetError
from adabn_cli.printable import first_few
from adabn_cli.targets.class_names import Classes
from adabn_cli.targets.folder_labels import Assignment, KnownBy


def assign_columns(
    columns: Sequence[str], used: Collection[str], classes: Classes, source: str, where: str
) -> Assignment:
    """The class of each column; of those that are 1 in no row, also where it has none.

    Raises TargetError where only some are classes of the model, and where nothing but their order
    could tell and they are not as many as the outputs.
    """
    known = [name for name in columns if classes.knows(name)]
    strange = [name for name in columns if name in used and name not in known]
    if known and not strange:
        try:
            index = {name: classes.index(name) for name in known}
        except ValueError as error:
            raise _unusable(f"{error}", where) from error
        note = "the one-hot columns are read as one label: the class of their name"
        names = classes.names.names if classes.names else None
        known_by: KnownBy = "number" if all(map(classes.counts, known)) else "name"
        return Assignment(index, source, (note,), names, known_by)
    if known or classes.names is not None:
        raise _unusable(f"{first_few(strange)} are no classes of the model", where)
    if classes.count != len(columns):
        counted = "an unknown number of" if classes.count is None else classes.count
        raise _unusable(
            f"there are {len(columns)} of them, and the model has {counted} outputs", where
        )
    order = first_few(f"{place} = {name}" for place, name in enumerate(columns))
    note = f"the one-hot columns are read as one label, and as classes in their order: {order}"
    index = {name: place for place, name in enumerate(columns)}
    return Assignment(index, source, (note,), tuple(columns))


def _unusable(reason: str, where: str) -> TargetError:
    return TargetError(
        f"The one-hot columns are no labels: {reason}.",
        where=where,
        hint="Say which class each column is with --class-map FILE, or use --labels none.",
    )
