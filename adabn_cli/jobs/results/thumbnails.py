"""Small versions of the pictures that a run broke, for a page. Knows no page.

A record comes from disk and may name any file: only pictures that its target lists are read.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from adabn_cli.data.decoding import convert
from adabn_cli.data.listing import Location, PathList, in_turn, reading_order
from adabn_cli.data.picture_formats import picture_formats
from adabn_cli.data.readers.kinds import list_pictures
from adabn_cli.errors import AdabnError
from adabn_cli.record import Record

_PIXELS = 96
_RGB = 3


def thumbnails(record: Record) -> dict[str, bytes]:
    """PNG files of at most 96 px a side, by path; pictures that cannot be read are left out."""
    names = {part.path for part in record.broken}
    if record.target.path is None or not names or "://" in record.target.path:
        return {}  # Nothing is fetched because a file says so.
    try:
        listing = list_pictures(_location(record.target.path, names))
    except AdabnError:
        return {}  # The target is gone.
    pictures = reading_order(picture for picture in listing.pictures if picture.name in names)
    openings = zip(pictures, in_turn(pictures), strict=True)
    found = {picture.name: _thumbnail(opening) for picture, opening in openings}
    return {name: small for name, small in sorted(found.items()) if small is not None}


def pictures_of(record: Record) -> list[Path]:
    """The files that are read for them, if the target is a folder or a list on stdin."""
    target = record.target.path
    if target is None or "://" in target:
        return []
    return [Path("" if target == "-" else target) / part.path for part in record.broken]


def _location(path: str, names: set[str]) -> Location:
    """The target again; of a list that came in on stdin what lies below this folder."""
    if path != "-":
        return path
    return PathList(tuple(name for name in names if _is_below(PurePath(name))), Path())


def _is_below(path: PurePath) -> bool:
    return not path.is_absolute() and ".." not in path.parts


def _thumbnail(opening: Callable[[], BinaryIO]) -> bytes | None:
    try:
        with opening() as stream, Image.open(stream, formats=picture_formats()) as picture:
            # A large JPEG is decoded at an eighth of its size where that is still enough.
            picture.draft("RGB", (_PIXELS, _PIXELS))
            upright = ImageOps.exif_transpose(picture)
            values = np.asarray(upright)
            low, high = float(values.min()), float(values.max())
            # Of more than 8 bits the darkest is black and the brightest white.
            small, _ = convert(upright, _RGB, (low, max(high, low + 1)))
            small.thumbnail((_PIXELS, _PIXELS))
            written = io.BytesIO()
            small.save(written, "PNG", optimize=True)
    except Exception:
        # The picture may be gone or changed since, and decoders meet bytes with any error.
        return None
    return written.getvalue()
