"""How self-consistent an adapted model is: installed statistics against those seen afterwards.

Knows moments only. C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from adabn_cli.moments import Moments


@dataclass(frozen=True)
class Residual:
    """The largest deviation over a site's channels; zero where the statistics are consistent.

    `max_mean` is in installed standard deviations, `max_log_variance` the |log| of the ratio.
    """

    max_mean: float
    max_log_variance: float


@dataclass(frozen=True)
class WorstResidual:
    """The largest of either deviation over all sites, and the site with the larger of the two."""

    max_mean: float
    max_log_variance: float
    site: str


def residual(installed: Moments, measured: Moments, eps: float) -> Residual:
    """The residual of one site, `eps` its normalizer's own. NaN where a moment is not finite.

    Raises ValueError where nothing was measured.
    """
    if measured.count == 0:
        raise ValueError("a site without a sample has no residual")
    v_C, v_hat_C = installed.var_C + eps, measured.var_C + eps
    mean_C = _quotient((measured.mean_C - installed.mean_C).abs(), v_C.sqrt(), where_zero=0.0)
    ratio_C = _quotient(v_hat_C, v_C, where_zero=1.0)
    return Residual(float(mean_C.max()), float(ratio_C.log().abs().max()))


def worst(residuals: Mapping[str, Residual]) -> WorstResidual | None:
    """The largest residuals over sites, by name; None without any. NaN counts as the largest."""
    if not residuals:
        return None
    names = list(residuals)
    pairs = torch.tensor(
        [(x.max_mean, x.max_log_variance) for x in residuals.values()], dtype=torch.float64
    )
    # torch's max and argmax take NaN for the largest, Python's depend on the order.
    max_mean, max_log_variance = pairs.max(0).values.tolist()
    return WorstResidual(max_mean, max_log_variance, names[int(pairs.max(1).values.argmax())])


def _quotient(above_C: Tensor, below_C: Tensor, *, where_zero: float) -> Tensor:
    """The quotient, with 0 / 0 as told: dead channels agree, also with an eps of 0."""
    both_zero_C = (above_C == 0) & (below_C == 0)
    return torch.where(both_zero_C, where_zero, above_C / below_C)
