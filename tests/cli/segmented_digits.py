"""A net that says of every pixel of a digit which digit it belongs to, and pictures out of its
domain. Nothing is random but with a seed; training takes a few seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from learned_statistics import learned
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

PREPROCESSING = ("--img-size", "28", "--mean", "0", "--std", "1")
INK = 128


class DigitMaps(nn.Sequential):
    """Maps of 11 classes, [n, 11, 28, 28]: background, then the digits."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        channels = 1
        for dilation in (1, 2, 4, 4):
            layers += [
                nn.Conv2d(channels, 32, 3, padding=dilation, dilation=dilation, bias=False),
                nn.BatchNorm2d(32),
                nn.ReLU(),
            ]
            channels = 32
        super().__init__(*layers, nn.Conv2d(32, 11, 1))


class InkMaps(nn.Sequential):
    """Maps of one channel, [n, 1, 28, 28]: ink or none. Untrained."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1))
        learned(self)


@dataclass(frozen=True)
class SegmentedDigits:
    """A trained checkpoint, pictures of low contrast, and masks called like them."""

    model: Path
    pictures: Path
    masks: Path


def make(source: Path, folder: Path) -> SegmentedDigits:
    """Trains on every second picture of a folder of class folders; the others are the target."""
    files = sorted(source.glob("*/*.png"))
    digits = [np.asarray(Image.open(file)) for file in files]
    masks = [
        np.where(digit >= INK, int(file.parent.name) + 1, 0).astype(np.uint8)
        for file, digit in zip(files, digits, strict=True)
    ]
    images = torch.tensor(np.stack(digits))[:, None].float() / 255
    net = trained(images[::2], torch.tensor(np.stack(masks))[::2].long())
    made = SegmentedDigits(folder / "maps.pt", folder / "pictures", folder / "masks")
    torch.save(net.state_dict(), made.model)
    for file, digit, mask in zip(files[1::2], digits[1::2], masks[1::2], strict=True):
        name = f"{file.parent.name}/{file.name}"
        for root, pixels in ((made.pictures, 90 + digit * 0.3), (made.masks, mask)):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(root / name)
    return made


def trained(images: Tensor, masks: Tensor) -> nn.Module:
    torch.manual_seed(0)
    net = DigitMaps()
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for batch in _batches(len(images), epochs=8):
        optimizer.zero_grad()
        cross_entropy(net(images[batch]), masks[batch]).backward()
        optimizer.step()
    return net.eval()


def _batches(n: int, epochs: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        yield from torch.randperm(n, generator=generator).split(25)
