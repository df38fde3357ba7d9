"""The table in a CSV text, of which the header tells the delimiter."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence

from adabn_cli.data.tables.columns import Columns, Table, path_column, path_columns

_DELIMITERS = ",;\t|"


def csv_table(text: str, columns: Columns, notes: tuple[str, ...] = ()) -> Table:
    """The table that the text holds. Raises ValueError, with the line.

    So it is for a column that is not there or could be several, for what is no CSV, and for rows
    that are not as wide as the header.
    """
    rows = csv_rows(text, _delimiter(text, columns))
    _, header = next(rows, (0, []))
    while header and not header[-1]:  # Written by what ends every line with the delimiter.
        header.pop()
    path = path_column(header, columns)
    records = tuple(_as_wide(rows, len(header)))
    return Table(header=tuple(header), path=path, records=records, notes=notes)


def is_table(text: str, columns: Columns) -> bool:
    """Whether the text begins with a header of paths and something else."""
    header = _header(text, _delimiter(text, columns))
    return len(header) > 1 and bool(path_columns(header, columns))


def csv_rows(text: str, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Line number and stripped fields of each row that is not blank.

    Raises ValueError, with the line, where it is no CSV.
    """
    # Split keeping the ends: a quoted name may hold a newline.
    reader = csv.reader(text.splitlines(keepends=True), strict=True, delimiter=delimiter)
    try:
        for row in reader:
            if any(field.strip() for field in row):
                yield reader.line_num, [field.strip() for field in row]
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error


def _delimiter(text: str, columns: Columns) -> str:
    """That of `,`, `;`, tab and `|` by which the header names a path; else that of most columns."""
    headers = {one: _header(text, one) for one in _DELIMITERS}
    fit = [one for one in headers if path_columns(headers[one], columns)]
    return max(fit or headers, key=lambda one: len(headers[one]))


def _header(text: str, delimiter: str) -> list[str]:
    try:
        return next(csv_rows(text, delimiter), (0, []))[1]
    except ValueError:
        return []


def _as_wide(
    rows: Iterator[tuple[int, list[str]]], width: int
) -> Iterator[tuple[str, Sequence[str]]]:
    for line, row in rows:
        while len(row) > width and not row[-1]:
            row.pop()
        if len(row) != width:
            raise ValueError(f"line {line}: {len(row)} fields where the header has {width}")
        yield f"line {line}", row
