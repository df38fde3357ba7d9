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

from adabn_cli.errors import TargetError
from adabn_cli.printable import one_line
from adabn_cli.targets.class_map import csv_table, read_text
from adabn_cli.targets.labels_file import same_path

_HINT = "Its header is path and a column for each output of the model; paths are as in the target."


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
    file: Path, pictures: Sequence[str], *, allowed: Collection[float] = ()
) -> ValueTable:
    """A row of numbers for every picture that the file names.

    Raises TargetError, with the line, for what is no number (or none of those allowed), for a
    second row of a picture, and where the file names no picture of the target at all.
    """
    if not file.is_file():
        raise TargetError("There is no such file of labels.", where=str(file), hint=_HINT)
    try:
        names, rows = _parse(read_text(file), set(pictures), allowed)
    except ValueError as error:
        raise TargetError(
            f"The labels cannot be used: {error}.", where=str(file), hint=_HINT
        ) from error
    if not rows:
        raise TargetError(
            f"The file names no picture of the target, such as {one_line(pictures[0])}.",
            where=str(file),
            hint=_HINT,
        )
    unknown = [math.nan] * len(names)
    values_ND = np.array([rows.get(picture, unknown) for picture in pictures])
    missing = len(pictures) - len(rows)
    note = f"{missing} of {len(pictures)} pictures have no row in {file.name}"
    return ValueTable(values_ND, names, (note,) if missing else ())


def _parse(
    text: str, pictures: set[str], allowed: Collection[float]
) -> tuple[tuple[str, ...], dict[str, list[float]]]:
    header, lines = csv_table(text)
    if "path" not in header or len(header) < 2:
        raise ValueError(f"line 1: no column path beside others in {one_line(','.join(header))!r}")
    if len(set(header)) < len(header):
        raise ValueError("line 1: two columns are called the same")
    at_path, rows = header.index("path"), dict[str, list[float]]()
    for line, row in lines:
        path = same_path(row[at_path], pictures)
        if path not in pictures:
            continue
        if path in rows:
            raise ValueError(f"line {line}: {one_line(path)} has a row further up")
        fields = [field for place, field in enumerate(row) if place != at_path]
        rows[path] = [_number(field, line, allowed) for field in fields]
    return tuple(name for name in header if name != "path"), rows


def _number(field: str, line: int, allowed: Collection[float]) -> float:
    if not field:
        return math.nan
    try:
        value = float(field)
    except ValueError as error:
        raise ValueError(f"line {line}: {one_line(field)!r} is no number") from error
    if math.isinf(value) or (allowed and value not in allowed):
        told = " or ".join(f"{one:g}" for one in allowed) or "finite"
        raise ValueError(f"line {line}: {one_line(field)} is not {told}")
    return value
