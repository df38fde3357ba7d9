"""How a channel's values are distributed, as counts in fixed bins. Knows no model and no source.

Shapes: N images, C channels, B bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adabn_cli.moments import Moments

#: The first and the last bin are open; the others part the range of `Bins` evenly.
BINS = 18
_RANGE_DEVIATIONS = 4.0
# All positions would cost more than the layer; 32 of each image cost a ResNet-18 two percent.
_POSITIONS = 32


@dataclass(frozen=True)
class Bins:
    """Where each channel's inner bins begin and how wide they are, [C] each, float32."""

    low_C: Tensor
    width_C: Tensor

    @classmethod
    def around(cls, moments: Moments) -> Bins:
        """Bins over four standard deviations on both sides of the mean."""
        # A dead channel has no width of its own; any will do, all its values are the same.
        std_C = moments.var_C.sqrt().clamp_min(1e-12)
        low_C = moments.mean_C - _RANGE_DEVIATIONS * std_C
        return cls(low_C.float(), (2 * _RANGE_DEVIATIONS / (BINS - 2) * std_C).float())

    def count(self, activation: Tensor) -> Tensor:
        """How many values of an activation [N, C, *] are in each bin, [C, B], int64.

        Of an image with many positions 32 are counted, spread over all of it.
        """
        values_NCP = activation.flatten(2) if activation.dim() > 2 else activation.unsqueeze(2)
        values_NCP = values_NCP[:, :, _spread(values_NCP.shape[2])].float()
        low, width = self.low_C.to(values_NCP), self.width_C.to(values_NCP)
        bins = ((values_NCP - low[:, None]) / width[:, None]).floor_().nan_to_num_(-1.0)
        bins = bins.clamp_(-1, BINS - 2).long() + 1
        channel = torch.arange(len(low), device=bins.device)[:, None] * BINS
        counts = torch.bincount((bins + channel).flatten(), minlength=len(low) * BINS)
        return counts.view(len(low), BINS)


def _spread(positions: int) -> Tensor:
    """Indices of at most 32 positions. Steps of the golden ratio: an even stride hits a column."""
    if positions <= _POSITIONS:
        return torch.arange(positions)
    steps = torch.arange(_POSITIONS, dtype=torch.float64) * ((5**0.5 - 1) / 2)
    return (steps.frac() * positions).long()
