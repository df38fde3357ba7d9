"""A folder as a source: all pictures and videos below it, by the path from there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from adabn_cli.data.folder_files import list_pictures
from adabn_cli.data.listing import Location, Picture, Source, opener, source_of
from adabn_cli.data.picture_formats import picture_suffixes
from adabn_cli.data.readers import video


def read_source(location: Location) -> Source:
    """The pictures of a folder. Raises OSError where it cannot be listed."""
    listing = list_pictures(Path(str(location)), taken_suffixes())
    files = listing.pictures
    pictures = [picture for found in files for picture in pictures_in(found.name, found.file)]
    kind = kind_with_videos("folder", (found.file for found in files))
    return source_of(kind, pictures, listing.skipped, listing.other_suffixes)


def taken_suffixes() -> frozenset[str]:
    """Lower-case suffixes of all files that hold pictures."""
    return picture_suffixes() | video.SUFFIXES


def pictures_in(name: str, file: Path) -> list[Picture]:
    """The pictures of a file called `name`: one, or the frames of a video."""
    if video.is_video(file):
        return video.frames_of(name, file)
    return [Picture(name, opener(file), file=file)]


def kind_with_videos(kind: str, files: Iterable[Path]) -> str:
    """What a source is called that has these files."""
    videos = sum(map(video.is_video, files))
    return f"{kind} with {videos} video{'s' if videos > 1 else ''}" if videos else kind
