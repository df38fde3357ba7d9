"""The input normalization of Normalization Propagation (Arpit et al. 2016).

The only place of such a network with data statistics; the layers behind it are in `norm_prop`.
C channels, * any positions.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from adabn_cli.errors import TargetError
from adabn_cli.moments import Moments, measure


class NormPropInput(nn.Module):
    """`(x - input_mean) / input_std` over dimension 1, by global data statistics.

    Arpit et al. 2016, sec. 3: the data are normalized once, every layer passes that on in closed
    form. The statistics come from `fit`; training leaves them as they are. `input_std` holds
    `sqrt(variance + eps)`, so that a channel that never varies does not divide by zero.
    """

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.input_mean = nn.Buffer(torch.zeros(num_features))
        self.input_std = nn.Buffer(torch.ones(num_features))

    @torch.jit.unused
    def fit(self, batches: Iterable[Tensor]) -> None:
        """Takes mean and population variance of all batches [n, C, *] together.

        Raises TargetError where there is no image, ValueError for another number of channels.
        """
        moments = Moments.empty(self.num_features)
        for batch in batches:
            if batch.dim() < 2 or batch.shape[1] != self.num_features:
                expected = f"[n, {self.num_features}, *]"
                raise ValueError(f"expected batches {expected}, got {list(batch.shape)}")
            found = measure(batch.detach()).pixels
            moments = moments.merge(Moments(found.count, found.mean_C.cpu(), found.m2_C.cpu()))
        if moments.count == 0:
            raise TargetError(
                "There are no images to take the input's statistics from.",
                hint="Give at least one batch.",
            )
        self.input_mean.copy_(moments.mean_C)
        self.input_std.copy_((moments.var_C + self.eps).sqrt())

    def forward(self, x: Tensor) -> Tensor:
        """The normalized input, of its shape and dtype."""
        view = [1, -1] + [1] * (x.dim() - 2)
        mean, std = self.input_mean.view(view), self.input_std.view(view)
        return ((x - mean) / std).to(x.dtype)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"{self.num_features}, eps={self.eps}"
