"""Sizes and pixels after resize and crop, against Pillow, torchvision and timm."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from adabn_cli.data.framing import frame, resized_size
from adabn_cli.preprocessing import Preprocessing


def rgb(size: tuple[int, int], crop_pct: float = 1.0, interpolation: str = "bilinear"):
    return Preprocessing(size, (0.5,) * 3, (0.5,) * 3, crop_pct, interpolation)


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def of_pillow(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def of_torchvision(pixels: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    from torchvision.transforms import CenterCrop, InterpolationMode, Resize

    scaled = int(preprocessing.size[0] / preprocessing.crop_pct)
    mode = InterpolationMode(preprocessing.interpolation)
    picture = Resize(scaled, mode)(of_pillow(pixels))
    return np.asarray(CenterCrop(preprocessing.size)(picture)).reshape(*preprocessing.size, -1)


SHAPES = [
    (8, 8),
    (28, 28),
    (31, 47),
    (47, 31),
    (333, 500),
    (501, 224),
    (10, 90),
    (1, 5),
    (225, 226),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize(("size", "crop_pct"), [(32, 1.0), (33, 0.875), (64, 0.95)])
def test_pixels_are_torchvisions_within_one_level(shape, channels, interpolation, size, crop_pct):
    preprocessing = rgb((size, size), crop_pct, interpolation)
    pixels = noise(*shape, channels)
    ours = frame(pixels, preprocessing).astype(int)
    theirs = of_torchvision(pixels, preprocessing).astype(int)
    assert ours.shape == theirs.shape == (size, size, channels)
    assert np.abs(ours - theirs).max() <= (1 if interpolation == "bilinear" else 0)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(300, 400), (64, 48), (20, 21)])
def test_pixels_are_pillows_within_one_level(shape, interpolation):
    pixels = noise(*shape)
    preprocessing = rgb((50, 50), 1.0, interpolation)
    height, width = resized_size(shape, preprocessing)
    how = Image.Resampling[interpolation.upper()]
    resized = np.asarray(Image.fromarray(pixels).resize((width, height), how)).astype(int)
    top, left = round((height - 50) / 2), round((width - 50) / 2)
    theirs = resized[top : top + 50, left : left + 50]
    assert np.abs(frame(pixels, preprocessing).astype(int) - theirs).max() <= 1


@settings(deadline=None, max_examples=300)
@given(
    st.tuples(st.integers(1, 600), st.integers(1, 600)),
    st.integers(1, 300),
    st.sampled_from([1.0, 0.875, 0.9, 0.95, 0.96, 224 / 256]),
)
def test_a_square_size_is_resized_as_torchvision_does(shape, size, crop_pct):
    from torchvision.transforms.functional import _compute_resized_output_size

    scaled = int(size / crop_pct)
    ours = resized_size(shape, rgb((size, size), crop_pct))
    assert list(ours) == _compute_resized_output_size(shape, [scaled])
    assert min(ours) >= size


@settings(deadline=None, max_examples=300)
@given(
    st.tuples(st.integers(1, 600), st.integers(1, 600)),
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.sampled_from([1.0, 0.875, 0.95]),
)
def test_any_size_is_covered_by_the_resized_picture(shape, size, crop_pct):
    height, width = resized_size(shape, rgb(size, crop_pct))
    assert height >= size[0]
    assert width >= size[1]


@pytest.mark.parametrize("shape", [(60, 80), (80, 60), (13, 200), (48, 64)])
@pytest.mark.parametrize("size", [(24, 40), (40, 24), (31, 32)])
def test_a_size_that_is_not_square_is_what_timm_makes(shape, size):
    # Before 1.0.31 timm rounds such sizes otherwise.
    pytest.importorskip("timm", minversion="1.0.31")
    create_transform = import_module("timm.data.transforms_factory").transforms_imagenet_eval
    pixels = noise(*shape)
    steps = create_transform(size, crop_pct=0.9, interpolation="bicubic", normalize=False)
    theirs = np.asarray(steps(Image.fromarray(pixels))).transpose(1, 2, 0).astype(int)
    ours = frame(pixels, rgb(size, 0.9, "bicubic")).astype(int)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 1


def test_a_picture_that_would_grow_beyond_memory_is_refused():
    with pytest.raises(ValueError, match="too narrow: 1 x 30000 pixels"):
        frame(noise(30000, 1), rgb((224, 224)))
