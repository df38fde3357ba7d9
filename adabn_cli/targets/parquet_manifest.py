"""A Parquet file with the columns path and label as a source; paths are relative to it.

Needs pyarrow.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from adabn_cli.errors import TargetError
from adabn_cli.printable import first_few, one_line
from adabn_cli.targets.extras import required
from adabn_cli.targets.listed_paths import Row, pictures_of
from adabn_cli.targets.source import Location, Source, source_of

_HINT = "Name the columns path (text) and, where there are labels, label; one row a picture."


def read_source(location: Location) -> Source:
    """The pictures that the table lists, with their labels where it has that column.

    Raises TargetError, with the row, where it cannot be understood.
    """
    file = Path(str(location))
    columns = _columns(file)
    labels = columns.get("label", [None] * len(columns["path"]))
    rows = [
        Row(f"row {number}", _path(path, number, file), _label(label, number, file))
        for number, (path, label) in enumerate(zip(columns["path"], labels, strict=True), start=1)
    ]
    pictures = pictures_of(rows, file.parent, str(file))
    return source_of("Parquet manifest", pictures, labels_from=f"labels in {one_line(file.name)}")


def _columns(file: Path) -> dict[str, list[Any]]:
    """The values of the columns path and label, by these names."""
    arrow = required("pyarrow", "parquet", "A Parquet manifest", str(file))
    parquet = required("pyarrow.parquet", "parquet", "A Parquet manifest", str(file))
    with file.open("rb") as stream:
        try:
            table = parquet.ParquetFile(stream)
            names = {name.lower(): name for name in reversed(table.schema_arrow.names)}
            if "path" not in names:
                raise ValueError(f"no column path among {first_few(table.schema_arrow.names)}")
            wanted = [name for name in ("path", "label") if name in names]
            read = table.read(columns=[names[name] for name in wanted])
            return {name: read.column(names[name]).to_pylist() for name in wanted}
        except (arrow.ArrowException, OSError, ValueError) as error:
            raise _unusable(str(error).splitlines()[0], file) from error


def _path(value: object, number: int, file: Path) -> str:
    if not isinstance(value, str):
        raise _unusable(f"row {number}: the path is {type(value).__name__}, not text", file)
    return value


def _label(value: object, number: int, file: Path) -> str | None:
    if value is None or isinstance(value, str):
        return value
    # pandas makes floats of whole numbers where some are missing, and NaN of these.
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    raise _unusable(f"row {number}: the label is neither text nor a whole number", file)


def _unusable(reason: str, file: Path) -> TargetError:
    return TargetError(
        f"The manifest cannot be used: {one_line(reason.rstrip('.'))}.", where=str(file), hint=_HINT
    )
