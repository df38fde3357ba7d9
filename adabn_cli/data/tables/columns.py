"""What the columns of a table of pictures mean: paths, labels, or a one-hot column for each class.

The one place that decides it, for CSV, TSV, Parquet and metadata. Opens no picture.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from adabn_cli.data.tables.rows import Row, Rows
from adabn_cli.data.tables.text_file import csv_rows
from adabn_cli.text import first_few, one_line

#: What to do about a header that is not understood.
HINT = (
    "Name the columns path and label in the header, or say which they are: --path-column NAME, "
    "--label-column NAME"
)

# Names that columns of paths and of labels have in data sets. Those in front decide: a table with
# the columns path and image has its paths in the first.
_PATHS = (
    {"path"},
    {
        *("file", "filename", "file_name", "filepath", "file_path"),
        *("image", "image_path", "image_file", "image_name", "imagepath", "img_path", "img_name"),
    },
    {"id", "img", "image_id", "img_id", "name"},
)
_LABELS = (
    {"label"},
    {
        *("class", "class_name", "class_id", "class_idx", "class_index", "classname", "target"),
        *("category", "category_id", "category_name", "label_idx", "label_id", "label_name", "y"),
    },
)
_DELIMITERS = ",;\t|"
_BITS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}
_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class Columns:
    """What the user says of a table: its columns by name, and what each path still lacks.

    See --path-column, --label-column and --path-suffix.
    """

    path: str | None = None
    label: str | None = None
    path_suffix: str = ""

    def whole(self, path: str) -> str:
        """The path with its suffix; no path stays none."""
        has_it = not path.strip() or path.endswith(self.path_suffix)
        return path if has_it else path + self.path_suffix


#: As the header says.
BY_HEADER = Columns()


@dataclass(frozen=True)
class Table:
    """A header, the place in it of the paths, and records: where each stands, and its fields."""

    header: tuple[str, ...]
    path: int
    records: Sequence[tuple[str, Sequence[str]]]


def read_rows(text: str, columns: Columns) -> Rows:
    """What a CSV text says of its pictures. Raises ValueError, with the line."""
    return labelled_rows(csv_table(text, columns), columns)


def csv_table(text: str, columns: Columns) -> Table:
    """The table in a text of which the header tells the delimiter.

    Raises ValueError, with the line, for a column that is not there or could be several, for what
    is no CSV, and for rows that are not as wide as the header.
    """
    rows = csv_rows(text, _delimiter(text, columns))
    _, header = next(rows, (0, []))
    while header and not header[-1]:  # Written by what ends every line with the delimiter.
        header.pop()
    path = path_column(header, columns)
    return Table(tuple(header), path, list(_as_wide(rows, len(header))))


def is_table(text: str, columns: Columns) -> bool:
    """Whether the text begins with a header of paths and something else."""
    header = _header(text, _delimiter(text, columns))
    return len(header) > 1 and bool(_candidates(header, _PATHS, columns.path))


def path_column(header: Sequence[str], columns: Columns) -> int:
    """The place of the paths, by what the user says or by their known names.

    Raises ValueError where there are none, or where it could be several columns.
    """
    found = _only(header, _candidates(header, _PATHS, columns.path), columns.path, "path")
    if found is None:
        raise ValueError(f"no column path {_in_header(header)}")
    return found


def label_column(header: Sequence[str], columns: Columns) -> int | None:
    """The place of the labels, told like that of the paths; None where there are none."""
    return _only(header, _candidates(header, _LABELS, columns.label), columns.label, "label")


def labelled_rows(table: Table, columns: Columns) -> Rows:
    """What the table says of every picture; one-hot columns are a label where there is no other."""
    paths = [(place, columns.whole(fields[table.path])) for place, fields in table.records]
    if empty := [place for place, path in paths if not path.strip()]:
        raise ValueError(f"{empty[0]}: no path")
    at = label_column(table.header, columns)
    if at is None or (columns.label is None and at in _one_hot(table)):
        return _by_bits(table, paths)
    labels = whole_numbers([fields[at] for _, fields in table.records])
    return Rows(tuple(Row(*one, label or None) for one, label in zip(paths, labels, strict=True)))


def _by_bits(table: Table, paths: Sequence[tuple[str, str]]) -> Rows:
    """Rows of which the label is the one column that is 1; without labels if that is not so."""
    places = _of_bits(table)
    names = tuple(table.header[at] for at in places)
    ones = [[at for at in places if _BITS[fields[at].lower()]] for _, fields in table.records]
    strange = [place for (place, _), found in zip(paths, ones, strict=True) if len(found) != 1]
    if len(places) > 1 and not strange:
        labels = [table.header[found[0]] for found in ones]
        rows = (Row(*one, label) for one, label in zip(paths, labels, strict=True))
        return Rows(tuple(rows), one_hot=names)
    unlabeled = f"no column label {_in_header(table.header)}"
    if len(places) > 1:
        unlabeled += f", and {strange[0]} has no single 1 in the columns {first_few(names)}"
    return Rows(tuple(Row(*one) for one in paths), unlabeled=unlabeled)


def _one_hot(table: Table) -> list[int]:
    """Three columns and more of which every row has a single 1; a class may be called y."""
    places = _of_bits(table)
    single = all(sum(_BITS[row[at].lower()] for at in places) == 1 for _, row in table.records)
    return places if single and len(places) > 2 else []


def _of_bits(table: Table) -> list[int]:
    """The columns with a name that hold 0 and 1 alone."""
    if not table.records:
        return []
    others = [at for at, name in enumerate(table.header) if name and at != table.path]
    return [at for at in others if all(row[at].lower() in _BITS for _, row in table.records)]


def whole_numbers(labels: Sequence[str]) -> list[str]:
    """Labels that are numbers without a fraction, as 3.0 and 0.000e+00, without their point.

    Those of a column that holds anything else are as they were.
    """
    told = [label for label in labels if label]
    if not all(map(_NUMBER.fullmatch, told)) or any(map(has_fraction, told)):
        return list(labels)
    return [label if label.isdecimal() or not label else str(int(float(label))) for label in labels]


def has_fraction(label: str) -> bool:
    """Whether the text is a number, and not a whole one."""
    return _NUMBER.fullmatch(label) is not None and not float(label).is_integer()


def _delimiter(text: str, columns: Columns) -> str:
    """That of `,`, `;`, tab and `|` by which the header names a path; else that of most columns."""
    headers = {one: _header(text, one) for one in _DELIMITERS}
    fit = [one for one in headers if _candidates(headers[one], _PATHS, columns.path)]
    return max(fit or headers, key=lambda one: len(headers[one]))


def _header(text: str, delimiter: str) -> list[str]:
    try:
        return next(csv_rows(text, delimiter), (0, []))[1]
    except ValueError:
        return []


def _candidates(header: Sequence[str], known: Iterable[set[str]], said: str | None) -> list[int]:
    """The columns that the user names, or those of the first set of known names that has any."""
    if said is not None:
        exact = [at for at, name in enumerate(header) if name == said]
        return exact or [at for at, name in enumerate(header) if name.lower() == said.lower()]
    found = ([at for at, name in enumerate(header) if name.lower() in names] for names in known)
    return next(filter(None, found), [])


def _only(header: Sequence[str], found: list[int], said: str | None, kind: str) -> int | None:
    if said is not None and not found:
        raise ValueError(f"--{kind}-column {one_line(said)} is not {_in_header(header)}")
    if len(found) > 1:
        names = " and ".join(one_line(header[at]) for at in found)
        raise ValueError(f"{names} could both be the {kind}: give --{kind}-column NAME")
    return found[0] if found else None


def _in_header(header: Sequence[str]) -> str:
    return f"in the header ({first_few(header, 20) if header else 'there is none'})"


def _as_wide(
    rows: Iterator[tuple[int, list[str]]], width: int
) -> Iterator[tuple[str, Sequence[str]]]:
    for line, row in rows:
        while len(row) > width and not row[-1]:
            row.pop()
        if len(row) != width:
            raise ValueError(f"line {line}: {len(row)} fields where the header has {width}")
        yield f"line {line}", row
