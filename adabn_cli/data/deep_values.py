"""Pictures of more than 8 bits to 8, by a range of values that somebody has to say.

16 bits may hold 0 to 65535, a camera's 0 to 4095 or a scanner's -1024 to 3071: no file tells which.
DICOM needs pydicom, TIFF files that Pillow does not read need tifffile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from adabn_cli.data.framing import Pixels
from adabn_cli.data.picture_size import check_size

#: The values that become black and white.
ValueRange = tuple[float, float]

_PREAMBLE = 128


@dataclass(frozen=True)
class DeepPicture:
    """The first frame of a file, in 8 bits, the steps that led there, and how many it has."""

    image: Image.Image
    steps: tuple[str, ...]
    frames: int = 1


def in_8_bits(values: NDArray[Any], value_range: ValueRange | None) -> tuple[Pixels, str]:
    """The values as bytes, cut at the ends of the range, and what was done in words.

    Raises ValueError, with the range that they have, where none was given.
    """
    if value_range is None:
        low, high = values.min(), values.max()
        told = f"values from {low:g} to {high:g}"
        raise ValueError(f"{told}, of which --value-range LOW,HIGH has to say the meaning")
    low, high = value_range
    shares = (values.astype(np.float64) - low) / (high - low)
    if np.isnan(shares).any():
        raise ValueError("values that are not numbers (NaN)")
    return np.rint(shares.clip(0, 1) * 255).astype(np.uint8), f"{low:g} to {high:g} as 8-bit"


def is_dicom(stream: BinaryIO) -> bool:
    """Whether the file says that it is DICOM; the stream is at its start afterwards."""
    head = stream.read(_PREAMBLE + 4)
    stream.seek(0)
    return head[_PREAMBLE:] == b"DICM"


def read_dicom(
    stream: BinaryIO, value_range: ValueRange | None, max_pixels: int | None = None
) -> DeepPicture:
    """The picture, in its modality's units (slope, intercept) and white on black, and the steps."""
    try:
        from pydicom import dcmread
        from pydicom.pixels.processing import apply_rescale, convert_color_space
    except ImportError as error:
        raise ValueError('a DICOM file, which takes pip install "adabn[dicom]"') from error
    data = dcmread(stream)
    check_size(int(data.get("Columns", 0)), int(data.get("Rows", 0)), max_pixels)
    values, steps = data.pixel_array, []
    frames = int(data.get("NumberOfFrames", 1) or 1)
    if frames > 1:
        values, steps = values[0], ["first frame of several"]
    meaning = str(data.PhotometricInterpretation)
    if values.ndim == 3:
        if meaning.startswith("YBR"):
            values = convert_color_space(values, meaning, "RGB")
        if values.dtype != np.uint8:
            values, step = in_8_bits(values, value_range)
            steps.append(step)
        return DeepPicture(Image.fromarray(values), tuple(steps), frames)
    pixels, step = in_8_bits(apply_rescale(values, data), value_range)
    steps.append(step)
    if meaning == "MONOCHROME1":
        pixels, steps = 255 - pixels, [*steps, "MONOCHROME1 inverted"]
    return DeepPicture(Image.fromarray(pixels), tuple(steps), frames)


def read_tiff(
    stream: BinaryIO, value_range: ValueRange | None, max_pixels: int | None = None
) -> DeepPicture:
    """The first page of a TIFF file of one or three channels, and the steps."""
    try:
        import tifffile
    except ImportError as error:
        raise ValueError('a TIFF file which takes pip install "adabn[tiff]"') from error
    with tifffile.TiffFile(stream) as file:
        page, frames, steps = file.pages.first, len(file.pages), []
        # A damaged header may say any size, and any number of channels.
        planes = math.ceil(page.samplesperpixel / 4)
        check_size(page.imagewidth, page.imagelength * planes, max_pixels)
        values = np.squeeze(page.asarray())
    if values.ndim == 3 and values.shape[0] in (3, 4):
        values = np.moveaxis(values, 0, -1)  # A plane for each channel.
    if values.ndim == 3 and values.shape[2] == 4:
        values, steps = values[..., :3], ["fourth channel dropped"]
    if values.ndim != 2 and values.shape[2:] != (3,):
        raise ValueError(f"a TIFF file of shape {values.shape}, neither gray nor RGB")
    pixels, step = in_8_bits(values, value_range)
    several = ["first frame of several"] * (frames > 1)
    return DeepPicture(Image.fromarray(pixels), (*several, *steps, step), frames)
