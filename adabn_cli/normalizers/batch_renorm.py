"""Batch Renormalization (Ioffe 2017): layers to train with. C channels, * any positions."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class ClippingSchedule(NamedTuple):
    """How far r and d may go, by training step; the defaults are the paper's (Ioffe 2017, sec. 4).

    Until step `start` r is 1 and d is 0, which is Batch Normalization; then the bound of r grows
    linearly to `r_max` at step `r_end` and that of d to `d_max` at step `d_end`. With all three
    steps 0 the bounds are `r_max` and `d_max` from the first step on.
    """

    r_max: float = 3.0
    d_max: float = 5.0
    start: int = 5_000
    r_end: int = 40_000
    d_end: int = 25_000


class _BatchRenorm(nn.Module):
    """Batch Renormalization over dimension 1 (Ioffe 2017, Algorithm 1).

    Training: `y = weight ((x - mu_B) / sigma_B r + d) + bias`, where `r = sigma_B / sigma` and
    `d = (mu_B - mu) / sigma`, clipped by `schedule`, carry no gradient. Eval:
    `y = weight (x - mu) / sigma + bias`. `sigma_B = sqrt(var_B + eps)` with the population variance
    of the batch; mu and sigma are its moving averages of rate `momentum`, updated after use.

    A BatchNorm's state dict loads: `sigma = sqrt(running_var + eps)` gives its eval output if eps
    is the same, and its batches count as steps of the schedule, whose first part is BatchNorm.
    Statistics are taken in float32 at least. As in BatchNorm, each process of a distributed
    training takes its own.

    Raises ValueError for a schedule that cannot be followed and for an input of another shape.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.01,
        affine: bool = True,
        schedule: ClippingSchedule | None = None,
    ) -> None:
        super().__init__()
        schedule = ClippingSchedule() if schedule is None else schedule
        if schedule.r_max < 1 or schedule.d_max < 0:
            raise ValueError(f"r_max is at least 1 and d_max at least 0: {schedule}")
        if not 0 <= schedule.start <= min(schedule.r_end, schedule.d_end):
            raise ValueError(f"the bounds grow from start to r_end and d_end: {schedule}")
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.schedule = schedule
        self.weight = nn.Parameter(torch.ones(num_features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features)) if affine else None
        self.running_mean = nn.Buffer(torch.zeros(num_features))
        self.running_std = nn.Buffer(torch.ones(num_features))
        self.schedule_step = nn.Buffer(torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        """The normalized input, of its shape and dtype.

        Raises ValueError, as BatchNorm does, for one value a channel while d has to be 0: the
        output would be the bias, whatever the input.
        """
        self._check_input_dim(x)
        weight: Tensor | None = self.weight
        bias: Tensor | None = self.bias
        if not self.training:
            return _by_moving_averages(x, self.running_mean, self.running_std, weight, bias)
        r_max, d_max = self.bounds()
        if x.numel() == x.shape[1] and float(d_max) == 0:
            raise ValueError("one value a channel cannot be normalized by itself")
        r_C, d_C = self._correction(x.detach(), r_max, d_max)
        # weight (x^ r + d) + bias = x^ (weight r) + (weight d + bias): with r = 1 and d = 0 this is
        # BatchNorm's own kernel on BatchNorm's own numbers, forward and backward, to the bit.
        if weight is not None and bias is not None:
            r_C, d_C = weight * r_C, weight * d_C + bias
        cudnn = torch.backends.cudnn.enabled
        return torch.batch_norm(x, r_C, d_C, None, None, True, 0.0, self.eps, cudnn)

    def _correction(self, x: Tensor, r_max: Tensor, d_max: Tensor) -> tuple[Tensor, Tensor]:
        """r and d of this batch, [C] each; the moving averages and the step move on."""
        mean_C, std_C = _batch_statistics(x, self.eps)
        r_C = std_C / self.running_std
        d_C = (mean_C - self.running_mean) / self.running_std
        r_C = torch.minimum(torch.maximum(r_C, 1 / r_max), r_max)
        d_C = torch.minimum(torch.maximum(d_C, -d_max), d_max)
        # No parameter is in sight and x comes detached: there is no gradient to stop.
        self.running_mean.lerp_(mean_C.to(self.running_mean.dtype), self.momentum)
        self.running_std.lerp_(std_C.to(self.running_std.dtype), self.momentum)
        self.schedule_step.add_(1)
        return r_C, d_C

    def bounds(self) -> tuple[Tensor, Tensor]:
        """r_max and d_max at the present step, as tensors without dimension."""
        r_end_value, d_end_value, start, r_end, d_end = self.schedule
        r_max = 1 + (r_end_value - 1) * _ramp(self.schedule_step, start, r_end)
        d_max = d_end_value * _ramp(self.schedule_step, start, d_end)
        return r_max, d_max

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}, schedule={tuple(self.schedule)}"
        )

    def _check_input_dim(self, x: Tensor) -> None:
        raise NotImplementedError

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: object
    ) -> None:
        """Reads BatchNorm's entries too, and those of layers that count their batches."""
        var_C = state_dict.get(prefix + "running_var")
        if var_C is not None and prefix + "running_std" not in state_dict:
            del state_dict[prefix + "running_var"]
            state_dict[prefix + "running_std"] = (var_C + self.eps).sqrt()
        if prefix + "schedule_step" not in state_dict:
            batches = state_dict.pop(prefix + "num_batches_tracked", None)
            # BatchNorm itself counted nothing before version 2 of its state dict.
            step = torch.zeros_like(self.schedule_step) if batches is None else batches
            state_dict[prefix + "schedule_step"] = step
        super()._load_from_state_dict(state_dict, prefix, *args)


