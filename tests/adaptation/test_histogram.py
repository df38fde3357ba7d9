"""Histograms: every value is counted once, in the bin that it is in."""

from __future__ import annotations

import numpy as np
import torch

from adabn_cli.adaptation.histogram import BINS, Bins
from adabn_cli.moments import measure


def test_counts_are_numpys_with_open_ends() -> None:
    x = torch.randn(50, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 + 1
    bins = Bins.around(measure(x * 0.5).pixels)
    for channel, counts in enumerate(bins.count(x)):
        low, width = float(bins.low_C[channel]), float(bins.width_C[channel])
        edges = [-np.inf, *(low + width * np.arange(BINS - 1)), np.inf]
        expected, _ = np.histogram(x[:, channel].numpy(), edges)
        assert counts.tolist() == expected.tolist()
        assert counts.sum() == 50 * 16


def test_of_large_images_positions_of_all_rows_and_columns_are_counted() -> None:
    rows = torch.arange(16.0).repeat_interleave(16).reshape(1, 1, 16, 16)
    bins = Bins(torch.tensor([0.0]), torch.tensor([1.0]))
    for image in (rows, rows.transpose(2, 3)):
        counts = bins.count(image)[0]
        assert counts.sum() == 32
        assert (counts > 0).sum() > 10  # An even stride would see two columns of sixteen.


def test_a_dead_channel_and_one_without_numbers_are_counted() -> None:
    x = torch.full((4, 2), 3.0)
    x[:, 1] = torch.nan
    counts = Bins.around(measure(torch.full((4, 2), 3.0)).pixels).count(x)
    assert counts.sum(1).tolist() == [4, 4]
