"""How a picture becomes a model's input. Knows no model and no picture."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from adabn_cli.errors import UsageError

INTERPOLATIONS = ("nearest", "bilinear", "bicubic")


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes a model's input, and where that is known from.

    The shorter side is resized to `floor(size / crop_pct)`, then `size` (height, width) is cut from
    the centre; values in [0, 1] are normalized by `mean` and `std`, one number a channel
    (1: gray, 3: RGB). `interpolation` is one of `INTERPOLATIONS`. With `fast_decode`,
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


def check_preprocessing(preprocessing: Preprocessing) -> None:
    """Raises UsageError if no picture can be prepared so, whatever the model."""
    p = preprocessing
    if not all(isfinite(value) for value in (*p.mean, *p.std)):
        problem = "--mean and --std are finite numbers.", "Leave out nan and inf."
    elif len(p.mean) != len(p.std):
        problem = (
            f"--mean has {len(p.mean)} numbers, --std has {len(p.std)}.",
            "Give one number a channel to each.",
        )
    elif min(p.std) <= 0:
        problem = f"--std {min(p.std):g} is not positive.", "Give numbers above 0."
    elif max(p.mean) > 1 or max(p.std) > 1:
        problem = "--mean and --std are in units of 0 to 1.", "Divide those of 0 to 255 by 255."
    elif min(p.size) < 1:
        problem = f"--img-size {p.size[0]} is not a size in pixels.", "Give 1 or more."
    elif not 0 < p.crop_pct <= 1:
        problem = f"--crop-pct {p.crop_pct:g} is no share.", "Give one above 0 and at most 1."
    elif p.interpolation not in INTERPOLATIONS:
        problem = (
            f"There is no --interpolation {p.interpolation}.",
            f"Give one of {', '.join(INTERPOLATIONS)}.",
        )
    else:
        return
    raise UsageError(problem[0], where=f"Preprocessing from {p.source}", hint=problem[1])
