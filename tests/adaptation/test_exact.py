"""The exact engine: right, self-consistent, and blind to batches and order."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from learned_statistics import learned
from oracle import float32_floor, oracle, relative, statistics, worst
from PIL import Image
from torch import Tensor, nn

import adabn_cli
from adabn_cli.errors import ModelError


def adapted(net: nn.Module, images: Tensor, batch_size: int, **options: object) -> nn.Module:
    net = copy.deepcopy(net)
    adabn_cli.adapt(net, images.split(batch_size), **options)
    return net


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
def test_statistics_are_the_oracles_at_every_batch_size(
    net: nn.Module, images: Tensor, batch_size: int
) -> None:
    found = statistics(adapted(net, images, batch_size))
    assert worst(found, oracle(net, images)) < 1e-6


def test_order_of_the_images_does_not_change_statistics(net: nn.Module, images: Tensor) -> None:
    shuffled = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(2))]
    one, other = (statistics(adapted(net, x, 7)) for x in (images, shuffled))
    assert worst(one, other) < 1e-6


def test_uneven_batches_do_not_change_statistics(net: nn.Module, images: Tensor) -> None:
    net_uneven = copy.deepcopy(net)
    adabn_cli.adapt(net_uneven, images.split([2, 2, 4, 8, 16, 32, 1]))
    assert worst(statistics(net_uneven), statistics(adapted(net, images, 65))) < 1e-6


def test_the_same_work_gives_the_same_bytes(net: nn.Module, images: Tensor) -> None:
    one, other = (adapted(net, images, 16).state_dict() for _ in range(2))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_dropout_does_not_change_statistics(net: nn.Module, images: Tensor) -> None:
    without = copy.deepcopy(net)
    for layer in without.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    net.train()
    one, other = statistics(adapted(net, images, 16)), statistics(adapted(without, images, 16))
    assert worst(one, other) == 0


def test_stochastic_depth_does_not_change_statistics(images: Tensor) -> None:
    torch.manual_seed(0)
    net = learned(torchvision.models.efficientnet_b0(stochastic_depth_prob=0.9)).train()
    without = torchvision.models.efficientnet_b0(stochastic_depth_prob=0.0)
    without.load_state_dict(net.state_dict())
    pictures = nn.functional.interpolate(images[:12], size=32)
    one, other = (statistics(adapted(x, pictures, 5)) for x in (net, without))
    assert worst(one, other) == 0


@pytest.fixture(scope="module")
def digits(project: Path) -> Tensor:
    """16 MNIST digits as RGB pictures of 64 px."""
    files = sorted((project / "sample_data" / "source").glob("*/*.png"))[::30][:16]
    pictures = [torch.from_numpy(np.array(Image.open(file).convert("RGB"))) for file in files]
    x = (torch.stack(pictures).permute(0, 3, 1, 2) / 255 - 0.45) / 0.225
    return nn.functional.interpolate(x, size=64, mode="bilinear")


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_real_networks_agree_with_the_oracle(name: str, digits: Tensor) -> None:
    torch.manual_seed(3)
    net = learned(torchvision.models.get_model(name, weights=None))
    expected = oracle(net, digits)
    found = statistics(adapted(net, digits, 8))
    assert relative(found, expected) < 1e-5
    # Single channels of 52 layers are as far off as float32 itself: nothing is lost on top.
    assert worst(found, expected) < 2 * float32_floor(net, digits, expected)


def test_channels_last_images_give_the_same_statistics(net: nn.Module, images: Tensor) -> None:
    one = statistics(adapted(net, images, 16))
    other = statistics(adapted(net, images.contiguous(memory_format=torch.channels_last), 16))
    assert worst(one, other) < 5e-6  # Other convolution kernels, which add in another order.


def test_an_independent_pass_finds_no_residual(net: nn.Module, images: Tensor) -> None:
    residual = adabn_cli.adapt(net, images.split(16), verify=True).residual
    assert residual is not None
    assert residual.max_mean < 1e-6
    assert residual.max_log_variance < 1e-6


def test_outputs_after_are_the_adapted_models_own(net: nn.Module, images: Tensor) -> None:
    record = adabn_cli.adapt(net, images.split(16))
    with torch.no_grad():
        predicted = net.eval()(images).argmax(1)
    assert record.after.predicted_histogram == tuple(torch.bincount(predicted, minlength=5))


def test_large_means_keep_their_variance() -> None:
    net = learned(nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, 2)))
    generator = torch.Generator().manual_seed(0)
    images = (1000 + 0.01 * torch.randn(50, 1, 8, 8, generator=generator).double()).float()
    adabn_cli.adapt(net, images.split(8))
    expected = images.double().var(correction=0)
    assert net[0].running_var.item() == pytest.approx(expected.item(), rel=1e-6)


class Shared(nn.Module):
    """One normalizer used twice: side by side, or one behind the other."""

    def __init__(self, *, sequential: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 6, 3)
        self.second = nn.Conv2d(6 if sequential else 3, 6, 3)
        self.bn = nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 4)
        self.sequential = sequential

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        one = torch.relu(self.bn(self.first(x)))
        other = torch.relu(self.bn(self.second(one if self.sequential else x)))
        return self.head(other.mean((2, 3)) + one.mean((2, 3)))


@pytest.mark.parametrize("sequential", [False, True])
def test_a_site_used_twice_pools_its_uses_and_settles(images: Tensor, *, sequential: bool) -> None:
    net = learned(Shared(sequential=sequential))
    record = adabn_cli.adapt(net, images.split(16), verify=True)
    assert record.residual is not None
    assert record.residual.max_mean < 1e-5
    assert record.residual.max_log_variance < 1e-5
    assert 2 <= record.method.forwards < 30


def test_a_site_that_is_never_reached_keeps_its_statistics(images: Tensor) -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn = nn.BatchNorm2d(3)
            self.unused = nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            return self.bn(x).mean((2, 3))

    net = Unused()
    net.unused.running_mean.fill_(7)
    record = adabn_cli.adapt(net, images.split(16))
    assert net.unused.running_mean.eq(7).all()
    left = {site.name: site.reason for site in record.sites if not site.adapted}
    assert left == {"unused": "no call of it was seen; it keeps its source statistics"}


def test_a_dead_channel_is_counted_and_stays_finite(images: Tensor) -> None:
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(400, 2)
    net = learned(nn.Sequential(*layers))
    with torch.no_grad():
        net[0].weight[1] = 0
        net[0].bias[1] = 3.3
    record = adabn_cli.adapt(net, images.split(16), verify=True)
    assert record.sites[0].dead_channels == 1
    assert record.kl.after is not None
    assert record.kl.after.max < 1e3
    assert torch.isfinite(net.eval()(images)).all()


def test_a_model_that_takes_different_ways_is_refused_and_unchanged(images: Tensor) -> None:
    class Forked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dark, self.bright = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            return (self.dark if x.mean() < 0 else self.bright)(x).mean((2, 3))

    net = learned(Forked())
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ModelError, match="different paths") as raised:
        adabn_cli.adapt(net, images.split(16))
    assert "--engine one-pass" in raised.value.hint
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_prior_mixes_source_and_target_by_images(images: Tensor) -> None:
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(432, 2))
    net[0].running_mean.fill_(5.0)
    net[0].running_var.fill_(9.0)
    record = adabn_cli.adapt(net, images.split(16), prior=35, verify=True)
    share = 65 / (65 + 35)
    mean = images.double().mean((0, 2, 3))
    var = images.double().var((0, 2, 3), correction=0)
    torch.testing.assert_close(
        net[0].running_mean.double(), share * mean + (1 - share) * 5, rtol=1e-6, atol=1e-6
    )
    torch.testing.assert_close(
        net[0].running_var.double(), share * var + (1 - share) * 9, rtol=1e-6, atol=1e-6
    )
    assert record.residual is not None
    assert record.residual.max_mean < 1e-6


def test_deeper_sites_are_measured_behind_mixed_ones(net: nn.Module, images: Tensor) -> None:
    record = adabn_cli.adapt(net, images.split(16), alpha=0.3, verify=True)
    assert record.residual is not None
    assert record.residual.max_mean < 1e-6
    assert record.residual.max_log_variance < 1e-6


def test_half_precision_models_are_measured_in_float32(images: Tensor) -> None:
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(400, 2)
    net = learned(nn.Sequential(*layers))
    expected = oracle(net.bfloat16().float(), images.bfloat16())
    adabn_cli.adapt(net.bfloat16(), images.split(16))
    assert worst(statistics(net), expected) < 2e-2  # bfloat16 holds two to three digits.
