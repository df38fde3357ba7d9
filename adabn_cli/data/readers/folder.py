"""A folder: all pictures and videos below it, by the path from there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from adabn_cli.data.folder_files import PictureFile, files_below
from adabn_cli.data.listing import Listing, Location, Picture, opener
from adabn_cli.data.picture_formats import picture_suffixes
from adabn_cli.data.readers import video
from adabn_cli.data.readers.reader import Reader
from adabn_cli.data.tables.columns import Columns


def read(location: Location, _: Columns) -> Listing:
    """The pictures of a folder. Raises OSError where it cannot be listed."""
    found = files_below(Path(str(location)), taken_suffixes())
    return Listing(
        kind=kind_with_videos("folder", found.pictures),
        pictures=pictures_in(found.pictures),
        skipped=found.skipped,
        other_suffixes=found.other_suffixes,
        is_folder=True,
    )


def taken_suffixes() -> frozenset[str]:
    """Lower-case suffixes of all files that hold pictures."""
    return picture_suffixes() | frozenset(video.SUFFIXES)


def pictures_in(files: Iterable[PictureFile]) -> list[Picture]:
    """The pictures of files: one of each, or the frames of a video."""
    pictures = []
    for found in files:
        if video.is_video(found.file):
            pictures += video.frames_of(found.name, found.file)
        else:
            pictures.append(Picture(found.name, opener(found.file), file=found.file))
    return pictures


def kind_with_videos(kind: str, files: Sequence[PictureFile]) -> str:
    """What is said of the kind that has these files."""
    videos = sum(video.is_video(found.file) for found in files)
    return f"{kind} with {videos} video{'s' if videos > 1 else ''}" if videos else kind


# What is not there is a folder too: it says in the system's words why it cannot be read.
READER = Reader(name="folder", recognizes=lambda *_: True, read=read)
