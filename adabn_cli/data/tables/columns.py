"""What the columns of a table of pictures mean: paths, labels, or a one-hot column for each class.

The one place that decides it, for CSV, TSV, Parquet and metadata. Opens no picture.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from adabn_cli.data.tables.rows import Row, Rows
from adabn_cli.dependence import option
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
_BITS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}
_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class Columns:
    """What the user says of a table: its columns by name, and what each path still lacks.

    See --path-column, --label-column and --path-suffix.
    """

    path: str | None = field(default=None, metadata=option("--path-column"))
    label: str | None = field(default=None, metadata=option("--label-column"))
    path_suffix: str = ""

    def whole(self, path: str) -> str:
        """The path with its suffix; no path stays none."""
        has_it = not path.strip() or path.endswith(self.path_suffix)
        return path if has_it else path + self.path_suffix


#: As the header says.
BY_HEADER = Columns()


@dataclass(frozen=True, kw_only=True)
class Table:
    """A header, which of its columns the paths are, and records: where each stands, and its fields.

    `notes` say how it was read.
    """

    header: tuple[str, ...]
    path: int
    records: Sequence[tuple[str, Sequence[str]]]
    notes: tuple[str, ...] = ()


def path_columns(header: Sequence[str], columns: Columns) -> list[int]:
    """Those that could be of paths, by what the user says or by their known names."""
    return _candidates(header, _PATHS, columns.path)


def path_column(header: Sequence[str], columns: Columns) -> int:
    """The one that is of paths. Raises ValueError if there is none, or it could be several."""
    found = _only(header, path_columns(header, columns), columns.path, "path")
    if found is None:
        raise ValueError(f"no column path {_in_header(header)}")
    return found


def label_column(header: Sequence[str], columns: Columns) -> int | None:
    """The one that is of labels, told like that of the paths; None if there is none."""
    return _only(header, _candidates(header, _LABELS, columns.label), columns.label, "label")


def labelled_rows(table: Table, columns: Columns) -> Rows:
    """What the table says of every picture; one-hot columns are a label where there is no other."""
    rows = [Row(at, columns.whole(fields[table.path])) for at, fields in table.records]
    if empty := [row.at for row in rows if not row.path.strip()]:
        raise ValueError(f"{empty[0]}: no path")
    label = label_column(table.header, columns)
    if label is None or (columns.label is None and _is_a_class(table, label)):
        return _by_bits(table, rows)
    labels = whole_numbers([fields[label] for _, fields in table.records])
    return Rows(rows=_with_labels(rows, labels), notes=table.notes)


def _by_bits(table: Table, rows: Sequence[Row]) -> Rows:
    """Rows of which the label is the one column that is 1; without labels if that is not so."""
    bits = _of_bits(table)
    names = [table.header[column] for column in bits]
    ones = [
        [name for name, column in zip(names, bits, strict=True) if _BITS[fields[column].lower()]]
        for _, fields in table.records
    ]
    strange = [row.at for row, found in zip(rows, ones, strict=True) if len(found) != 1]
    if len(bits) > 1 and not strange:
        labelled = _with_labels(rows, [found[0] for found in ones])
        return Rows(rows=labelled, one_hot=tuple(names), notes=table.notes)
    unlabeled = f"no column label {_in_header(table.header)}"
    if len(bits) > 1:
        unlabeled += f", and {strange[0]} has no single 1 in the columns {first_few(names)}"
    return Rows(rows=tuple(rows), unlabeled=unlabeled, notes=table.notes)


def _with_labels(rows: Sequence[Row], labels: Sequence[str]) -> tuple[Row, ...]:
    return tuple(replace(row, label=label or None) for row, label in zip(rows, labels, strict=True))


def _is_a_class(table: Table, label: int) -> bool:
    """Whether a column of labels by its name is a one-hot column among others: of a class called y.

    A column called label is of labels, and one that is never 1 is of no picture's class.
    """
    if table.header[label].strip().lower() in _LABELS[0] or label not in _one_hot(table):
        return False
    return any(_BITS[row[label].lower()] for _, row in table.records)


def _one_hot(table: Table) -> list[int]:
    """Three columns and more of which every row has a single 1."""
    bits = _of_bits(table)
    single = all(sum(_BITS[row[one].lower()] for one in bits) == 1 for _, row in table.records)
    return bits if single and len(bits) > 2 else []


def _of_bits(table: Table) -> list[int]:
    """The columns with a name that hold 0 and 1 alone."""
    if not table.records:
        return []
    others = [column for column, name in enumerate(table.header) if name and column != table.path]
    records = table.records
    return [one for one in others if all(row[one].lower() in _BITS for _, row in records)]


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


def _candidates(header: Sequence[str], known: Iterable[set[str]], said: str | None) -> list[int]:
    """The columns that the user names, or those of the first set of known names that has any."""
    if said is not None:
        exact = [column for column, name in enumerate(header) if name == said]
        return exact or _columns_called({said.lower()}, header)
    return next(filter(None, (_columns_called(names, header) for names in known)), [])


def _columns_called(names: set[str], header: Sequence[str]) -> list[int]:
    return [column for column, name in enumerate(header) if name.lower() in names]


def _only(header: Sequence[str], found: list[int], said: str | None, kind: str) -> int | None:
    if said is not None and not found:
        raise ValueError(f"--{kind}-column {one_line(said)} is not {_in_header(header)}")
    if len(found) > 1:
        names = " and ".join(one_line(header[column]) for column in found)
        raise ValueError(f"{names} could both be the {kind}: give --{kind}-column NAME")
    return found[0] if found else None


def _in_header(header: Sequence[str]) -> str:
    return f"in the header ({first_few(header, 20) if header else 'there is none'})"
