"""All readers, which one a location asks for, and the pictures there. Opens no picture.

The path alone tells: a URL, a folder, a file by its suffix, a pattern; `--target-format` says it
where that fails.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from adabn_cli.data.listing import Listing, Location, PathList, in_order
from adabn_cli.data.picture_formats import picture_suffixes
from adabn_cli.data.readers import (
    folder,
    folder_metadata,
    manifest,
    path_list,
    path_pattern,
    remote,
    tar,
    video,
)
from adabn_cli.data.readers.reader import Reader
from adabn_cli.data.tables.columns import BY_HEADER, Columns
from adabn_cli.errors import TargetError, UsageError
from adabn_cli.text import one_line

#: From the general to the special: the last one that recognizes a location reads it, and a folder
#: is whatever no other does.
READERS: tuple[Reader, ...] = (
    folder.READER,
    folder_metadata.READER,
    path_list.READER,
    path_pattern.READER,
    manifest.CSV,
    manifest.TSV,
    manifest.PARQUET,
    video.READER,
    tar.READER,
    remote.READER,
)


def list_pictures(
    location: Location,
    said: str | None = None,
    stride: int = 1,
    columns: Columns = BY_HEADER,
) -> Listing:
    """All pictures there, sorted by name; of videos every frame whose number `stride` divides.

    Raises TargetError where there is none, or they cannot be listed; UsageError if `said` is the
    name of no reader.
    """
    try:
        listing = in_order(reader_of(location, said, columns).read(location, columns))
    except OSError as error:
        raise TargetError(
            f"The pictures cannot be read: {error.strerror or error}.",
            where=str(location),
            hint="Check the path and its permissions.",
        ) from error
    if not listing.pictures and not listing.skipped:
        raise _no_picture(listing, location)
    if stride == 1:
        return listing
    taken = (one for one in listing.pictures if one.frame is None or one.frame % stride == 0)
    return replace(listing, pictures=tuple(taken))


def reader_of(location: Location, said: str | None = None, columns: Columns = BY_HEADER) -> Reader:
    """The reader that was said by its name, or that the path tells.

    Raises UsageError for a name of none, TargetError where the path does not tell.
    """
    if said is not None:
        by_name = {reader.name: reader for reader in READERS}
        if said not in by_name:
            raise UsageError(
                f"--target-format {said} is unknown.", hint=f"It takes {', '.join(by_name)}."
            )
        return by_name[said]
    if not isinstance(location, PathList) and Path(location).is_file():
        return _reader_of_file(Path(location))
    return next(one for one in reversed(READERS) if one.recognizes(location, columns))


def _reader_of_file(file: Path) -> Reader:
    for reader in READERS:
        if file.name.lower().endswith(reader.suffixes):
            return reader
    suffixes = " ".join(suffix for reader in READERS for suffix in reader.suffixes)
    raise TargetError(
        "This is a file, not a folder or a list of pictures.",
        where=str(file),
        hint=f"Give a folder, or a file of a known kind: {suffixes}.",
    )


def _no_picture(listing: Listing, location: Location) -> TargetError:
    others = sorted(listing.other_suffixes.items(), key=lambda item: (-item[1], item[0]))[:3]
    seen = ", ".join(f"{count} {one_line(suffix) or 'without suffix'}" for suffix, count in others)
    return TargetError(
        f"There is no picture here ({listing.kind}{f'; files: {seen}' if seen else ''}).",
        where=str(location),
        hint=f"Give pictures. Suffixes: {' '.join(sorted(picture_suffixes()))}.",
    )
