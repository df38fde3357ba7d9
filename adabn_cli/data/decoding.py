"""The bytes of one picture to 8-bit gray or RGB pixels, and what had to be done to it.

Knows no reader and no model; what cannot be read comes back as a reason, not as an exception.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from adabn_cli.data.deep_values import (
    DeepPicture,
    ValueRange,
    in_8_bits,
    is_dicom,
    read_dicom,
    read_tiff,
)
from adabn_cli.data.framing import Pixels, frame, resized_size
from adabn_cli.data.picture_formats import picture_formats
from adabn_cli.data.picture_size import check_size, too_large
from adabn_cli.preprocessing import Preprocessing
from adabn_cli.text import one_line

_ORIENTATION = 0x0112  # EXIF tag; 1 is upright, 2 to 8 are the other seven ways to hold a camera.

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_BITS = 258  # TIFF's tag for the bits of each channel.

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
    """A picture as the model's size wants it, [H, W, C]; `size` is what the file had, upright.

    `frames_left_out` are the pages or frames behind the first.
    """

    pixels_HWC: Pixels
    size: tuple[int, int]
    conversions: tuple[str, ...]
    frames_left_out: int = 0


@dataclass(frozen=True)
class Unreadable:
    """Why a picture could not be read, on one line; its `pixels` if these were too many."""

    reason: str
    pixels: int | None = None


def decode(
    opening: Callable[[], BinaryIO],
    preprocessing: Preprocessing,
    value_range: ValueRange | None = None,
    max_pixels: int | None = None,
) -> Decoded | Unreadable:
    """The picture, upright, as gray or RGB, resized and cropped; or why it cannot be read.

    Of more than `max_pixels` (None: Pillow's limit) it is not; more than Pillow's takes `up_to`.
    """
    try:
        with opening() as stream:
            read = _read(stream, preprocessing, value_range, max_pixels)
    except Exception as error:
        # Decoders meet hostile bytes with anything from SyntaxError to ZeroDivisionError.
        large = too_large(error)
        return Unreadable(reason_of(large or error), large.pixels if large else None)
    try:
        framed_HWC = np.ascontiguousarray(frame(read.pixels_HWC, preprocessing))
    except ValueError as error:
        return Unreadable(str(error))
    return replace(read, pixels_HWC=framed_HWC)


def _read(
    stream: BinaryIO,
    preprocessing: Preprocessing,
    value_range: ValueRange | None,
    max_pixels: int | None,
) -> Decoded:
    """The picture in its own size, or in a fraction of that by `fast_decode`."""
    channels = preprocessing.channels
    if is_dicom(stream):
        return _of_deep(read_dicom(stream, value_range, max_pixels), channels)
    try:
        opened = Image.open(stream, formats=picture_formats())
    except UnidentifiedImageError as error:
        if _starts_as_tiff(stream):  # Of more than 8 bits in each of several channels, for one.
            return _of_deep(read_tiff(stream, value_range, max_pixels), channels)
        empty = stream.seek(0, os.SEEK_END) == 0
        raise ValueError("empty file" if empty else "not a picture in a known format") from error
    with opened as picture:
        check_size(*picture.size, max_pixels)
        if _is_deep_colour(picture):
            stream.seek(0)
            return _of_deep(read_tiff(stream, value_range, max_pixels), channels)
        steps = []
        # Asked for before loading: Pillow turns a TIFF upright while it loads it.
        if picture.getexif().get(_ORIENTATION, 1) in range(2, 9):
            steps.append("EXIF rotation")
        # What follows in an MPO is the camera's preview or depth of the first.
        frames = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
        if frames > 1:
            steps.append("first frame of several")
        reduction = _reduce(picture, preprocessing) if preprocessing.fast_decode else 1
        if reduction > 1:
            steps.append(f"JPEG decoded at 1/{reduction}")
        picture.load()
        plain, conversions = convert(ImageOps.exif_transpose(picture), channels, value_range)
        pixels = np.array(plain)
    height, width = pixels.shape[:2]
    pixels_HWC = pixels.reshape(height, width, channels)
    size = (height * reduction, width * reduction)
    return Decoded(pixels_HWC, size, (*steps, *conversions), frames - 1)


def _reduce(picture: Image.Image, preprocessing: Preprocessing) -> int:
    """Makes a JPEG file load at a half, a quarter or an eighth of its size; 1 where at none.

    Of at least twice what it becomes, or the decoder's coarser filter would show; and at one that
    divides its sides, as it does a camera's, or the last pixels would be of fewer than the others.
    """
    width, height = picture.size
    room = min(width, height) // (2 * min(resized_size((height, width), preprocessing)))
    for reduction in (8, 4, 2):
        if reduction <= room and width % reduction == height % reduction == 0:
            picture.draft(None, (width // reduction, height // reduction))
            break
    return width // picture.width


def _of_deep(read: DeepPicture, channels: int) -> Decoded:
    plain, conversions = convert(read.image, channels)
    pixels = np.array(plain)
    height, width = pixels.shape[:2]
    steps = (*read.steps, *conversions)
    pixels_HWC = pixels.reshape(height, width, channels)
    return Decoded(pixels_HWC, (height, width), steps, read.frames - 1)


def _is_deep_colour(picture: Image.Image) -> bool:
    """Whether it is TIFF with several channels of 16 bits, of which Pillow takes some bytes."""
    tags = getattr(picture, "tag_v2", {})
    return picture.mode in ("RGB", "RGBA", "RGBX") and max(tags.get(_BITS, (8,))) > 8


def _starts_as_tiff(stream: BinaryIO) -> bool:
    stream.seek(0)
    start = stream.read(4)
    stream.seek(0)
    return start in _TIFF


def convert(
    picture: Image.Image, channels: int, value_range: ValueRange | None = None
) -> tuple[Image.Image, tuple[str, ...]]:
    """The picture in mode L (1 channel) or RGB (3), and the steps that led there.

    Raises ValueError for more than 8 bits where there is no `value_range` that says what is black
    and what is white; floats from 0 to 1 need none. Alpha is dropped and not blended, as
    `ImageFolder` and timm do.
    """
    mode, colour = ("L", "gray") if channels == 1 else ("RGB", "RGB")
    steps = []
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        picture, step = _in_8_bits(picture, value_range)
        steps.append(step)
    if picture.has_transparency_data:
        steps.append("alpha dropped")
        picture = picture.convert(_PREMULTIPLIED.get(picture.mode, picture.mode))
    had = _COLOURS.get(picture.mode, picture.mode)
    if had != colour:
        steps.append(f"{had} to {colour}")
    if picture.mode == "LAB":
        picture = _from_lab(picture)
    return picture.convert(mode), tuple(steps)


def _in_8_bits(picture: Image.Image, value_range: ValueRange | None) -> tuple[Image.Image, str]:
    values = np.asarray(picture)
    if value_range is None and picture.mode == "F" and values.min() >= 0 and values.max() <= 1:
        return Image.fromarray(np.rint(values * 255).astype(np.uint8)), "float to 8-bit"
    pixels, step = in_8_bits(values, value_range)
    return Image.fromarray(pixels), step


def _from_lab(picture: Image.Image) -> Image.Image:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB")
    if converted is None:
        raise ValueError("LAB picture that could not be converted to RGB")
    return converted


def reason_of(error: Exception) -> str:
    """Why a picture could not be read, on one line."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    kind = type(error).__name__
    return one_line(str(error).strip()) or kind
