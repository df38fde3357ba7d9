"""A Parquet file with a column of paths; paths are relative to it.

Needs pyarrow.
"""

from __future__ import annotations

from pathlib import Path

from adabn_cli.data.listing import Listing, Location
from adabn_cli.data.readers.listed_paths import listing_of_rows
from adabn_cli.data.tables.columns import (
    BY_HEADER,
    HINT,
    Columns,
    labelled_rows,
)
from adabn_cli.data.tables.parquet import parquet_table
from adabn_cli.data.tables.rows import Rows
from adabn_cli.errors import TargetError


def read(location: Location, columns: Columns = BY_HEADER) -> Listing:
    """The pictures that the table lists, with their labels where it has them.

    Raises TargetError, with the row, where it cannot be understood.
    """
    file = Path(str(location))
    return listing_of_rows("Parquet manifest", parquet_rows(file, columns), file)


def parquet_rows(file: Path, columns: Columns) -> Rows:
    """What the file says of its pictures. Raises TargetError, with the row."""
    try:
        return labelled_rows(parquet_table(file, columns), columns)
    except ValueError as error:
        raise TargetError(
            f"The manifest cannot be used: {error}.",
            where=str(file),
            hint=f"{HINT}; one row a picture.",
        ) from error
