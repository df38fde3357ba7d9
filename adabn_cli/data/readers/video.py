"""The frames of a video as pictures, `clip.mp4#000123`, decoded from front to back. Needs PyAV."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from adabn_cli.data.listing import Listing, Location, Picture, Turn
from adabn_cli.data.readers.reader import Reader
from adabn_cli.data.tables.columns import Columns
from adabn_cli.text import one_line, valid_text

SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")


def read(location: Location, _: Columns) -> Listing:
    """The frames of one video, in their order."""
    file = Path(str(location))
    file.stat()
    return Listing(kind="video", pictures=frames_of(valid_text(file.name), file))


def is_video(file: Path) -> bool:
    """Whether it is a video by its suffix."""
    return file.suffix.lower() in SUFFIXES


def frames_of(name: str, file: Path, label: str | None = None) -> list[Picture]:
    """A picture for each frame; a single one that cannot be read where the video cannot be."""
    try:
        frames = _count(file)
    except Exception as error:  # Demuxers meet hostile bytes with anything, as decoders do.
        return [Picture(name, partial(_fail, _reason(error)), label=label, file=file)]
    reel = _VideoReel(file)
    return [
        Picture(
            f"{name}#{index:06}",
            partial(reel.open, index),
            label=label,
            turn=Turn(reel, index),
            frame=index,
            file=file,
        )
        for index in range(frames)
    ]


def _count(file: Path) -> int:
    """How many frames the container says that it has; none is decoded."""
    import av

    with av.open(str(file)) as container:
        if not container.streams.video:
            raise ValueError("no video in this file")
        frames = sum(packet.size > 0 for packet in container.demux(container.streams.video[0]))
    if not frames:
        raise ValueError("a video without frames")
    return frames


class _VideoReel:
    """A video that is decoded from its first frame on."""

    def __init__(self, file: Path) -> None:
        self.name = str(file)
        self._container: Any = None
        self._frames: Iterator[Any] = iter(())
        self._next = 0

    def open(self, index: int) -> BinaryIO:
        """The frame of that number as a PPM file, upright."""
        if self._container is None or index < self._next:
            self._rewind()
        for frame in self._frames:
            self._next += 1
            if self._next > index:
                return _as_ppm(frame)
        raise ValueError(f"the video ends after {self._next} frames")

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    def _rewind(self) -> None:
        import av

        self.close()
        self._container = av.open(self.name)
        self._frames, self._next = self._container.decode(video=0), 0


def _as_ppm(frame: Any) -> BinaryIO:
    # Telephones store how they were held, in degrees counter-clockwise.
    turned_HWC = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
    height, width = turned_HWC.shape[:2]
    return io.BytesIO(b"P6 %d %d 255\n" % (width, height) + turned_HWC.tobytes())


def _fail(reason: str) -> BinaryIO:
    raise ValueError(reason)


def _reason(error: Exception) -> str:
    if isinstance(error, ImportError):
        return 'a video, which takes pip install "adabn[video]"'
    return f"no readable video: {one_line(getattr(error, 'strerror', None) or str(error)).lower()}"


READER = Reader(name="video", suffixes=SUFFIXES, read=read)
