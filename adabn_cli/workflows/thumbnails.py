"""Small versions of the pictures that a run broke, for a page. Knows no page.

A record comes from disk and may name any file: pictures are looked for below the target alone.
"""

from __future__ import annotations

import io
from pathlib import Path, PurePath

from PIL import Image, ImageOps

from adabn_cli.record import Record
from adabn_cli.targets.decoding import convert
from adabn_cli.targets.picture_formats import picture_formats

_PIXELS = 96
_RGB = 3


def thumbnails(record: Record) -> dict[str, bytes]:
    """PNG files of at most 96 px a side, by path; pictures that cannot be read are left out."""
    if record.target.path is None:
        return {}
    folder = Path(record.target.path)
    paths = {part.path for part in record.broken if _is_below(PurePath(part.path))}
    found = {path: _thumbnail(folder / path) for path in sorted(paths)}
    return {path: picture for path, picture in found.items() if picture is not None}


def _is_below(path: PurePath) -> bool:
    return not path.is_absolute() and ".." not in path.parts


def _thumbnail(file: Path) -> bytes | None:
    try:
        with Image.open(file, formats=picture_formats()) as picture:
            # A large JPEG is decoded at an eighth of its size where that is still enough.
            picture.draft("RGB", (_PIXELS, _PIXELS))
            small, _ = convert(ImageOps.exif_transpose(picture), _RGB)
            small.thumbnail((_PIXELS, _PIXELS))
            written = io.BytesIO()
            small.save(written, "PNG", optimize=True)
    except Exception:
        # The picture may be gone or changed since, and decoders meet bytes with any error.
        return None
    return written.getvalue()
