"""Real photographs, and pictures cut from them: tensors, and folders of JPEG files by class.

They are camera pictures of 1.5 to 15.9 megapixels from a Debian package, unpacked beside the cache
without being installed. A class is a photograph: in the order of classes a batch shows one scene.
Knows no net. Shapes: N images of 3 x H x W, float32.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

CACHE = Path(tempfile.gettempdir()) / "adabn-bench-peers"
PACKAGE = "lomiri-wallpapers-16.04"
#: Those of its pictures that no camera took.
DRAWN = ("analogpattern", "umang")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_FROM = 0.3  # A cut is at least this share of the photograph's sides.
_LARGE = 8_000_000  # A 12-megapixel picture is enlarged by 1.25 a side at most.


@cache
def photographs() -> tuple[Path, ...]:
    """The files of the photographs, by name; exits where they cannot be had."""
    folder = CACHE / PACKAGE
    if not folder.exists():
        if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
            sys.exit(f"apt-get is missing: it fetches {PACKAGE}. Run on Debian.")
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as fetched:
            command = ["apt-get", "download", PACKAGE]
            done = subprocess.run(command, cwd=fetched, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"apt-get could not download {PACKAGE}:\n{done.stderr}")
            (package,) = Path(fetched).glob("*.deb")
            subprocess.run(["dpkg", "-x", str(package), str(folder)], check=True)
    return tuple(x for x in sorted(folder.rglob("*.jpg")) if not x.name.startswith(DRAWN))


def tensors(count: int, size: int) -> Tensor:
    """So many cuts, [N, 3, size, size] normalized, channels_last, sorted by photograph."""
    pictures, of_each = [], -(-count // len(photographs()))
    for index, file in enumerate(photographs()):
        source, random = _opened(file, 4 * size), np.random.default_rng(index)
        pictures += [np.asarray(_cut(source, (size, size), random)) for _ in range(of_each)]
    pixels_NHWC = torch.from_numpy(np.stack(pictures[:count]))
    values = (pixels_NHWC.float() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    return values.permute(0, 3, 1, 2)


def small_jpegs(count: int) -> Path:
    """A folder of class folders with so many JPEGs of 500 x 400 pixels, as of ImageNet's size."""
    return _jpegs(f"500x400-{count}", count, (500, 400), photographs())


def large_jpegs(count: int) -> Path:
    """The same with 4000 x 3000 pixels, cut from the photographs of 8 megapixels and more.

    A cut has at least 0.8 of the photograph's sides: from 0.4 to 1.3 of its own pixels each way.
    """
    large = [file for file in photographs() if _area(file) >= _LARGE]
    return _jpegs(f"4000x3000-{count}", count, (4000, 3000), large)


def _jpegs(name: str, count: int, size: tuple[int, int], files: Sequence[Path]) -> Path:
    folder = CACHE / name
    if folder.exists():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as beside:
        for index, file in enumerate(files):
            source, random = _opened(file, size[0]), np.random.default_rng(index)
            least, quality = (_FROM, 90) if size[0] < 1000 else (0.8, 95)
            (Path(beside) / file.stem).mkdir()
            for number in range(index, count, len(files)):
                cut = _cut(source, size, random, least)
                cut.save(Path(beside) / file.stem / f"{number:05}.jpg", quality=quality)
        Path(beside).rename(folder)
        Path(beside).mkdir()  # For the end of the context.
    return folder


def _opened(file: Path, width: int) -> Image.Image:
    """The photograph, at half its size or less where that still has twice the width asked for."""
    picture = Image.open(file)
    picture.draft("RGB", (2 * width, 2 * width))
    return picture.convert("RGB")


def _cut(
    source: Image.Image, size: tuple[int, int], random: np.random.Generator, least: float = _FROM
) -> Image.Image:
    """A random cut of that shape, resized with Lanczos, every other one mirrored."""
    fitting = min(source.width / size[0], source.height / size[1]) * random.uniform(least, 1)
    width, height = fitting * size[0], fitting * size[1]
    left, top = random.uniform(0, source.width - width), random.uniform(0, source.height - height)
    box = (left, top, left + width, top + height)
    cut = source.resize(size, Image.Resampling.LANCZOS, box=box)
    return cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else cut


def _area(file: Path) -> int:
    with Image.open(file) as picture:
        return picture.width * picture.height
