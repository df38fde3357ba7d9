"""Which neurons lie farthest out, by a KL that is the record's own."""

from __future__ import annotations

import math

import pytest
import torch

from adabn_cli.measures.divergence import symmetric_kl_nats
from adabn_cli.moments import Moments
from adabn_cli.record import ShiftPart
from adabn_cli.reports.words.shifts import Neuron, farthest, neurons, spread_told


@pytest.mark.parametrize(("mean", "log_ratio"), [(0.0, 0.0), (1.3, -0.7), (-4.0, 2.0), (0.1, 6.0)])
def test_the_divergence_of_a_shift_is_that_of_the_measures(mean, log_ratio):
    def moments(mean, variance):
        return Moments.of_variance(9, torch.tensor([mean]), torch.tensor([variance]))

    source = moments(2.0, 9.0)
    target = moments(2.0 + 3.0 * mean, 9.0 * math.exp(log_ratio))
    kl = symmetric_kl_nats(source, target, 0.0).item()
    assert Neuron("s", 0, mean, log_ratio).kl_nats == pytest.approx(kl, rel=1e-6, abs=1e-9)


def test_dead_neurons_are_left_out_and_the_farthest_come_first(record):
    shift = ShiftPart(mean=(0.1, None, -3.0), log_variance_ratio=(0.0, None, 0.0))
    site = record.sites[0].model_copy(update={"shift": shift})
    found = neurons(record.model_copy(update={"sites": (site, *record.sites[1:])}))
    assert [one.channel for one in found] == [0, 2]
    assert farthest(found, 1)[0].channel == 2
    assert spread_told(found).startswith("Of 2 neurons half")
    assert neurons(record) == []


def test_no_variance_ratio_is_too_large():
    assert math.isfinite(Neuron("s", 0, 1e9, -1e9).kl_nats)
