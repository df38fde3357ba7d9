"""Which sites are adapted, by which engine and method."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

from adabn_cli.cli import values
from adabn_cli.cli.option_groups.option import Group, Option

if TYPE_CHECKING:
    from adabn_cli.adaptation.methods import Adaptation, Method

_option = partial(Option, rich_help_panel="Method")

AdaptInitial = Annotated[
    bool,
    _option(
        "--adapt-initial",
        help="Adapt a model none of whose sites ever learned its statistics (mean 0, variance 1), "
        "which changes what it computes.",
    ),
]


class SiteOptions(Group):
    """Which sites, and how much of the source stays in them."""

    layers: Annotated[
        str | None,
        _option(
            "--layers",
            metavar="GLOB,!GLOB,…",
            help="Which sites to adapt; ! excludes.",
        ),
    ] = None
    prior: Annotated[
        str | None,
        _option(
            "--prior",
            metavar="N|auto",
            help="Mix in the source as N pseudo-images; auto: per channel, as far as the target's "
            "estimate can be trusted.",
        ),
    ] = None
    alpha: Annotated[
        float | None,
        _option(
            "--alpha",
            metavar="A",
            help="Mix in the source with a fixed weight A in 0 to 1 on the target.",
        ),
    ] = None
    adapt_initial: AdaptInitial = False

    def request(self, *, method: str | None = None, momentum: float | None = None) -> Adaptation:
        """What is installed, by the default method or this one."""
        from adabn_cli.adaptation.methods import Adaptation

        return Adaptation(
            layers=values.layers(self.layers),
            prior=values.prior(self.prior),
            alpha=self.alpha,
            method=cast("Method | None", method),
            momentum=momentum,
            adapt_initial=self.adapt_initial,
        )


class MethodOptions(Group):
    """What `adapt` alone can do: engines, methods, and what is known of the source."""

    engine: Annotated[
        str,
        _option(
            "--engine",
            metavar="exact|one-pass|online",
            help="exact: self-consistent, whatever the order and batch size. one-pass: train-mode "
            "statistics as other tools compute them, for comparison. online: running statistics, "
            "for streams; depends on the order.",
        ),
    ] = "exact"
    momentum: Annotated[
        float | None,
        _option(
            "--momentum",
            metavar="M",
            help="With --engine online: the weight in 0 to 1 of each new batch, from the source "
            "on. Without it every picture counts alike.",
        ),
    ] = None
    method: Annotated[
        str | None,
        _option(
            "--method",
            metavar="adabn|matched|auto",
            help="adabn: the target's statistics, the default without a profile. matched: compared "
            "with a source profile and trusted by sample size, the default with one. auto: "
            "the surest of these and of a corrected mix of classes, in up to six forwards.",
        ),
    ] = None
    profile: Annotated[
        Path | None,
        _option(
            "--profile",
            said="line",
            metavar="FILE",
            help="What `adabn profile` measured on source pictures; MODEL.profile next to the "
            "model is found by itself.",
        ),
    ] = None
    source: Annotated[
        str | None,
        _option(
            "--source",
            said="line",
            metavar="DATA",
            help="Source pictures to profile first, 256 of them.",
        ),
    ] = None
    reference: Annotated[
        Path | None,
        _option(
            "--reference",
            said="settings",
            metavar="MODEL",
            help="The checkpoint that an ONNX graph was exported from, if the export has folded "
            "its BatchNorm layers away.",
        ),
    ] = None
