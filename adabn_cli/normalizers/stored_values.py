"""Whether what a site stores can be believed: that it was learned, and that data can be so."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from adabn_cli.model import Site
from adabn_cli.normalizers import NORMALIZERS, stored_normalizer

_LEAST = {"mean": -torch.inf, "std": 0.0}


def never_learned(site: Site, state: Mapping[str, Tensor]) -> bool:
    """Whether every statistic of a site is, in all channels, what the layer was made with.

    No data has a mean of exactly 0 and a variance of exactly 1. How many batches were tracked says
    less: weights that were averaged, or a momentum of 0, count some and never learn.
    """
    initial = stored_normalizer(site.kind).INITIAL if site.kind in NORMALIZERS else {}
    return bool(initial) and all(
        bool((state[site.keys[role]] == value).all()) for role, value in initial.items()
    )


def impossible_statistics(site: Site, state: Mapping[str, Tensor]) -> list[str]:
    """What no data gives: values that are not finite, and spreads below zero; a phrase an entry.

    A variance below 0 by no more than eps has a root still: it is a difference that was rounded.
    """
    if site.kind not in NORMALIZERS:
        return []
    found = []
    for role, key in site.keys.items():
        values_C = state[key].flatten().double()
        least = -site.eps if role == "var" else _LEAST[role]
        broken_C = ~values_C.isfinite() | (values_C < least)
        if broken_C.any():
            channel = int(broken_C.nonzero()[0])
            others = int(broken_C.sum()) - 1
            more = f", and so in {others} more" if others else ""
            found.append(f"{key} is {float(values_C[channel]):.4g} in channel {channel}{more}")
    return found
