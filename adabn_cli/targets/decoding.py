"""One picture file to 8-bit gray or RGB pixels, and what had to be done to it.

Knows no folder and no model; what cannot be read comes back as a reason, not as an exception.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from adabn_cli.model import Preprocessing
from adabn_cli.printable import one_line
from adabn_cli.targets.framing import Pixels, frame
from adabn_cli.targets.picture_formats import picture_formats

_ORIENTATION = 0x0112  # EXIF tag; 1 is upright, 2 to 8 are the other seven ways to hold a camera.

_COLOURS = {
    "1": "1-bit",
    "L": "gray",
    "LA": "gray",
    "P": "palette",
    "PA": "palette",
    "RGBA": "RGB",
    "RGBX": "RGB",
}

# Premultiplied colours have to be divided by their alpha before it is dropped.
_PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}


@dataclass(frozen=True)
class Decoded:
    """A picture as the model's size wants it, [H, W, C]; `size` is what the file had, upright."""

    pixels_HWC: Pixels
    size: tuple[int, int]
    conversions: tuple[str, ...]


@dataclass(frozen=True)
class Unreadable:
    """Why a picture could not be read, on one line."""

    reason: str


def decode(file: Path, preprocessing: Preprocessing) -> Decoded | Unreadable:
    """The picture, upright, as gray or RGB, resized and cropped; or why it cannot be read."""
    channels = preprocessing.channels
    try:
        pixels_HWC, conversions = _read(file, channels)
    except Exception as error:
        # Decoders meet hostile bytes with anything from SyntaxError to ZeroDivisionError.
        return Unreadable(_reason(error, file))
    try:
        framed_HWC = np.ascontiguousarray(frame(pixels_HWC, preprocessing))
    except ValueError as error:
        return Unreadable(str(error))
    height, width = pixels_HWC.shape[:2]
    return Decoded(framed_HWC, (height, width), conversions)


def _read(file: Path, channels: int) -> tuple[Pixels, tuple[str, ...]]:
    with file.open("rb") as stream, Image.open(stream, formats=picture_formats()) as picture:
        steps = []
        # Asked for before loading: Pillow turns a TIFF upright while it loads it.
        if picture.getexif().get(_ORIENTATION, 1) in range(2, 9):
            steps.append("EXIF rotation")
        if getattr(picture, "is_animated", False):
            steps.append("first frame of several")
        picture.load()
        plain, conversions = convert(ImageOps.exif_transpose(picture), channels)
        pixels = np.array(plain)
    return pixels.reshape(*pixels.shape[:2], channels), (*steps, *conversions)


def convert(picture: Image.Image, channels: int) -> tuple[Image.Image, tuple[str, ...]]:
    """The picture in mode L (1 channel) or RGB (3), and the steps that led there.

    Raises ValueError for values that 8 bits cannot hold. Alpha is dropped and not blended, as
    `ImageFolder` and timm do. 16 bits are scaled, not cut.
    """
    mode, colour = ("L", "gray") if channels == 1 else ("RGB", "RGB")
    steps = []
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        steps.append("16-bit to 8-bit")
        picture = _from_integers(picture)
    elif picture.mode == "F":
        steps.append("float to 8-bit")
        picture = _from_floats(picture)
    if picture.has_transparency_data:
        steps.append("alpha dropped")
        picture = picture.convert(_PREMULTIPLIED.get(picture.mode, picture.mode))
    had = _COLOURS.get(picture.mode, picture.mode)
    if had != colour:
        steps.append(f"{had} to {colour}")
    if picture.mode == "LAB":
        picture = _from_lab(picture)
    return picture.convert(mode), tuple(steps)


def _from_integers(picture: Image.Image) -> Image.Image:
    values = np.asarray(picture).astype(np.int64)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ValueError(f"32-bit picture with values from {low} to {high}, not 0 to 65535")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _from_floats(picture: Image.Image) -> Image.Image:
    values = np.asarray(picture)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # Also false for NaN.
        raise ValueError(f"float picture with values from {low:g} to {high:g}, not 0 to 1")
    return Image.fromarray(np.rint(values * 255).astype(np.uint8))


def _from_lab(picture: Image.Image) -> Image.Image:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB")
    if converted is None:
        raise ValueError("LAB picture that could not be converted to RGB")
    return converted


def _reason(error: Exception, file: Path) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "empty file" if file.stat().st_size == 0 else "not a picture in a known format"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    kind = type(error).__name__
    return one_line(str(error).strip()) or kind
