"""The statistics that an adapted net should have, in float64, and how far others are from them.

Shares no code with adabn: the whole set goes through the net as one batch, and every BatchNorm
takes mean and variance of all of it in two passes, after all BatchNorms before it did.
Shapes: N images, C channels, K outputs.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Truth:
    """Mean and population variance of every BatchNorm by name, and the logits [N, K] with them."""

    mean_C: dict[str, Tensor]
    var_C: dict[str, Tensor]
    logits_NK: Tensor

    def of(self, rows: slice) -> Truth:
        """The same with the logits of some of the images alone."""
        return replace(self, logits_NK=self.logits_NK[rows])


@dataclass(frozen=True)
class WorstError:
    """The worst of all channels and layers, and the worst of all logits.

    `statistics` is the larger of the error of a mean in standard deviations and of a variance as a
    share of it; `logits` is in standard deviations of all true logits.
    """

    statistics: float
    logits: float


class _WholeSet(nn.Module):
    """A BatchNorm that normalizes the set that it is given by that set, and keeps its moments."""

    def __init__(self, layer: nn.BatchNorm2d) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = layer.weight, layer.bias, layer.eps
        self.mean_C = self.var_C = torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        self.mean_C = x.mean((0, 2, 3))
        x = x - self.mean_C[:, None, None]
        self.var_C = x.square().mean((0, 2, 3))
        scale_C = self.weight / (self.var_C + self.eps).sqrt()
        return x.mul_(scale_C[:, None, None]).add_(self.bias[:, None, None])


@torch.inference_mode()
def truth(module: nn.Module, images: Tensor) -> Truth:
    """What the net's statistics on these images are, and its logits of them."""
    net, layers = copy.deepcopy(module).double().eval(), {}
    for name, layer in list(net.named_modules()):
        if isinstance(layer, nn.BatchNorm2d):
            layers[name] = _WholeSet(layer)
            parent, _, child = name.rpartition(".")
            setattr(net.get_submodule(parent), child, layers[name])
    logits_NK = net(images.double())
    return Truth(
        mean_C={name: layer.mean_C for name, layer in layers.items()},
        var_C={name: layer.var_C for name, layer in layers.items()},
        logits_NK=logits_NK,
    )


@torch.inference_mode()
def worst_error(module: nn.Module, images: Tensor, true: Truth) -> WorstError:
    """How far an adapted net is from the truth on these images."""
    worst = 0.0
    for name, mean_C in true.mean_C.items():
        layer = module.get_submodule(name)
        var_C = true.var_C[name] + layer.eps
        off_mean_C = (layer.running_mean.double() - mean_C).abs() / var_C.sqrt()
        off_var_C = (layer.running_var.double() + layer.eps - var_C).abs() / var_C
        worst = max(worst, float(off_mean_C.max()), float(off_var_C.max()))
    module.eval()
    logits_NK = torch.cat([module(part) for part in images.split(32)]).double()
    return WorstError(worst, float((logits_NK - true.logits_NK).abs().max() / true.logits_NK.std()))
