"""Weight Normalization (Salimans, Kingma 2016): initialization, scale, range.

Works on layers under `torch.nn.utils.parametrizations.weight_norm`, `w = g v / ||v||`, where
`parametrizations.weight.original0` is g and `original1` is v. C output channels, one g each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from adabn_cli.errors import ModelError
from adabn_cli.moments import measure
from adabn_cli.normalizers.mean_only_batch_norm import MeanOnlyBatchNorm1d, MeanOnlyBatchNorm2d

Layer = TypeVar("Layer", bound=nn.Module)

_DIRECTION_STD = 0.05


class _Exponential(nn.Module):
    """`g = exp(c s)`, with s the parameter."""

    def __init__(self, c: float) -> None:
        super().__init__()
        self.c = c

    def forward(self, s: Tensor) -> Tensor:
        return torch.exp(self.c * s)

    def right_inverse(self, g: Tensor) -> Tensor:
        return g.log() / self.c


def log_scale_weight_norm(layer: Layer, c: float = 1.0) -> Layer:
    """The layer with its weight as `exp(c s) v / ||v||`, s and v the parameters.

    Salimans, Kingma 2016, sec. 2: a scale that is learned as its logarithm stays positive and moves
    by factors; c sets how fast. The weight itself is unchanged, except that rows of zeros, which
    have no logarithm, raise ValueError. `original0` still reads and writes as g; the entry in the
    state dict is `parametrizations.weight.parametrizations.original0.original` and holds s.
    """
    if c == 0:
        raise ValueError("c = 0 leaves no scale to learn")
    if not parametrize.is_parametrized(layer, "weight"):
        weight_norm(layer)
    weight = _weight_of(layer)
    if weight is None:
        raise ValueError(f"{type(layer).__name__} has a weight of another parametrization")
    if not (weight.original0 > 0).all():
        raise ValueError("every g has to be positive: e^(c s) cannot be 0 or less")
    parametrize.register_parametrization(weight, "original0", _Exponential(c))
    return layer


@torch.no_grad()
def limit_v_norms(model: nn.Module, low: float, high: float) -> None:
    """Scales every v of the model so that ||v|| lies in [low, high]; no weight changes.

    To be called after an optimizer's step: each gradient is orthogonal to v, so each step makes
    ||v|| grow (Salimans, Kingma 2016, sec. 2.1) and the next one smaller in angle. A v of zeros has
    no direction and is left as it is. Raises ValueError unless 0 < low <= high.
    """
    if not 0 < low <= high:
        raise ValueError(f"not a range of norms: {low} to {high}")
    for _, layer in _weight_normalized(model):
        v = _weight_of(layer).original1
        norms = _norms_of_v(layer)
        scale = norms.clamp(low, high) / norms
        v.mul_(torch.where(norms > 0, scale, 1.0))


def data_dependent_init(model: nn.Module, images: Tensor) -> dict[str, int]:
    """Initializes every weight-normalized layer on one batch; dead channels counted by layer.

    Salimans, Kingma 2016, sec. 3: v ~ N(0, 0.05^2), `g = 1 / std[t]`, `b = -mean[t] / std[t]` with
    `t = v.x / ||v||` over the batch [N, ...], so that what each layer computes starts with mean 0
    and variance 1. One forward in eval mode: a layer sees the initialized ones before it; one that
    is called more than once is initialized by its first call. A dead channel gets g = 1. A layer
    without bias gets its scale alone; a MeanOnlyBatchNorm takes the batch's mean for its own.
    Random numbers are torch's own: call `torch.manual_seed` first.

    Raises ModelError where there is no such layer, where the batch reaches not all of them, or
    where a g does not belong to one output channel.
    """
    layers = dict(_weight_normalized(model))
    if not layers:
        raise ModelError(
            "There is no weight-normalized layer to initialize.",
            where=type(model).__name__,
            hint="Wrap its layers: torch.nn.utils.parametrizations.weight_norm(layer).",
        )
    dead: dict[str, int] = {}
    with ExitStack() as stack:
        for name, layer in layers.items():
            hook = layer.register_forward_hook(_initialization(name, dead), with_kwargs=True)
            stack.callback(hook.remove)
        for layer in model.modules():
            if isinstance(layer, MeanOnlyBatchNorm1d | MeanOnlyBatchNorm2d):
                stack.callback(layer.register_forward_pre_hook(_take_mean).remove)
        stack.enter_context(_in_eval_mode(model))
        stack.enter_context(torch.no_grad())
        model(images)
    if missed := [name for name in layers if name not in dead]:
        raise ModelError(
            f"The batch did not reach {len(missed)} weight-normalized layers.",
            where=", ".join(missed),
            hint="Initialize with a forward that uses every layer.",
        )
    return dead


def _initialization(name: str, dead: dict[str, int]) -> Callable[..., Tensor | None]:
    def initialize(
        layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], _output: Any
    ) -> Tensor | None:
        if name in dead:
            return None
        weight, bias = _weight_of(layer), getattr(layer, "bias", None)
        weight.original1.normal_(0, _DIRECTION_STD)
        _set_g(weight, torch.ones_like(weight.original0))
        if bias is not None:
            bias.zero_()
        t = cast("Tensor", layer.forward(*args, **kwargs))
        # Linear keeps its channels last, convolutions in dimension 1.
        moments = measure(t.movedim(-1, 1) if isinstance(layer, nn.Linear) else t).pixels
        if weight.original0.numel() != len(moments.mean_C):
            raise ModelError(
                f"{weight.original0.numel()} values of g for {len(moments.mean_C)} outputs.",
                where=name,
                hint="Give weight_norm the dimension of the output channels.",
            )
        dead[name] = int(moments.dead_C.sum())
        g_C = torch.where(moments.dead_C, 1.0, moments.var_C.rsqrt())
        _set_g(weight, g_C.reshape(weight.original0.shape).to(weight.original0))
        if bias is not None:
            bias.copy_(-moments.mean_C * g_C)
        return cast("Tensor", layer.forward(*args, **kwargs))

    return initialize


def _take_mean(layer: nn.Module, args: tuple[Any, ...]) -> None:
    cast("Tensor", layer.running_mean).copy_(measure(args[0]).pixels.mean_C)


def _set_g(weight: Any, g: Tensor) -> None:
    if parametrize.is_parametrized(weight, "original0"):
        weight.original0 = g  # By way of `right_inverse`.
    else:
        weight.original0.copy_(g)


def _weight_of(layer: nn.Module) -> Any:
    """The layer's parametrized weight, g in `original0` and v in `original1`; None without one."""
    if not parametrize.is_parametrized(layer, "weight"):
        return None
    weight: Any = cast("Any", layer).parametrizations.weight
    return weight if hasattr(weight, "original1") and hasattr(weight[0], "dim") else None


def _weight_normalized(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((n, layer) for n, layer in model.named_modules() if _weight_of(layer) is not None)


def _norms_of_v(layer: nn.Module) -> Tensor:
    """||v|| of every output channel, of the shape of g."""
    weight = _weight_of(layer)
    return torch.norm_except_dim(weight.original1, 2, weight[0].dim)


@contextmanager
def _in_eval_mode(model: nn.Module) -> Iterator[None]:
    training = [layer for layer in model.modules() if layer.training]
    for layer in training:
        layer.training = False
    try:
        yield
    finally:
        for layer in training:
            layer.training = True
