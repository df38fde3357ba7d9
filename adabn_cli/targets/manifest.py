"""A CSV or TSV file with the columns path and label as a source; paths are relative to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from adabn_cli.errors import TargetError
from adabn_cli.printable import one_line
from adabn_cli.targets.class_map import csv_table, read_text
from adabn_cli.targets.listed_paths import Row, pictures_of
from adabn_cli.targets.source import Location, Source, source_of

_HINT = "Name the columns path and, where there are labels, label; paths are relative to the file."


def read_source(location: Location) -> Source:
    """The pictures that the manifest lists, with their labels where it has that column.

    Raises TargetError, with the line, where it cannot be understood.
    """
    file = Path(str(location))
    separator = "\t" if file.suffix.lower() == ".tsv" else ","
    try:
        rows = list(table_rows(read_text(file), "path", separator))
    except ValueError as error:
        raise TargetError(
            f"The manifest cannot be used: {error}.", where=str(file), hint=_HINT
        ) from error
    kind = f"{'TSV' if separator == chr(9) else 'CSV'} manifest"
    pictures = pictures_of(rows, file.parent, str(file))
    return source_of(kind, pictures, labels_from=f"labels in {one_line(file.name)}")


def table_rows(text: str, path_column: str, separator: str = ",") -> Iterator[Row]:
    """The rows of a table with a header: a column of paths, and one called label or none.

    Raises ValueError, with the line.
    """
    header, rows = csv_table(text, separator)
    columns = [name.lower() for name in header]
    if path_column not in columns:
        raise ValueError(f"line 1: no column {path_column} in {one_line(separator.join(header))!r}")
    at_path = columns.index(path_column)
    at_label = columns.index("label") if "label" in columns else None
    for line, row in rows:
        yield Row(f"line {line}", row[at_path], None if at_label is None else row[at_label])
