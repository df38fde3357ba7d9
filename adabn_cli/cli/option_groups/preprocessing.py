"""How pictures become the model's input."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

from adabn_cli.cli import values
from adabn_cli.cli.option_groups.option import Group, Option

if TYPE_CHECKING:
    from adabn_cli.jobs.preprocessing import PreprocessingOptions

_option = partial(Option, rich_help_panel="Preprocessing")

ImgSize = Annotated[
    str | None,
    _option(
        "--img-size",
        metavar="N|H,W",
        help="Input size in pixels.",
    ),
]


class InputOptions(Group):
    """What the user says of preprocessing."""

    img_size: ImgSize = None
    mean: Annotated[
        str | None,
        _option(
            "--mean",
            metavar="N,N,N",
            help="Mean of each channel, for values in 0 to 1.",
        ),
    ] = None
    std: Annotated[
        str | None,
        _option(
            "--std",
            metavar="N,N,N",
            help="Standard deviation of each channel.",
        ),
    ] = None
    crop_pct: Annotated[
        float | None,
        _option(
            "--crop-pct",
            metavar="SHARE",
            help="Share of the resized picture that the centre crop keeps.",
        ),
    ] = None
    interpolation: Annotated[
        str | None,
        _option(
            "--interpolation",
            metavar="nearest|bilinear|bicubic",
            help="How pictures are resized.",
        ),
    ] = None
    fast_decode: Annotated[
        bool,
        _option(
            "--fast-decode",
            help="Decode large JPEG files at a fraction of their size, at least twice what the "
            "model needs: several times as fast, and a few of 255 levels off at edges.",
        ),
    ] = False

    def request(self) -> PreprocessingOptions:
        """What was said; None for what was not."""
        from adabn_cli.jobs.preprocessing import PreprocessingOptions

        return PreprocessingOptions(
            size=values.size(self.img_size) if self.img_size else None,
            mean=values.numbers("--mean", self.mean) if self.mean else None,
            std=values.numbers("--std", self.std) if self.std else None,
            crop_pct=self.crop_pct,
            interpolation=self.interpolation,
            fast_decode=self.fast_decode or None,
        )
