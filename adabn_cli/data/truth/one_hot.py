"""Which classes the one-hot columns of a table are, by name or in their order. Opens no file."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from adabn_cli.data.truth.class_rules import Assignment, KnownBy
from adabn_cli.data.truth.classes import Classes
from adabn_cli.errors import TargetError
from adabn_cli.text import first_few

_MAP = "--class-map FILE"


def assign_columns(
    columns: Sequence[str], used: Collection[str], classes: Classes, origin: str, where: str
) -> Assignment:
    """The class of each column; of those that are 1 in no row, also where it has none.

    Without an origin, with the reason, where nothing but their order could tell and they are not as
    many as the outputs: columns of 0 and 1 may be of something else. Raises TargetError where only
    some are classes of the model.
    """
    known = [name for name in columns if classes.knows(name)]
    strange = [name for name in columns if name in used and name not in known]
    if known:
        return _by_name(known, strange, classes, origin, where)
    if classes.names is not None or classes.count != len(columns):
        reason = "not as many as the model's outputs"
        if classes.names is not None:
            reason = "named like none of the model's classes"
        note = f"unlabeled: the columns {first_few(columns)} of 0 and 1 are {reason}: give {_MAP}"
        return Assignment(notes=(note,))
    order = first_few(f"{place} = {name}" for place, name in enumerate(columns))
    note = f"the one-hot columns are read as one label, and as classes in their order: {order}"
    index = {name: place for place, name in enumerate(columns)}
    return Assignment(index, origin, (note,), tuple(columns))


def _by_name(
    known: Sequence[str], strange: Sequence[str], classes: Classes, origin: str, where: str
) -> Assignment:
    try:
        if strange:
            raise ValueError(f"{first_few(strange)} are not classes of the model")
        index = {name: classes.index(name) for name in known}
    except ValueError as error:
        raise TargetError(
            f"The one-hot columns are no labels: {error}.",
            where=where,
            hint=f"Say which class each column is with {_MAP}, or use --labels none.",
        ) from error
    note = "the one-hot columns are read as one label: the class of their name"
    names = classes.names.names if classes.names else None
    known_by: KnownBy = "number" if all(map(classes.counts, known)) else "name"
    return Assignment(index, origin, (note,), names, known_by)
