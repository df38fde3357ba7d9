"""The online engine: running statistics, batch after batch, as torch's own momentum rule."""

from __future__ import annotations

import copy

import pytest
import torch
from oracle import oracle, statistics, worst
from torch import Tensor, nn

import adabn_cli
from adabn_cli.adaptation.engines.online import moved
from adabn_cli.errors import UsageError
from adabn_cli.moments import ImageMoments, SiteMoments, measure


def running_reference(module: nn.Module, batches: list[Tensor], momentum: float) -> nn.Module:
    """A loop in float64 that updates each BatchNorm with the batch before it normalizes."""
    module = copy.deepcopy(module).double().eval()

    def update(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        x_CS = args[0].transpose(0, 1).flatten(1)
        layer.running_mean += momentum * (x_CS.mean(1) - layer.running_mean)
        layer.running_var += momentum * (x_CS.var(1, correction=0) - layer.running_var)

    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.register_forward_pre_hook(update)
    with torch.no_grad():
        for batch in batches:
            module(batch.double())
    return module


def adapted(net: nn.Module, batches: object, **options: object) -> nn.Module:
    net = copy.deepcopy(net)
    adabn_cli.adapt(net, batches, engine="online", **options)
    return net


@pytest.mark.parametrize("momentum", [0.1, 0.5, 1.0])
def test_momentum_is_that_of_a_loop_that_updates_before_each_normalizer(
    net: nn.Module, images: Tensor, momentum: float
) -> None:
    batches = list(images.split([16, 8, 32, 9]))
    expected = statistics(running_reference(net, batches, momentum))
    assert worst(statistics(adapted(net, batches, momentum=momentum)), expected) < 1e-5
    wide = adapted(net.double(), [batch.double() for batch in batches], momentum=momentum)
    assert worst(statistics(wide), expected) < 1e-9


def test_momentum_starts_from_the_source(net: nn.Module, images: Tensor) -> None:
    before = statistics(net)
    after = statistics(adapted(net, [images], momentum=1e-6))
    assert worst(after, before) < 1e-4


def test_equal_weight_gives_the_first_site_all_pictures_alike(
    net: nn.Module, images: Tensor
) -> None:
    mean, var = oracle(net, images)["1"]
    for batches in (images.split([32, 2, 31]), images.flip(0).split(7)):
        found = statistics(adapted(net, batches))["1"]
        torch.testing.assert_close(found[0], mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found[1], var, rtol=1e-5, atol=1e-6)


def test_deeper_sites_depend_on_the_order(net: nn.Module, images: Tensor) -> None:
    one, other = (statistics(adapted(net, x.split(8))) for x in (images, images.flip(0)))
    assert worst(one, other) > 0.01


def test_a_single_batch_is_that_of_the_exact_engine(net: nn.Module, images: Tensor) -> None:
    assert worst(statistics(adapted(net, [images])), oracle(net, images)) < 1e-6


def test_layers_and_alpha_keep_their_meaning(net: nn.Module, images: Tensor) -> None:
    before, full = statistics(net)["1"], statistics(adapted(net, images.split(8)))["1"]
    half = statistics(adapted(net, images.split(8), layers=["1"], alpha=0.5))
    torch.testing.assert_close(half["1"][0], (before[0] + full[0]) / 2, rtol=1e-5, atol=1e-6)
    assert torch.equal(half["3.bn1"][0], statistics(net)["3.bn1"][0])


def test_prior_counts_the_images_seen_so_far(net: nn.Module, images: Tensor) -> None:
    before, full = statistics(net)["1"], statistics(adapted(net, images.split(8)))["1"]
    mixed = statistics(adapted(net, images.split(8), prior=65))["1"]
    torch.testing.assert_close(mixed[1], (before[1] + full[1]) / 2, rtol=1e-5, atol=1e-6)


def test_a_profile_holds_the_stream_against_its_source(net: nn.Module, images: Tensor) -> None:
    profile = adabn_cli.profile(net, images.split(16))
    for momentum in (None, 0.2):
        same = copy.deepcopy(net)
        record = adabn_cli.adapt(
            same, images.split(16), engine="online", profile=profile, momentum=momentum
        )
        assert (record.method.name, record.method.momentum) == ("matched", momentum)
        assert all(torch.isfinite(value).all() for value in same.state_dict().values())


def test_it_scores_and_measures_the_adapted_model(net: nn.Module, images: Tensor) -> None:
    record = adabn_cli.adapt(net, images.split(8), engine="online", momentum=0.1)
    assert record.after.n == len(images)
    assert record.residual is not None
    assert record.residual.max_log_variance > 0.05


def test_a_failure_in_the_middle_leaves_the_model_as_it_was(net: nn.Module, images: Tensor) -> None:
    before = copy.deepcopy(net.state_dict())
    calls = 0

    def fail(_module: nn.Module, _args: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 15:
            raise RuntimeError("in the middle")

    net[3].bn2.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        adabn_cli.adapt(net, images.split(8), engine="online")
    assert calls == 15
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_a_batch_of_one_is_legal(net: nn.Module, images: Tensor) -> None:
    for momentum in (None, 0.1):
        found = adapted(net, images.split(1), momentum=momentum)
        assert all(torch.isfinite(value).all() for value in found.state_dict().values())


def test_momentum_is_for_this_engine_alone(net: nn.Module, images: Tensor) -> None:
    with pytest.raises(UsageError, match="weighs the batches of a stream"):
        adabn_cli.adapt(net, [images], momentum=0.1)
    for wrong in (0, -0.1, 1.1, float("nan")):
        with pytest.raises(UsageError, match="is not a weight"):
            adabn_cli.adapt(net, [images], engine="online", momentum=wrong)


def test_running_statistics_know_how_well_they_are_known() -> None:
    """The error that the counts say is the spread of running means over many streams."""
    generator = torch.Generator().manual_seed(3)
    source = measure(torch.zeros(1, 1, 1, 1, dtype=torch.float64)).pixels
    ends, errors = [], []
    for _ in range(300):
        running = SiteMoments(source, ImageMoments.empty(1))
        for _ in range(40):
            batch = torch.randn(16, 1, 1, 1, generator=generator, dtype=torch.float64)
            running = moved(running, measure(batch), 0.2)
        ends.append(float(running.pixels.mean_C))
        errors.append(float(running.standard_error(10**9)))
    spread = float(torch.tensor(ends).std())
    assert spread == pytest.approx(sum(errors) / len(errors), rel=0.1)
