"""A folder: all pictures and videos below it, by the path from there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from adabn_cli.data.folder_files import files_below
from adabn_cli.data.listing import Listing, Location, Picture, listing_of, opener
from adabn_cli.data.picture_formats import picture_suffixes
from adabn_cli.data.readers import video


def read(location: Location) -> Listing:
    """The pictures of a folder. Raises OSError where it cannot be listed."""
    listing = files_below(Path(str(location)), taken_suffixes())
    files = listing.pictures
    pictures = [picture for found in files for picture in pictures_in(found.name, found.file)]
    kind = kind_with_videos("folder", (found.file for found in files))
    return listing_of(kind, pictures, listing.skipped, listing.other_suffixes)


def taken_suffixes() -> frozenset[str]:
    """Lower-case suffixes of all files that hold pictures."""
    return picture_suffixes() | video.SUFFIXES


def pictures_in(name: str, file: Path) -> list[Picture]:
    """The pictures of a file called `name`: one, or the frames of a video."""
    if video.is_video(file):
        return video.frames_of(name, file)
    return [Picture(name, opener(file), file=file)]


def kind_with_videos(kind: str, files: Iterable[Path]) -> str:
    """What is said of the kind that has these files."""
    videos = sum(map(video.is_video, files))
    return f"{kind} with {videos} video{'s' if videos > 1 else ''}" if videos else kind
