"""Resize and centre crop of 8-bit pictures, as torchvision and timm do it. Opens no file.

Shapes: H height, W width, C channels (1 or 3).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import interpolate

from adabn_cli.preprocessing import Preprocessing

Pixels = NDArray[np.uint8]

# The size that Pillow itself refuses to decode. A picture of 1 x 30,000 pixels, brought to 224 on
# its shorter side, would take 1.5e9.
_MOST_PIXELS = 178_956_970


def frame(pixels_HWC: Pixels, preprocessing: Preprocessing) -> Pixels:
    """The picture resized and cut to `preprocessing.size`, [height, width, C].

    Raises ValueError where the resized picture would be too large to hold.
    """
    height, width = resized_size(pixels_HWC.shape[:2], preprocessing)
    if height * width > _MOST_PIXELS:
        before = "{1} x {0}".format(*pixels_HWC.shape)
        raise ValueError(f"too narrow: {before} pixels resized become {width} x {height}")
    resized_HWC = _resize(pixels_HWC, (height, width), preprocessing.interpolation)
    # torchvision rounds half to even here, as Python's round does.
    crop_height, crop_width = preprocessing.size
    top, left = round((height - crop_height) / 2), round((width - crop_width) / 2)
    return resized_HWC[top : top + crop_height, left : left + crop_width]


def resized_size(size: tuple[int, ...], preprocessing: Preprocessing) -> tuple[int, int]:
    """Height and width before the crop; both cover it.

    For a square crop that of torchvision's `Resize(int)`, which truncates the longer side; for
    others that of timm's `ResizeKeepRatio`, which rounds.
    """
    height, width = size
    to_height, to_width = (math.floor(side / preprocessing.crop_pct) for side in preprocessing.size)
    if to_height != to_width:
        ratio = min(height / to_height, width / to_width)
        return round(height / ratio), round(width / ratio)
    if width <= height:
        return int(to_width * height / width), to_width
    return to_height, int(to_height * width / height)


def _resize(pixels_HWC: Pixels, size: tuple[int, int], interpolation: str) -> Pixels:
    if pixels_HWC.shape[:2] == size:
        return pixels_HWC
    # torch resizes bytes in a third of Pillow's time, bilinear at most one level off it. Its
    # bicubic is up to 31 levels off at sharp edges, and its nearest takes another pixel.
    if interpolation != "bilinear":
        return _resize_by_pillow(pixels_HWC, size, Image.Resampling[interpolation.upper()])
    images = torch.from_numpy(pixels_HWC).permute(2, 0, 1).unsqueeze(0)
    resized = interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)
    resized_HWC: Pixels = resized[0].permute(1, 2, 0).numpy()
    return resized_HWC


def _resize_by_pillow(
    pixels_HWC: Pixels, size: tuple[int, int], resampling: Image.Resampling
) -> Pixels:
    channels = pixels_HWC.shape[2]
    picture = Image.fromarray(pixels_HWC[:, :, 0] if channels == 1 else pixels_HWC)
    resized = np.asarray(picture.resize((size[1], size[0]), resampling))
    return resized.reshape(*size, channels)
