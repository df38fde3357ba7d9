"""How text and tables look on a terminal, the same in every rendering.

Names come from disk and from checkpoints: all text goes through here and is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from adabn_cli.text import one_line


def plain(text: str, style: str = "") -> Text:
    """The text as it is: no markup in it, nothing that a terminal would obey."""
    return Text(one_line(text), style, overflow="fold")


def note(text: str, style: str = "") -> Padding:
    """A sentence below a table, indented."""
    return Padding(plain(text, style), (0, 0, 0, 2), expand=False)


def marked(mark: str, text: str) -> Text:
    """A sentence behind a yellow mark, as in "warning: ..."."""
    return Text.assemble((f"{mark}: ", "yellow"), one_line(text), overflow="fold")


def facts(rows: Iterable[tuple[str, str]]) -> Table:
    """Names and what is to be said of each, two columns; rows without a text are left out."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        if text:
            table.add_row(name, plain(text))
    return table


def figures(*columns: str) -> Table:
    """A table whose first column is text and whose others are figures."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(
            column,
            justify="right" if index else "left",
            overflow="fold",
            no_wrap=bool(index),
        )
    return table
