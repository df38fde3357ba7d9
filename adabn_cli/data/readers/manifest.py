"""A CSV or TSV file with a column of paths; paths are relative to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from adabn_cli.data.listing import Listing, Location
from adabn_cli.data.readers.listed_paths import listing_of_rows
from adabn_cli.data.tables.columns import BY_HEADER, HINT, Columns, read_rows
from adabn_cli.data.tables.text_file import read_text_or_latin
from adabn_cli.errors import TargetError


def read(location: Location, columns: Columns = BY_HEADER) -> Listing:
    """The pictures that the manifest lists, with their labels where it has them.

    Raises TargetError, with the line, where it cannot be understood.
    """
    file = Path(str(location))
    text, notes = read_text_or_latin(file)
    try:
        found = read_rows(text, columns)
    except ValueError as error:
        raise TargetError(
            f"The manifest cannot be used: {error}.",
            where=str(file),
            hint=f"{HINT}; paths are relative to the file.",
        ) from error
    kind = f"{'TSV' if file.suffix.lower() == '.tsv' else 'CSV'} manifest"
    return listing_of_rows(kind, replace(found, notes=notes), file)
