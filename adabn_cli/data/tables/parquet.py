"""The table in a Parquet file, as text. Needs pyarrow."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from adabn_cli.data.extras import required
from adabn_cli.data.tables.columns import Columns, Table, label_column, path_column
from adabn_cli.text import one_line

# What one-hot columns may be of; pictures may lie in others, as bytes.
_BITS = ("bool", "int", "uint", "float", "double", "halffloat")


def parquet_table(file: Path, columns: Columns, *, every: bool = False) -> Table:
    """The columns of paths and labels, or else of numbers, as text; or of all.

    Raises ValueError, with the row.
    """
    arrow = required("pyarrow", "parquet", "A Parquet file", str(file))
    try:
        header, columns_of = _columns(file, columns, every=every)
    except (arrow.ArrowException, OSError) as error:
        raise ValueError(one_line(str(error).splitlines()[0].rstrip("."))) from error
    records = []
    for number, (path, *fields) in enumerate(zip(*columns_of, strict=True), start=1):
        place = f"row {number}"
        records.append((place, [_path(path, place), *(_text(one, place) for one in fields)]))
    return Table(header=header, path=0, records=records)


def _columns(
    file: Path, columns: Columns, *, every: bool
) -> tuple[tuple[str, ...], list[list[Any]]]:
    """Names and values of the columns that count, that of the paths in front."""
    parquet = required("pyarrow.parquet", "parquet", "A Parquet file", str(file))
    with file.open("rb") as stream:
        table = parquet.ParquetFile(stream)
        names = table.schema_arrow.names
        path = path_column(names, columns)
        label = None if every else label_column(names, columns)
        kinds = [str(kind).rstrip("0123456789") for kind in table.schema_arrow.types]
        others = [at for at, kind in enumerate(kinds) if every or kind in _BITS]
        places = [path, *(at for at in others if at != path)] if label is None else [path, label]
        chosen = tuple(names[at] for at in places)
        read = table.read(columns=list(chosen))
        return chosen, [read.column(name).to_pylist() for name in chosen]


def _path(value: object, place: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{place}: the path is {type(value).__name__}, not text")
    return value


def _text(value: Any, place: str) -> str:
    """A label, or number, as a CSV would have it; empty where there is none."""
    # pandas makes floats of whole numbers where some are missing, and NaN of these.
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return value
    if not isinstance(value, int | float):
        raise ValueError(f"{place}: the label is neither text nor a number")
    return str(int(value)) if float(value).is_integer() else repr(value)
