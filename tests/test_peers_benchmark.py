"""The benchmark's oracle against peers, and what it says of targets. No photograph is needed."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch
from torch import nn


@pytest.fixture
def benchmarks(monkeypatch):
    folder = Path(__file__).resolve().parents[1] / "benchmarks"
    monkeypatch.syspath_prepend(str(folder))
    yield
    for name, module in list(sys.modules.items()):
        if Path(getattr(module, "__file__", None) or "").parent == folder:
            del sys.modules[name]


def _net():
    torch.manual_seed(0)
    layers = []
    for channels in ((3, 8), (8, 8), (8, 8)):
        layers += [nn.Conv2d(*channels, 3, bias=False), nn.BatchNorm2d(channels[1]), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)).eval()


def _sorted_images():
    images = torch.randn(48, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return images + torch.linspace(-2, 2, 48).view(-1, 1, 1, 1)


@pytest.mark.parametrize("size", [5, 16, 48])
def test_exact_agrees_with_the_oracle_and_update_bn_does_not(benchmarks, size):
    from float64_oracle import truth, worst_error
    from ways import WAYS

    net, images = _net(), _sorted_images()
    true, errors = truth(net, images), {}
    for way in ("adabn exact", "torch update_bn"):
        adapted = copy.deepcopy(net)
        WAYS[way].run(adapted, images.split(size))
        errors[way] = worst_error(adapted, images, true)
    assert errors["adabn exact"].statistics < 1e-5
    assert errors["adabn exact"].logits < 1e-4
    if size < len(images):
        assert errors["torch update_bn"].statistics > 0.1


def test_the_plain_pass_changes_nothing(benchmarks):
    from ways import PLAIN, WAYS

    net, images = _net(), _sorted_images()
    before = copy.deepcopy(net.state_dict())
    WAYS[PLAIN].run(net, images.split(16))
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_a_missed_target_is_said_to_be_missed(benchmarks):
    from targets_met import targets_met
    from ways import EXACT

    found = {
        "times": {"resnet18": {EXACT: {"cpu": 1.2}, "torch update_bn": {"cpu": 1.3}}},
        "errors": {
            "resnet18": {
                EXACT: {"by class, 32": {"statistics": 1e-6}},
                "torch update_bn": {"by class, 32": {"statistics": 0.5}},
            }
        },
        "jobs": {"9 of 500x400": [{"adabn": {"wall": 7.0}, "script": {"wall": 10.0}}]},
    }
    assert [row[""] for row in targets_met(found)] == ["missed", "met", "met", "missed"]
