"""The one-pass engine: what peers compute, count-weighted, with the variance between batches."""

from __future__ import annotations

import copy

import torch
from learned_statistics import learned
from oracle import oracle, statistics, worst
from torch import Tensor, nn

import adabn_cli


def test_first_site_is_exact_in_any_order(net: nn.Module, images: Tensor) -> None:
    expected = oracle(net, images)["1"]
    adabn_cli.adapt(net, images.split([32, 2, 31]), engine="one-pass")
    torch.testing.assert_close(net[1].running_mean.double(), expected[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(net[1].running_var.double(), expected[1], rtol=1e-5, atol=1e-6)


def test_train_mode_forward_is_what_torch_computes(images: Tensor) -> None:
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
    net = learned(nn.Sequential(*layers))
    reference = copy.deepcopy(net).train()
    reference[1].momentum = reference[3].momentum = None  # Cumulative average, as update_bn does.
    reference[1].reset_running_stats()
    reference[3].reset_running_stats()
    for batch in images[:64].split(16):
        reference(batch)
    adabn_cli.adapt(net, images[:64].split(16), engine="one-pass")
    torch.testing.assert_close(net[3].running_mean, reference[3].running_mean, rtol=1e-4, atol=1e-5)


def test_its_residual_is_shown_as_it_is(net: nn.Module, images: Tensor) -> None:
    record = adabn_cli.adapt(net, images.split(8), engine="one-pass")
    assert record.residual is not None
    assert record.residual.max_log_variance > 0.05  # Sorted batches of 8: far from consistent.


def test_it_depends_on_the_batch_size_where_exact_does_not(net: nn.Module, images: Tensor) -> None:
    expected = oracle(net, images)
    errors = {}
    for name in ("exact", "one-pass"):
        adapted = copy.deepcopy(net)
        adabn_cli.adapt(adapted, images.split(8), engine=name)
        errors[name] = worst(statistics(adapted), expected)
    assert errors["exact"] < 1e-6
    assert errors["one-pass"] > 0.05


def test_a_batch_of_one_is_legal(net: nn.Module, images: Tensor) -> None:
    record = adabn_cli.adapt(net, images.split(1), engine="one-pass")
    assert all(torch.isfinite(value).all() for value in net.state_dict().values())
    assert record.after.n == len(images)
