"""A folder as a source: all pictures and videos below it, by the path from there."""

from __future__ import annotations

from pathlib import Path

from adabn_cli.data.listing import list_pictures
from adabn_cli.data.readers.picture_files import (
    is_video,
    kind_with_videos,
    pictures_in,
    taken_suffixes,
)
from adabn_cli.data.source import Location, Source, source_of


def read_source(location: Location) -> Source:
    """The pictures of a folder. Raises OSError where it cannot be listed."""
    listing = list_pictures(Path(str(location)), taken_suffixes())
    files = listing.pictures
    pictures = [picture for found in files for picture in pictures_in(found.name, found.file)]
    kind = kind_with_videos("folder", sum(is_video(found.file) for found in files))
    return source_of(kind, pictures, listing.skipped, listing.other_suffixes)
