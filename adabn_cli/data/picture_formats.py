"""Which files are pictures, told by their suffix. Opens no file."""

from __future__ import annotations

from functools import cache

from PIL import Image

# Suffixes by Pillow's name for the decoder. A closed list: left to itself Pillow tries every plugin
# on any file, and the one for EPS starts Ghostscript.
_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (),  # What two-lens and many telephone cameras write into a .jpg.
    "PNG": (".png",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "JPEG2000": (".jp2",),
    "AVIF": (".avif",),
}


DICOM_SUFFIXES = frozenset({".dcm", ".dicom"})


@cache
def picture_formats() -> tuple[str, ...]:
    """The formats that are tried on a file, where this Pillow can read them."""
    Image.init()
    return tuple(name for name in _SUFFIXES if name in Image.OPEN)


@cache
def picture_suffixes() -> frozenset[str]:
    """Lower-case suffixes of the files that are taken for pictures, ".jpg" and so on."""
    return DICOM_SUFFIXES | frozenset(
        suffix for name in picture_formats() for suffix in _SUFFIXES[name]
    )
