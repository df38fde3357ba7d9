"""How a picture becomes a model's input. Knows no model and no picture."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes a model's input, and where that is known from.

    The shorter side is resized to `floor(size / crop_pct)`, then `size` (height, width) is cut from
    the centre; values in [0, 1] are normalized by `mean` and `std`, one number a channel
    (1: gray, 3: RGB). `interpolation` is "nearest", "bilinear" or "bicubic". Where `fast_decode`,
    large JPEG files are decoded at a fraction of their size, at least twice what they become.
    `borrowed` names what of `size`, `mean` and `std` is that of published weights for other
    classes, and so a guess.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_pct: float = 1.0
    interpolation: str = "bilinear"
    source: str = "options"
    fast_decode: bool = False
    borrowed: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        """1 for gray, 3 for RGB."""
        return len(self.mean)
