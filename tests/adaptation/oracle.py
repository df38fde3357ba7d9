"""An independent reference: self-consistent statistics in float64, one forward per layer.

Uses plain hooks and torch.var_mean; nothing of adabn's moments, suspension or engines.
"""

from __future__ import annotations

import copy
from contextlib import suppress

import torch
from torch import Tensor, nn

Statistics = dict[str, tuple[Tensor, Tensor]]


def oracle(module: nn.Module, images: Tensor) -> Statistics:
    """Mean and variance of every BatchNorm's input, each behind the final ones of those before."""
    module = copy.deepcopy(module).double().eval()
    images = images.double()
    layers = {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm)
    }
    order: list[str] = []
    hooks = [
        layer.register_forward_pre_hook(lambda _m, _a, name=name: order.append(name))
        for name, layer in layers.items()
    ]
    with torch.no_grad():
        module(images[:2])
    for hook in hooks:
        hook.remove()
    for name in order:
        activation = input_of(layers[name], module, images)
        var, mean = torch.var_mean(activation.transpose(0, 1).flatten(1), dim=1, correction=0)
        layers[name].running_mean.copy_(mean)
        layers[name].running_var.copy_(var)
    return statistics(module)


class _ReachedError(Exception):
    """Ends a forward where its activation is known."""


def input_of(layer: nn.Module, module: nn.Module, images: Tensor) -> Tensor:
    """What the layer is given in a forward of the module."""
    seen: list[Tensor] = []

    def hook(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen.append(args[0])
        raise _ReachedError

    handle = layer.register_forward_pre_hook(hook)
    with torch.no_grad(), suppress(_ReachedError):
        module(images)
    handle.remove()
    return seen[0]


def statistics(module: nn.Module) -> Statistics:
    """The stored statistics of every BatchNorm, in float64."""
    return {
        name: (layer.running_mean.double().clone(), layer.running_var.double().clone())
        for name, layer in module.named_modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm)
    }


def worst(found: Statistics, expected: Statistics, eps: float = 1e-5) -> float:
    """The largest difference: means in standard deviations, variances relative."""
    worst_yet = 0.0
    for name, (mean, var) in expected.items():
        std = (var + eps).sqrt()
        worst_yet = max(
            worst_yet,
            float(((found[name][0] - mean).abs() / std).max()),
            float(((found[name][1] - var).abs() / (var + eps)).max()),
        )
    return worst_yet


def relative(found: Statistics, expected: Statistics) -> float:
    """The largest relative error of a site: norm of the difference over channels by the norm."""
    worst_yet = 0.0
    for name, (mean, var) in expected.items():
        worst_yet = max(
            worst_yet,
            float((found[name][0] - mean).norm() / var.sqrt().norm()),
            float((found[name][1] - var).norm() / var.norm()),
        )
    return worst_yet


def float32_floor(module: nn.Module, images: Tensor, expected: Statistics) -> float:
    """What float32 arithmetic alone costs: the worst error of a forward that has the right answer.

    The module runs in float32 with the oracle's statistics; its activations are measured in
    float64.
    """
    module = copy.deepcopy(module).eval()
    seen: Statistics = {}

    def watch(name: str, layer: nn.Module) -> None:
        def hook(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
            x = args[0].double().transpose(0, 1).flatten(1)
            var, mean = torch.var_mean(x, dim=1, correction=0)
            seen[name] = (mean, var)

        layer.register_forward_pre_hook(hook)

    for name, layer in module.named_modules():
        if name in expected:
            layer.running_mean.copy_(expected[name][0])
            layer.running_var.copy_(expected[name][1])
            watch(name, layer)
    with torch.no_grad():
        module(images)
    return worst(seen, expected)
