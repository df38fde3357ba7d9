"""What a file on disk holds: one picture, or the frames of a video. Told by its suffix."""

from __future__ import annotations

from pathlib import Path

from adabn_cli.data.picture_formats import picture_suffixes
from adabn_cli.data.readers import videos
from adabn_cli.data.source import Picture, opener


def taken_suffixes() -> frozenset[str]:
    """Lower-case suffixes of all files that hold pictures."""
    return picture_suffixes() | videos.SUFFIXES


def pictures_in(name: str, file: Path) -> list[Picture]:
    """The pictures of a file called `name`."""
    if file.suffix.lower() in videos.SUFFIXES:
        return videos.frames_of(name, file)
    return [Picture(name, opener(file), file=file)]


def kind_with_videos(kind: str, files: int) -> str:
    """What a source is called that has so many videos."""
    return f"{kind} with {files} video{'s' if files > 1 else ''}" if files else kind


def is_video(file: Path) -> bool:
    """Whether it is a video by its suffix."""
    return file.suffix.lower() in videos.SUFFIXES
