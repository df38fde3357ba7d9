"""One video as a source."""

from __future__ import annotations

from pathlib import Path

from adabn_cli.printable import valid_text
from adabn_cli.targets.source import Location, Source, source_of
from adabn_cli.targets.videos import frames_of


def read_source(location: Location) -> Source:
    """The frames of the video, in their order."""
    file = Path(str(location))
    file.stat()
    return source_of("video", frames_of(valid_text(file.name), file))
