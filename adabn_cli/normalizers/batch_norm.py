"""Batch Normalization (Ioffe, Szegedy 2015): running mean and variance, whatever class holds them.

BatchNorm1d/2d/3d, SyncBatchNorm, FrozenBatchNorm2d, timm's BatchNormAct2d, InstanceNorm with
running statistics and everybody's own subclasses differ in training only: in eval mode all compute
`(x - running_mean) / sqrt(running_var + eps)`. Knows no module.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from adabn_cli.model import Site
from adabn_cli.moments import Moments

HOLDS = {"mean": "running_mean", "var": "running_var"}
INITIAL = {"mean": 0.0, "var": 1.0}
RULE = "replaces the running mean and variance by the target's"


def believed(site: Site, state: Mapping[str, Tensor]) -> Moments | None:
    """A copy of the stored statistics, [C] each."""
    mean_C, var_C = (state[site.keys[role]].flatten().double().clone() for role in ("mean", "var"))
    return Moments.of_variance(1, mean_C, var_C)


def absorb(site: Site, state: Mapping[str, Tensor], moments: Moments) -> dict[str, Tensor]:
    """AdaBN (Li et al. 2016): the target's population mean and variance take the stored place."""
    shape = state[site.keys["mean"]].shape
    return {
        site.keys["mean"]: moments.mean_C.reshape(shape),
        site.keys["var"]: moments.var_C.reshape(shape),
    }
