"""Puts a plain network's layers under the spectral or weight norm that a state dict shows.

Training scripts apply these norms to a network that they build plain; the file has the entries of
what they made. Knows torch's two forms of both.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm


@dataclass(frozen=True, kw_only=True)
class _Norm:
    """The entries that a layer has instead of its weight: `sign` tells the norm.

    `weight` has the weight's shape, and `beside` are the others. `apply` takes the layer and the
    tensor of the sign.
    """

    sign: str
    weight: str
    beside: tuple[str, ...]
    apply: Callable[[nn.Module, Tensor], object]


_WEIGHT = "parametrizations.weight"
_NORMS = (
    _Norm(
        sign="weight_u",
        weight="weight_orig",
        beside=("weight_v",),
        apply=lambda layer, _: spectral_norm(layer),
    ),
    _Norm(
        sign="weight_g",
        weight="weight_v",
        beside=(),
        apply=lambda layer, g: weight_norm(layer, dim=_axis(g)),
    ),
    _Norm(
        sign=f"{_WEIGHT}.0._u",
        weight=f"{_WEIGHT}.original",
        beside=(f"{_WEIGHT}.0._v",),
        apply=lambda layer, _: parametrizations.spectral_norm(layer),
    ),
    _Norm(
        sign=f"{_WEIGHT}.original0",
        weight=f"{_WEIGHT}.original1",
        beside=(),
        apply=lambda layer, g: parametrizations.weight_norm(layer, dim=_axis(g)),
    ),
)


def _axis(g: Tensor) -> int:
    """The dimension in which a weight norm's g has a number each; -1 for one number in all."""
    return next((axis for axis, n in enumerate(g.shape) if n > 1), 0) if g.dim() else -1


def parametrize_like(module: nn.Module, entries: Mapping[str, Tensor]) -> None:
    """Applies to every plain layer the norm whose entries the state dict has for it."""
    layers = dict(module.named_modules())
    for prefix, norm in _normed(entries):
        layer = layers.get(prefix.removesuffix("."))
        if layer is not None and layer._parameters.get("weight") is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch advises against the older forms.
                norm.apply(layer, entries[prefix + norm.sign])


def plain_entries(entries: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The entries under the names that they have in a plain network, to recognize it by."""
    names = {key: key for key in entries}
    for prefix, norm in _normed(entries):
        names[prefix + norm.weight] = f"{prefix}weight"
        for beside in (norm.sign, *norm.beside):
            names.pop(prefix + beside, None)
    return {name: entries[key] for key, name in names.items()}


def _normed(entries: Mapping[str, Tensor]) -> Iterator[tuple[str, _Norm]]:
    """Each layer under a norm, as the beginning of its keys, and the norm."""
    for key in entries:
        for norm in _NORMS:
            prefix = key.removesuffix(norm.sign)
            if prefix != key and prefix[-1:] in ("", ".") and prefix + norm.weight in entries:
                yield prefix, norm
