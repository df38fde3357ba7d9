"""Layers without a normalizer as sites: their output is scaled and shifted by channel.

Knows torch's convolutions and linear layers and how scale and shift fold into their weights; knows
no rule that sets them. C output channels.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils import parametrize

from adabn_cli.errors import ModelError
from adabn_cli.model import FixedLayer, Site

# The forwards that are linear in weight and bias as they are stored. A layer of somebody's own may
# standardize its weight or scale its output, and folding would not do what the hook did.
_LINEAR_FORWARDS = {
    layer.forward
    for layer in (
        *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d),
        *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    )
}

# Such a layer has no eps of its own; this one keeps the divergence of a dead channel finite.
_EPS = 1e-8


class OutputLayer:
    """One layer, and the scale and shift of its output, float64 [C]; 1 and 0 leave it as it is."""

    def __init__(self, name: str, layer: nn.Module) -> None:
        prefix = f"{name}." if name else ""
        self.layer = layer
        self.bias_key = f"{prefix}bias"
        # g of either form of Weight Norm, or the weight itself.
        self.factor_key = prefix + _factor_name(layer)
        channels = _output_channels(layer)
        device = cast("Tensor", layer._parameters["bias"]).device
        self.scale_C = torch.ones(channels, dtype=torch.float64, device=device)
        self.shift_C = torch.zeros(channels, dtype=torch.float64, device=device)
        keys = {"scale": f"{prefix}output_scale", "shift": f"{prefix}output_shift"}
        kind = "affine" if self.factor_key == f"{prefix}weight" else "weight_norm"
        self.site = Site(name or type(layer).__name__, kind, channels, _EPS, keys)

    @property
    def entries(self) -> dict[str, Tensor]:
        """Scale and shift by the names of their entries."""
        keys = self.site.keys
        return {keys["scale"]: self.scale_C, keys["shift"]: self.shift_C}

    @property
    def changed(self) -> bool:
        """Whether the output is another than the layer's own."""
        return bool((self.scale_C != 1).any() or (self.shift_C != 0).any())

    def activation(self, output: Any) -> Tensor:
        """The output with its channels in dimension 1. Raises ModelError if it has none."""
        if not isinstance(output, Tensor) or output.dim() < 2:
            raise ModelError(
                f"The output of {self.site.name} has no batch of channels.",
                hint=f"Leave the layer as it is: --layers '!{self.site.name}'.",
            )
        channels_first: Tensor = output.movedim(-1, 1) if self._channels_last else output
        return channels_first.detach()

    def adapted(self, output: Tensor) -> Tensor:
        """The output, scaled and shifted."""
        if not self.changed:
            return output
        shape = [-1] if self._channels_last else [1, -1] + [1] * (output.dim() - 2)
        return torch.addcmul(
            self.shift_C.to(output).view(shape), output, self.scale_C.to(output).view(shape)
        )

    def folded(self) -> dict[str, Tensor]:
        """Weight (or g) and bias with scale and shift in them, by name, in their own dtype."""
        if not self.changed:
            return {}
        bias = cast("Tensor", self.layer._parameters["bias"])
        new_bias = bias.detach().double() * self.scale_C + self.shift_C
        return {
            self.factor_key: self._folded_factor().to(bias.dtype),
            self.bias_key: new_bias.to(bias.dtype),
        }

    @property
    def _channels_last(self) -> bool:
        return isinstance(self.layer, nn.Linear)

    def _folded_factor(self) -> Tensor:
        layer = self.layer
        if parametrize.is_parametrized(layer, "weight"):
            weight: Any = cast("Any", layer).parametrizations.weight
            g = weight.original0.detach().double()
            g = g * self.scale_C.reshape(g.shape)
            if parametrize.is_parametrized(weight, "original0"):
                g = weight.parametrizations.original0[0].right_inverse(g)
            return cast("Tensor", g)
        g = layer._parameters.get("weight_g")
        if g is not None:
            return g.detach().double() * self.scale_C.reshape(g.shape)
        return _scaled(layer, cast("Tensor", layer._parameters["weight"]), self.scale_C)


def as_output_layer(name: str, layer: nn.Module) -> OutputLayer | FixedLayer | None:
    """The layer as a site, or why it cannot be one; None if it is of another kind."""
    if not isinstance(layer, _ConvNd | nn.Linear):
        return None
    if problem := _problem(layer):
        return FixedLayer(name, type(layer).__name__, problem)
    return OutputLayer(name, layer)


def _problem(layer: nn.Module) -> str | None:
    if type(layer).forward not in _LINEAR_FORWARDS:
        return "computes its output in its own way, so a scale cannot be folded into its weight"
    if layer._parameters.get("bias") is None:
        return "has no bias, so its mean cannot be matched to a source profile"
    factor = _factor_name(layer)
    if not factor:
        return "has a weight that is computed in another way than Weight Norm's"
    if factor != "weight":
        if parametrize.is_parametrized(layer, "weight"):
            g = cast("Any", layer).parametrizations.weight.original0
        else:
            g = cast("Tensor", layer._parameters["weight_g"])
        axis = 1 if isinstance(layer, _ConvTransposeNd) else 0
        if g.dim() <= axis or g.shape[axis] != _output_channels(layer):
            return "has no g for each output channel"
    return None


def _factor_name(layer: nn.Module) -> str:
    """The entry that scales with the output; empty if there is none."""
    if parametrize.is_parametrized(layer, "weight"):
        weight: Any = cast("Any", layer).parametrizations.weight
        if "1" in weight._modules or not (
            hasattr(weight, "original1") and hasattr(weight[0], "dim")
        ):
            return ""
        if parametrize.is_parametrized(weight, "original0"):
            return "parametrizations.weight.parametrizations.original0.original"
        return "parametrizations.weight.original0"
    if "weight_g" in layer._parameters and "weight_v" in layer._parameters:
        return "weight_g"
    return "weight" if layer._parameters.get("weight") is not None else ""


def _output_channels(layer: nn.Module) -> int:
    return int(
        layer.out_features if isinstance(layer, nn.Linear) else cast("Any", layer).out_channels
    )


def _scaled(layer: nn.Module, weight: Tensor, scale_C: Tensor) -> Tensor:
    wide = weight.detach().double()
    if not isinstance(layer, _ConvTransposeNd):
        return wide * scale_C.view([-1] + [1] * (wide.dim() - 1))
    # [in, out / groups, *]: the inputs of a group lead to the outputs of that group.
    grouped = wide.view(layer.groups, -1, *wide.shape[1:])
    scale = scale_C.view([layer.groups, 1, -1] + [1] * (wide.dim() - 2))
    return (grouped * scale).view(wide.shape)
