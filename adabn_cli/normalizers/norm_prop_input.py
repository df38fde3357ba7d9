"""The input normalization of Normalization Propagation (Arpit et al. 2016): layer and adaptation.

The only place of such a network with data statistics; the layers behind it are in `norm_prop`.
C channels, * any positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from adabn_cli.errors import TargetError
from adabn_cli.model import Site
from adabn_cli.moments import Moments, measure

HOLDS = {"mean": "input_mean", "std": "input_std"}
# Pictures that were normalized before they came here have a mean of 0 and a deviation of 1.
INITIAL: Mapping[str, float] = {}
RULE = "replaces the input's mean and standard deviation by the target's"


def believed(site: Site, state: Mapping[str, Tensor]) -> Moments | None:
    """The stored statistics, [C] each, without the eps under the stored root."""
    mean_C = state[site.keys["mean"]].flatten().double().clone()  # Not the live entry.
    var_C = state[site.keys["std"]].flatten().double() ** 2 - site.eps
    return Moments.of_variance(1, mean_C, var_C.clamp_min(0))


def absorb(site: Site, state: Mapping[str, Tensor], moments: Moments) -> dict[str, Tensor]:
    """The target's global mean and `sqrt(variance + eps)` take the stored place.

    Nothing else in the network depends on data, so this is all there is to adapt.
    """
    shape = state[site.keys["mean"]].shape
    return {
        site.keys["mean"]: moments.mean_C.reshape(shape),
        site.keys["std"]: (moments.var_C + site.eps).sqrt().reshape(shape),
    }


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
