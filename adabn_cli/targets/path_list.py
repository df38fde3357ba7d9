"""A list of paths as a source: a text file, a path a line, or what came in on stdin."""

from __future__ import annotations

import os
from pathlib import Path

from adabn_cli.targets.listed_paths import Row, pictures_of
from adabn_cli.targets.source import Location, PathList, Source, source_of


def read_source(location: Location) -> Source:
    """The pictures that are listed, whatever their suffix; paths are relative to the list.

    Raises TargetError, with the line, for a path that is there twice.
    """
    if isinstance(location, PathList):
        listed, kind = location, "list on stdin"
    else:
        file = Path(location)
        listed, kind = list_of(file.read_bytes(), file.parent, str(file)), "list of paths"
    rows = [
        Row(f"line {line}", path) for line, path in enumerate(listed.paths, start=1) if path.strip()
    ]
    return source_of(kind, pictures_of(rows, listed.folder, str(listed)))


def list_of(text: bytes, folder: Path, name: str = "-") -> PathList:
    """The paths in a text, a line each, as the system spells them."""
    lines = text.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return PathList(tuple(os.fsdecode(line.rstrip(b"\r")) for line in lines), folder, name)
