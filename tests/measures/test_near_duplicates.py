from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from adabn_cli.measures.near_duplicates import distinct_scenes


def digits(folder: Path, size: int, *, most: int = 64) -> list[Image.Image]:
    files = sorted(folder.rglob("*.png"))
    chosen = np.linspace(0, len(files) - 1, min(most, len(files))).round().astype(int)
    return [Image.open(files[index]).convert("L").resize((size, size)) for index in chosen]


def normalized(pictures: list[Image.Image]) -> Tensor:
    levels = torch.tensor(np.stack([np.asarray(x, np.float32) for x in pictures])) / 255
    return (levels[:, None] - 0.13) / 0.3


def repeated(picture: Image.Image, n: int, seed: int) -> list[Image.Image]:
    """The picture moved by up to 6%, zoomed by up to 15%, lighter or darker, with noise."""
    rng, (width, height) = np.random.default_rng(seed), picture.size
    copies = []
    for _ in range(n):
        zoom = 1 - rng.uniform(0, 0.15)
        left, top = (
            size * (1 - zoom) / 2 + rng.uniform(-0.06, 0.06) * size for size in (width, height)
        )
        moved = picture.transform(
            picture.size,
            Image.Transform.AFFINE,
            (zoom, 0, left, 0, zoom, top),
            Image.Resampling.BILINEAR,
        )
        levels = np.asarray(moved, float) * rng.uniform(0.8, 1.2) + rng.normal(
            0, 10, (height, width)
        )
        copies.append(Image.fromarray(levels.clip(0, 255).astype(np.uint8)))
    return copies


@pytest.mark.parametrize("size", [16, 32])
@pytest.mark.parametrize("folder", ["mnist_1000", "optdigits_1797"])
def test_ordinary_digits_are_many_scenes(shared_data: Path, folder: str, size: int) -> None:
    assert distinct_scenes(normalized(digits(shared_data / "digits" / folder, size))) > 15


def test_digits_of_one_class_are_no_repeats(shared_data: Path) -> None:
    for label in range(10):
        folder = shared_data / "digits" / "mnist_1000" / str(label)
        assert distinct_scenes(normalized(digits(folder, 28))) > 6


@pytest.mark.parametrize("folder", ["mnist_1000", "optdigits_1797"])
@pytest.mark.parametrize("label", [0, 1, 4, 8])
def test_one_digit_moved_zoomed_and_noisy_is_one_scene(
    shared_data: Path, folder: str, label: int
) -> None:
    picture = digits(shared_data / "digits" / folder / str(label), 32, most=3)[1]
    assert distinct_scenes(normalized(repeated(picture, 40, seed=label))) < 2.5


def test_three_scenes_in_turn_are_three(shared_data: Path) -> None:
    chosen = [
        digits(shared_data / "digits" / "mnist_1000" / str(label), 32, most=1)[0]
        for label in (0, 4, 8)
    ]
    pictures = [copy for k, x in enumerate(chosen) for copy in repeated(x, 15, seed=k)]
    assert distinct_scenes(normalized(pictures)) == pytest.approx(3, abs=0.8)


@pytest.mark.parametrize("n", [1, 2, 40])
def test_the_same_picture_again_is_one_scene_and_noise_is_always_another(n: int) -> None:
    noise = torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert distinct_scenes(noise[:1].expand(n, -1, -1, -1)) == 1
    assert distinct_scenes(noise) == pytest.approx(n)


def test_blank_pictures_are_one_scene_whatever_their_light() -> None:
    blank = torch.linspace(-2, 2, 10)[:, None, None, None].expand(-1, 3, 24, 24)
    assert distinct_scenes(blank) == 1


def test_light_and_contrast_make_no_other_scene() -> None:
    one = torch.randn(1, 1, 30, 40, generator=torch.Generator().manual_seed(1))
    assert distinct_scenes(torch.cat([one, one * 0.3 + 1, one * 2 - 0.5])) == 1
