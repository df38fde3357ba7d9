"""What the tables of a page are made of: rows of text, and strips that draw a row's figures.

Of many rows those that matter most come first, and all follow behind a click. Knows no record and
no template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from adabn_cli.text import one_line

_FEW, _ALL_FIT = 12, 24
_ROWS = 1000  # A page of 20,000 rows is none: 6 MB, and nobody reads it.


@dataclass(frozen=True)
class Row:
    """A name, what is noted behind it, and a cell a column. `weight` says how much it matters."""

    name: str
    cells: tuple[str | Markup, ...]
    note: str = ""
    weight: float = 0.0
    strong: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class Table:
    """Columns, the first of which is the rows' name; the `few` are of most weight among `rows`.

    `few` is empty where all fit; `cut` rows are left out.
    """

    columns: tuple[str, ...]
    rows: Sequence[Row]
    few: Sequence[Row] = ()
    cut: int = 0


def long_table(columns: tuple[str, ...], rows: Sequence[Row]) -> Table:
    """The heaviest rows, all of them in their own order."""
    heaviest = sorted(range(len(rows)), key=lambda index: rows[index].weight, reverse=True)
    few = heaviest[:_FEW] if len(rows) > _ALL_FIT else []
    kept = heaviest[:_ROWS]
    return Table(
        columns,
        rows=[rows[index] for index in sorted(kept)],
        few=[rows[index] for index in sorted(few)],
        cut=len(rows) - len(kept),
    )


def name_cell(text: str) -> Markup:
    """A name within a cell, which may be long and run from right to left."""
    return Markup("<bdi>{}</bdi>").format(one_line(text))


def change_strip(before: float, after: float) -> Markup:
    """From a hollow point to a filled one, on a line from 0 to 100%."""
    x, y = f"{100 * before:.1f}", f"{100 * after:.1f}"
    return Markup(
        '<svg class="strip" viewBox="-4 0 108 10" width="108" aria-hidden="true">'
        '<path d="M0 5H100" style="stroke: var(--line, #8c959f)"/>'
        '<path d="M{0} 5H{1}" style="stroke: var(--after, #0969da); stroke-width: 2"/>'
        '<circle cx="{0}" cy="5" r="3" style="fill: var(--paper, Canvas); '
        'stroke: var(--before, #b35900); stroke-width: 1.5"/>'
        '<circle cx="{1}" cy="5" r="3.4" style="fill: var(--after, #0969da)"/></svg>'
    ).format(x, y)


def bars(before: float, after: float) -> Markup:
    """A hollow bar above a filled one, as shares of the longest."""
    return Markup(
        '<svg class="strip" viewBox="-1 0 102 14" width="108" aria-hidden="true">'
        '<rect y="1" width="{}" height="5" style="fill: none; stroke: var(--before, #b35900)"/>'
        '<rect y="8" width="{}" height="5.5" style="fill: var(--after, #0969da)"/></svg>'
    ).format(f"{100 * before:.1f}", f"{100 * after:.1f}")
