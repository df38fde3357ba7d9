"""Moment matching: a convolution or linear layer without a normalizer, BatchNorm folded in or none.

Such a layer stores no statistics. Its output is held against what a source profile says of it, and
scaled and shifted by channel; both fold into weight and bias. Knows no module. C channels.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from adabn_cli.model import Site
from adabn_cli.moments import Moments

RULE = "matches the output's mean and variance to a source profile"


def believed(site: Site, state: Mapping[str, Tensor]) -> Moments | None:
    """What the layer takes its output to be: at first its reference; None without one.

    A scale a and shift b bring outputs of mean `(m_s - b) / a` and deviation `s_s / a` to the
    reference's m_s and s_s.
    """
    if site.reference is None:
        return None
    scale_C, shift_C = (state[site.keys[role]].double() for role in ("scale", "shift"))
    reference = site.reference
    return Moments.of_variance(
        1, (reference.mean_C - shift_C) / scale_C, reference.var_C / scale_C**2
    )


def absorb(site: Site, state: Mapping[str, Tensor], moments: Moments) -> dict[str, Tensor]:
    """The scale and shift with which outputs of these moments show the reference's.

    For an output y = t + bias of moments (m_t, s_t) and a reference (m_s, s_s):
    `y' = (y - m_t) s_s/s_t + m_s`, so the weight (or Weight Norm's g) scales by `s_s/s_t` and the
    bias becomes `(bias - m_t) s_s/s_t + m_s`. A channel that is dead on either side is left as it
    is. Raises ValueError for a site without a reference.
    """
    if site.reference is None:
        raise ValueError(f"{site.name} has no reference to be matched to")
    live_C = ~(moments.dead_C | site.reference.dead_C)
    # A dead channel's quotient may be 0, inf or NaN; it is not used.
    scale_C = torch.where(live_C, (site.reference.var_C / moments.var_C).sqrt(), 1.0)
    shift_C = torch.where(live_C, site.reference.mean_C - moments.mean_C * scale_C, 0.0)
    return {site.keys["scale"]: scale_C, site.keys["shift"]: shift_C}
