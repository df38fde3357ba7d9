"""Numbers of pictures from a CSV file: `path` and a column for each. Opens no picture.

N pictures, D columns.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adabn_cli.data.tables.columns import BY_HEADER, Columns, Table, label_column
from adabn_cli.data.tables.rows import no_picture_of, same_path
from adabn_cli.data.tables.table_file import read_table
from adabn_cli.data.truth.labels_file import require_labels_file
from adabn_cli.errors import TargetError
from adabn_cli.text import one_line

_HINT = (
    "Its header is path and a column for each output of the model, or --path-column NAME and "
    "--label-column NAME name them; paths are as in the target."
)


@dataclass(frozen=True, eq=False)
class ValueTable:
    """The numbers of each picture, [N, D], NaN where unknown; `names` are those of the columns."""

    values_ND: NDArray[np.float64]
    names: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def known(self) -> int:
        """Pictures of which any number is known."""
        return int((~np.isnan(self.values_ND)).any(1).sum())


def read_value_table(
    file: Path,
    pictures: Sequence[str],
    *,
    allowed: Collection[float] = (),
    columns: Columns = BY_HEADER,
) -> ValueTable:
    """A row of numbers for every picture that the file names.

    They are those of the column that was said to hold the labels, or of all. Raises TargetError,
    with the line, for what is no number (or none of those allowed), for a second row of a picture
    with others, and where the file names no picture of the target at all.
    """
    require_labels_file(str(file))
    try:
        table = read_table(file, columns, every=columns.label is None)
        names, rows = _parse(table, set(pictures), allowed, columns)
    except ValueError as error:
        raise TargetError(
            f"The labels cannot be used: {error}.", where=str(file), hint=_HINT
        ) from error
    if not rows:
        path = columns.whole(table.records[0][1][table.path]) if table.records else ""
        raise no_picture_of(set(pictures), pictures[0], path, str(file), _HINT)
    unknown = [math.nan] * len(names)
    values_ND = np.array([rows.get(picture, unknown) for picture in pictures])
    missing = len(pictures) - len(rows)
    note = f"{missing} of {len(pictures)} pictures have no row in {file.name}"
    return ValueTable(values_ND, names, (*table.notes, note) if missing else table.notes)


def _parse(
    table: Table, pictures: set[str], allowed: Collection[float], columns: Columns
) -> tuple[tuple[str, ...], dict[str, list[float]]]:
    header, rows = table.header, dict[str, list[float]]()
    places = [place for place in range(len(header)) if place != table.path]
    if columns.label is not None:
        places = [place for place in [label_column(header, columns)] if place is not None]
    if not places:
        raise ValueError("no column next to the paths")
    if len(set(header)) < len(header):
        raise ValueError("two columns are called the same")
    for place, row in table.records:
        path = same_path(columns.whole(row[table.path]), pictures)
        if path not in pictures:
            continue
        values = [_number(row[at], place, allowed) for at in places]
        if rows.setdefault(path, values) != values:
            raise ValueError(f"{place}: {one_line(path)} has other numbers further up")
    return tuple(header[at] for at in places), rows


def _number(field: str, place: str, allowed: Collection[float]) -> float:
    if not field:
        return math.nan
    try:
        value = float(field)
    except ValueError as error:
        raise ValueError(f"{place}: {one_line(field)!r} is not a number") from error
    if math.isinf(value) or (allowed and value not in allowed):
        told = " or ".join(f"{one:g}" for one in allowed) or "finite"
        raise ValueError(f"{place}: {one_line(field)} is not {told}")
    return value
