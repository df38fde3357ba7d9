"""Mean-only Batch Normalization (Salimans, Kingma 2016, sec. 4): layers to train with.

Stands behind a weight-normalized layer without bias. Knows no weight. C channels, * any positions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class _MeanOnlyBatchNorm(nn.Module):
    """Mean-only Batch Normalization over dimension 1 (Salimans, Kingma 2016, sec. 4).

    Training: `y = t - mean_B[t] + bias`, and the running mean, of rate `momentum`, is updated after
    use. Eval: `y = t - running_mean + bias`. Means are taken in float32 at least.

    Raises ValueError for an input of another shape.
    """

    def __init__(self, num_features: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.num_features = num_features
        self.momentum = momentum
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.running_mean = nn.Buffer(torch.zeros(num_features))

    def forward(self, t: Tensor) -> Tensor:
        """The centred input plus the bias, of its shape and dtype."""
        self._check_input_dim(t)
        wide = t if t.dtype == torch.float64 else t.float()
        mean_C: Tensor = self.running_mean
        if self.training:
            mean_C = wide.mean([0] + list(range(2, t.dim())))  # noqa: RUF005 - TorchScript
            stored = self.running_mean
            stored.lerp_(mean_C.detach().to(stored.dtype), self.momentum)
        view = [1, -1] + [1] * (t.dim() - 2)
        # One subtraction of large means first: t and its mean may be close, the bias is not.
        return (wide - mean_C.view(view) + self.bias.view(view)).to(t.dtype)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"{self.num_features}, momentum={self.momentum}"

    def _check_input_dim(self, t: Tensor) -> None:
        raise NotImplementedError


class MeanOnlyBatchNorm1d(_MeanOnlyBatchNorm):
    """Mean-only Batch Normalization of [N, C] or [N, C, L]; see `_MeanOnlyBatchNorm`."""

    def _check_input_dim(self, t: Tensor) -> None:
        if t.dim() != 2 and t.dim() != 3:
            raise ValueError(f"expected [N, C] or [N, C, L], got {t.dim()} dimensions")


class MeanOnlyBatchNorm2d(_MeanOnlyBatchNorm):
    """Mean-only Batch Normalization of [N, C, H, W]; see `_MeanOnlyBatchNorm`."""

    def _check_input_dim(self, t: Tensor) -> None:
        if t.dim() != 4:
            raise ValueError(f"expected [N, C, H, W], got {t.dim()} dimensions")