class BatchRenorm1d(_BatchRenorm):
    """Batch Renormalization of [N, C] or [N, C, L]; see `_BatchRenorm`."""

    def _check_input_dim(self, x: Tensor) -> None:
        if x.dim() != 2 and x.dim() != 3:
            raise ValueError(f"expected [N, C] or [N, C, L], got {x.dim()} dimensions")


class BatchRenorm2d(_BatchRenorm):
    """Batch Renormalization of [N, C, H, W]; see `_BatchRenorm`."""

    def _check_input_dim(self, x: Tensor) -> None:
        if x.dim() != 4:
            raise ValueError(f"expected [N, C, H, W], got {x.dim()} dimensions")


class BatchRenorm3d(_BatchRenorm):
    """Batch Renormalization of [N, C, D, H, W]; see `_BatchRenorm`."""

    def _check_input_dim(self, x: Tensor) -> None:
        if x.dim() != 5:
            raise ValueError(f"expected [N, C, D, H, W], got {x.dim()} dimensions")


def _ramp(step: Tensor, start: int, end: int) -> Tensor:
    """0 until `start`, 1 from `end` on, linear between."""
    share = ((step - start) / max(end - start, 1)).clamp(0, 1)
    return torch.where(step >= end, torch.ones_like(share), share)


def _batch_statistics(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and sqrt(population variance + eps) of every channel, [C] each, float32 or float64."""
    wide = _widened(x)
    dims = [0] + list(range(2, x.dim()))  # noqa: RUF005 - TorchScript knows no unpacking
    # Deviations in a second pass: 2 ms where torch.var_mean takes 10 and BatchNorm itself 6.
    mean = wide.mean(dims, keepdim=True)
    var_C = (wide - mean).square_().mean(dims)
    return mean.flatten(), (var_C + eps).sqrt()


def _widened(tensor: Tensor) -> Tensor:
    """In float32 at least."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _by_moving_averages(
    x: Tensor, mean_C: Tensor, std_C: Tensor, weight: Tensor | None, bias: Tensor | None
) -> Tensor:
    """The input in eval mode, by BatchNorm's kernel, which takes a variance."""
    if weight is not None and bias is not None:
        weight, bias = _widened(weight), _widened(bias)
    var_C = _widened(std_C) ** 2  # eps is in it already.
    cudnn = torch.backends.cudnn.enabled
    return torch.batch_norm(x, weight, bias, _widened(mean_C), var_C, False, 0.0, 0.0, cudnn)
