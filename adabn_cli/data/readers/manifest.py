"""A CSV, TSV or Parquet file with a column of paths; paths are relative to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from adabn_cli.data.listing import Listing, Location
from adabn_cli.data.readers.listed_paths import listing_of_rows
from adabn_cli.data.readers.reader import Reader
from adabn_cli.data.tables.columns import HINT, Columns, Table, labelled_rows
from adabn_cli.data.tables.parquet import parquet_table
from adabn_cli.data.tables.table_file import read_csv
from adabn_cli.errors import TargetError


def _read_text(location: Location, columns: Columns) -> Listing:
    file = Path(str(location))
    kind = "TSV manifest" if file.suffix.lower() == ".tsv" else "CSV manifest"
    return _listing(kind, file, columns, read_csv)


def _read_parquet(location: Location, columns: Columns) -> Listing:
    return _listing("Parquet manifest", Path(str(location)), columns, parquet_table)


def _listing(
    kind: str, file: Path, columns: Columns, table: Callable[[Path, Columns], Table]
) -> Listing:
    """The pictures that the manifest lists, with their labels where it has them.

    Raises TargetError, with the line or row, where it cannot be understood.
    """
    try:
        found = labelled_rows(table(file, columns), columns)
    except ValueError as error:
        raise TargetError(
            f"The manifest cannot be used: {error}.",
            where=str(file),
            hint=f"{HINT}; paths are relative to the file.",
        ) from error
    return listing_of_rows(kind, found, file)


def _reader(name: str, read: Callable[[Location, Columns], Listing]) -> Reader:
    return Reader(name=name, suffixes=(f".{name}",), read=read, has_columns=True, has_paths=True)


CSV = _reader("csv", _read_text)
TSV = _reader("tsv", _read_text)
PARQUET = _reader("parquet", _read_parquet)
