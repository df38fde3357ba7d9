"""A list of paths: a text file, a path a line, or what came in on stdin.

Behind each path may stand its class, as in `img/a.png 2`.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from adabn_cli.data.listing import Listing, Location, PathList
from adabn_cli.data.readers.listed_paths import is_there, listing_of_rows
from adabn_cli.data.readers.reader import Reader
from adabn_cli.data.tables.class_list import rows_of_lines
from adabn_cli.data.tables.columns import Columns
from adabn_cli.data.tables.rows import Rows
from adabn_cli.data.tables.text_file import UTF_16
from adabn_cli.errors import TargetError


def read(location: Location, columns: Columns) -> Listing:
    """The pictures that are listed, whatever their suffix; paths are relative to the list.

    Raises TargetError, with the line, for a path that is there twice, and where only some lines
    have a class.
    """
    if isinstance(location, PathList):
        listed, kind = location, "list on stdin"
    else:
        file = Path(location)
        listed, kind = list_of(file.read_bytes(), file.parent, str(file)), "list of paths"
    lines = [
        (f"line {line}", path) for line, path in enumerate(listed.paths, start=1) if path.strip()
    ]
    try:
        rows = rows_of_lines(lines, lambda path: is_there(listed.folder / columns.whole(path)))
    except ValueError as error:
        raise TargetError(
            f"The list cannot be used: {error}.",
            where=str(listed),
            hint="Write a class after every path, or after none.",
        ) from error
    whole = tuple(replace(row, path=columns.whole(row.path)) for row in rows)
    return listing_of_rows(kind, Rows(rows=whole), listed.folder / Path(listed.name).name)


def list_of(text: bytes, folder: Path, name: str = "-") -> PathList:
    """The paths in a text, a line each, as the system spells them."""
    if text.startswith(UTF_16):  # As Windows' own shell writes it.
        text = text.decode("utf-16", "replace").encode()
    lines = text.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return PathList(tuple(os.fsdecode(line.rstrip(b"\r")) for line in lines), folder, name)


READER = Reader(
    name="list",
    suffixes=(".txt", ".lst"),
    recognizes=lambda location, _: isinstance(location, PathList),
    read=read,
    has_paths=True,
)
