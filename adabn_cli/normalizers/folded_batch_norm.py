"""Batch Normalization folded into the layer before it, with what its unfolded checkpoint says.

The folded layer gives `y = s (x - mean) + beta`, `s = gamma / sqrt(var + eps)`, where x is what the
normalizer took. So the moments of y tell those of x, and AdaBN is done through weight and bias, as
it would be in front of the fold. Knows no module. C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from adabn_cli.model import Site
from adabn_cli.moments import Moments

RULE = "AdaBN through the folded weight and bias, by the gamma and beta of the reference"


@dataclass(frozen=True)
class Unfolded:
    """The normalizer before it was folded, as its checkpoint stores it; [C] each, float64."""

    gamma_C: Tensor
    beta_C: Tensor
    var_C: Tensor
    eps: float

    @property
    def eps_C(self) -> Tensor:
        """Its eps in units of the folded output's variance: `eps s^2`."""
        return self.gamma_C**2 * (self.eps / (self.var_C + self.eps))


@dataclass(frozen=True)
class FoldedSite(Site):
    """A site at a folded layer's output; its keys are "scale" and "shift"."""

    unfolded: Unfolded | None = field(default=None, compare=False)


def _unfolded(site: Site) -> Unfolded:
    """Raises ValueError for a site that nothing is known of."""
    if not isinstance(site, FoldedSite) or site.unfolded is None:
        raise ValueError(f"{site.name} has no reference that says what was folded into it")
    return site.unfolded


def believed(site: Site, state: Mapping[str, Tensor]) -> Moments:
    """What the layer takes its output to be: of mean beta and variance gamma^2 - eps s^2."""
    known = _unfolded(site)
    scale_C, shift_C = (state[site.keys[role]].double() for role in ("scale", "shift"))
    var_C = known.gamma_C**2 / scale_C**2 - known.eps_C
    return Moments.of_variance(1, (known.beta_C - shift_C) / scale_C, var_C.clamp_min(0))


def absorb(site: Site, state: Mapping[str, Tensor], moments: Moments) -> dict[str, Tensor]:
    """The scale and shift with which outputs of these moments are normalized as by AdaBN.

    `y' = gamma (y - m_t) / sqrt(v_t + eps s^2) + beta`. Without the eps, channels that hardly vary
    on the target would be amplified without bound: ResNets have some of variance 1e-12. A gamma of
    0 leaves nothing to scale.
    """
    known = _unfolded(site)
    scale_C = known.gamma_C.abs() / (moments.var_C + known.eps_C).sqrt()
    scale_C = scale_C.where(known.gamma_C != 0, 1.0)
    return {
        site.keys["scale"]: scale_C,
        site.keys["shift"]: known.beta_C - scale_C * moments.mean_C,
    }
