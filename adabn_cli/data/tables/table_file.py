"""The table in a file, CSV or Parquet."""

from __future__ import annotations

from pathlib import Path

from adabn_cli.data.tables.columns import Columns, Table
from adabn_cli.data.tables.csv_table import csv_table
from adabn_cli.data.tables.parquet import parquet_table
from adabn_cli.data.tables.text_file import read_text_or_latin


def read_table(file: Path, columns: Columns, *, every: bool = False) -> Table:
    """The table, with the columns that count or, of a Parquet file, perhaps `every` one.

    Raises ValueError, with the line or row, and TargetError if the file cannot be read.
    """
    if file.suffix.lower() == ".parquet":
        return parquet_table(file, columns, every=every)
    return read_csv(file, columns)


def read_csv(file: Path, columns: Columns) -> Table:
    """The table in a file of text. Raises what `read_table` does."""
    text, notes = read_text_or_latin(file)
    return csv_table(text, columns, notes)
