"""What the layers of a live module are: a walk that survives shadowed attributes, sites, input.

Knows torch modules; knows no file and no engine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from adabn_cli.adaptation.rules import STORED
from adabn_cli.errors import ModelError
from adabn_cli.model import FixedLayer, Site
from adabn_cli.models.architectures.key_views import is_of_further_split
from adabn_cli.models.live.output_layers import OutputLayer, as_output_layer

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)

#: Layers of quantization-aware training that have their BatchNorm inside.
_FUSED_IN_TRAINING = "torch.ao.nn.intrinsic.qat."
_OF_OTHER_SPLITS = "is for the other splits of a training batch: no forward in eval mode uses it"
_NOTHING_STORED = {
    nn.GroupNorm: "normalizes each picture by itself; it stores no statistics",
    nn.LayerNorm: "normalizes each picture by itself; it stores no statistics",
    nn.RMSNorm: "normalizes each picture by itself; it stores no statistics",
    nn.LocalResponseNorm: "normalizes each position by itself; it stores no statistics",
    nn.modules.instancenorm._InstanceNorm: "has track_running_stats=False: each picture "
    "is normalized by itself",
    nn.modules.batchnorm._BatchNorm: "has track_running_stats=False: it normalizes by each "
    "batch, also when deployed, and stores no statistics",
}


def unwrap(module: nn.Module) -> nn.Module:
    """The network inside DataParallel, DistributedDataParallel and torch.compile."""
    while True:
        if isinstance(module, _WRAPPERS):
            module = module.module
        elif isinstance(inner := module._modules.get("_orig_mod"), nn.Module):
            module = inner
        else:
            return module


def named_layers(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Every layer under every name it has, parents first.

    Reads `_modules`: models exist whose own attributes shadow `modules` or `children`.
    """
    yield prefix, module
    if isinstance(module, torch.jit.ScriptModule):
        return  # What is inside is no Python any more.
    for name, child in module._modules.items():
        if child is not None:
            yield from named_layers(child, f"{prefix}.{name}" if prefix else name)


def distinct_layers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every layer once, under its first name."""
    seen: set[int] = set()
    for name, layer in named_layers(module):
        if id(layer) not in seen:
            seen.add(id(layer))
            yield name, layer


def held_tensor(layer: nn.Module, name: str) -> Tensor | None:
    """The parameter or buffer of that name, where the layer holds one."""
    tensor = layer._buffers.get(name)
    return tensor if tensor is not None else layer._parameters.get(name)


def find_sites(module: nn.Module) -> tuple[list[Site], dict[str, nn.Module], list[FixedLayer]]:
    """The sites, their layers by name, and the normalizers that have nothing to adapt.

    A site is told by the tensors it holds, not by its class.
    """
    sites: list[Site] = []
    layers: dict[str, nn.Module] = {}
    fixed: list[FixedLayer] = []
    for name, layer in distinct_layers(module):
        _require_plain(name, layer)
        site = _as_site(name, layer)
        if site is not None and is_of_further_split(name):
            fixed.append(FixedLayer(name, type(layer).__name__, _OF_OTHER_SPLITS))
            continue
        if site is not None:
            sites.append(site)
            layers[site.name] = layer
            continue
        if others := _other_statistics(layer, ("running_mean",)):
            reason = f"stores a running mean next to {', '.join(others)}, a kind that is not known"
            fixed.append(FixedLayer(name, type(layer).__name__, reason))
        for kind, reason in _NOTHING_STORED.items():
            if isinstance(layer, kind):
                fixed.append(FixedLayer(name, type(layer).__name__, reason))
                break
    return sites, layers, fixed


def find_output_layers(module: nn.Module) -> tuple[list[OutputLayer], list[FixedLayer]]:
    """Convolutions and linear layers as sites at their output, and those that cannot be one."""
    outputs: list[OutputLayer] = []
    fixed: list[FixedLayer] = []
    uses = Counter(id(x) for _, layer in distinct_layers(module) for x in layer.parameters(False))
    for name, layer in distinct_layers(module):
        found = as_output_layer(name, layer)
        if isinstance(found, FixedLayer):
            fixed.append(found)
        elif found is not None:
            if any(uses[id(x)] > 1 for x in layer.parameters(False)):
                reason = "shares its weight with another layer, whose output would change too"
                fixed.append(FixedLayer(name, type(layer).__name__, reason))
            else:
                outputs.append(found)
    return outputs, fixed


def _other_statistics(layer: nn.Module, known: Collection[str]) -> list[str]:
    """Floating buffers beside the known ones, which all have to be there.

    A running mean beside a spread under a name of the layer's own is no mean-only normalizer: to
    replace the mean alone would be worse than nothing.
    """
    if any(layer._buffers.get(name) is None for name in known):
        return []
    return [
        name
        for name, buffer in layer._buffers.items()
        if buffer is not None and buffer.is_floating_point() and name not in known
    ]


def _require_plain(name: str, layer: nn.Module) -> None:
    """Raises ModelError for a layer whose call cannot be seen or whose tensors are not there."""
    problem = None
    if isinstance(layer, torch.jit.ScriptModule):
        problem = "It is TorchScript, which runs past the hooks of Python."
        hint = "Give the network as it was before torch.jit.script or torch.jit.trace."
    elif type(layer).__module__.startswith("torch.ao.nn.") and "quantized" in repr(type(layer)):
        problem = "It is quantized, and its statistics are folded into its weights."
        hint = "Adapt the network before it is quantized."
    elif type(layer).__module__.startswith(_FUSED_IN_TRAINING) and hasattr(layer, "bn"):
        problem = "It quantizes its weight by the statistics that would be replaced."
        hint = "Give the network from before it was prepared by prepare_qat."
    elif any(
        is_lazy(x) for x in (*layer._parameters.values(), *layer._buffers.values()) if x is not None
    ):
        problem = "It is lazy: its size is not known yet."
        hint = "Run the network on one batch first."
    if problem:
        raise ModelError(
            f"The model cannot be adapted. {problem}",
            where=f"{name or 'the model'} ({type(layer).__name__})",
            hint=hint,
        )


def _as_site(name: str, layer: nn.Module) -> Site | None:
    for kind, rule in STORED.items():
        held = rule.holds
        tensors = [held_tensor(layer, tensor_name) for tensor_name in held.values()]
        sizes = {tensor.numel() for tensor in tensors if tensor is not None}
        if all(tensor is not None for tensor in tensors) and len(sizes) == 1:
            if len(held) == 1 and _other_statistics(layer, held.values()):
                return None
            prefix = f"{name}." if name else ""
            # detectron2-style frozen layers keep eps in their forward; theirs is PyTorch's default.
            eps = float(getattr(layer, "eps", 1e-5))
            keys = {role: prefix + tensor_name for role, tensor_name in held.items()}
            return Site(name or type(layer).__name__, kind, sizes.pop(), eps, keys)
    return None


def input_channels(module: nn.Module) -> int | None:
    """Channels that the first convolution takes; None if there is none."""
    for _, layer in distinct_layers(module):
        weight = held_tensor(layer, "weight")
        if isinstance(layer, nn.modules.conv._ConvNd) and weight is not None:
            return int(layer.in_channels)
        if isinstance(layer, nn.Linear):
            return None
    return None


def first_floating(module: nn.Module) -> Tensor | None:
    """A tensor that shows the network's device and dtype."""
    for _, layer in distinct_layers(module):
        for tensor in (*layer._parameters.values(), *layer._buffers.values()):
            if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
                return tensor
    return None
