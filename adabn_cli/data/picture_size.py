"""How large a picture may be: a file of some kilobytes can say that it is of any size.

Pillow's limit belongs to the process: it is raised while pictures are decoded, and put back.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from threading import Lock

from PIL import Image

# Pillow refuses what is twice as large as the size from which it warns.
_REFUSED = 2
_PIXELS = re.compile(r"\((\d+) pixels\)")


class TooLargeError(ValueError):
    """A picture of more `pixels` than are read."""

    def __init__(self, pixels: int) -> None:
        super().__init__(f"{in_millions(pixels)} million pixels, more than --max-pixels allows")
        self.pixels = pixels


def in_millions(pixels: int) -> int:
    """Millions of pixels, rounded up."""
    return math.ceil(pixels / 1_000_000)


def limit(max_pixels: int | None) -> float:
    """The pixels that a picture may have, by default those that Pillow opens: 179 million."""
    if max_pixels is not None:
        return max_pixels
    own = Image.MAX_IMAGE_PIXELS
    return math.inf if own is None else _REFUSED * own


def check_size(width: int, height: int, max_pixels: int | None) -> None:
    """Raises TooLargeError for a picture of more pixels than that."""
    if width * height > limit(max_pixels):
        raise TooLargeError(width * height)


def too_large(error: Exception) -> TooLargeError | None:
    """The error as ours, if it is one of a size."""
    if isinstance(error, Image.DecompressionBombError):
        found = _PIXELS.search(str(error))
        return TooLargeError(int(found[1]) if found else 0)
    return error if isinstance(error, TooLargeError) else None


_lock = Lock()
_raised: list[int] = []
_own: list[int | None] = []


@contextmanager
def up_to(max_pixels: int | None) -> Generator[None]:
    """Inside, Pillow opens pictures of so many pixels too, in all threads, and warns of none."""
    with warnings.catch_warnings(), _raised_to(max_pixels):
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


@contextmanager
def _raised_to(max_pixels: int | None) -> Generator[None]:
    if max_pixels is None:
        yield
        return
    with _lock:
        if not _raised:
            _own[:] = [Image.MAX_IMAGE_PIXELS]
        _raised.append(max_pixels)
        _set_limit()
    try:
        yield
    finally:
        with _lock:
            _raised.remove(max_pixels)
            _set_limit()


def _set_limit() -> None:
    """The process's own limit, or that of the runs that go on, if any of them is larger."""
    own = _own[0]
    if own is not None:
        Image.MAX_IMAGE_PIXELS = max(own, *(math.ceil(most / _REFUSED) for most in _raised), 0)
