"""One video as a source."""

from __future__ import annotations

from pathlib import Path

from adabn_cli.data.readers.videos import frames_of
from adabn_cli.data.source import Location, Source, source_of
from adabn_cli.text import valid_text


def read_source(location: Location) -> Source:
    """The frames of the video, in their order."""
    file = Path(str(location))
    file.stat()
    return source_of("video", frames_of(valid_text(file.name), file))
