"""Mean-only BatchNorm: centred by the batch in training, by the running mean in eval."""

from __future__ import annotations

import copy

import pytest
import torch
from learned_statistics import learned
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

import adabn_cli
from adabn_cli.adaptation.rules import RULES
from adabn_cli.model import Site
from adabn_cli.models.live.module import EagerModel
from adabn_cli.models.live.sites import find_sites
from adabn_cli.moments import measure
from adabn_cli.normalizers.mean_only_batch_norm import (
    MeanOnlyBatchNorm1d,
    MeanOnlyBatchNorm2d,
)

SHAPES = [
    (MeanOnlyBatchNorm1d, (6, 4)),
    (MeanOnlyBatchNorm1d, (6, 4, 5)),
    (MeanOnlyBatchNorm2d, (6, 4, 5, 3)),
]
Layer = type[MeanOnlyBatchNorm1d] | type[MeanOnlyBatchNorm2d]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def made(layer: Layer) -> nn.Module:
    module = layer(4, momentum=0.3)
    with torch.no_grad():
        module.bias.copy_(draw(4, seed=7))
        module.running_mean.copy_(draw(4, seed=8))
    return module


@pytest.mark.parametrize(("layer", "shape"), SHAPES)
def test_training_subtracts_the_batch_mean_and_moves_the_running_one(
    layer: Layer, shape: tuple[int, ...]
) -> None:
    module = made(layer)
    before = module.running_mean.clone()
    t = draw(*shape) + 3
    dims = [dim for dim in range(len(shape)) if dim != 1]
    y = module(t)
    torch.testing.assert_close(y.mean(dims), module.bias.detach())
    torch.testing.assert_close(y.std(dims), t.std(dims))
    torch.testing.assert_close(module.running_mean, 0.7 * before + 0.3 * t.mean(dims))


@pytest.mark.parametrize(("layer", "shape"), SHAPES)
def test_eval_subtracts_the_running_mean_and_leaves_it(
    layer: Layer, shape: tuple[int, ...]
) -> None:
    module = made(layer).eval()
    before = module.running_mean.clone()
    t, view = draw(*shape), (1, 4, *(1 for _ in shape[2:]))
    torch.testing.assert_close(module(t), t - before.view(view) + module.bias.view(view))
    assert torch.equal(module.running_mean, before)


@pytest.mark.parametrize(("layer", "shape"), SHAPES)
@pytest.mark.parametrize("training", [True, False])
def test_gradcheck(layer: Layer, shape: tuple[int, ...], training: bool) -> None:
    module = made(layer).double().train(training)

    def call(t: Tensor, bias: Tensor) -> Tensor:
        return torch.func.functional_call(module, {"bias": bias}, (t,))

    inputs = [draw(*shape).double().requires_grad_(), module.bias.detach().requires_grad_()]
    assert torch.autograd.gradcheck(call, inputs)


def test_the_gradient_is_centred_in_training() -> None:
    t = draw(6, 4).requires_grad_()
    (made(MeanOnlyBatchNorm1d)(t) ** 3).sum().backward()
    torch.testing.assert_close(t.grad.mean(0), torch.zeros(4), rtol=0, atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_scripted_and_eager_layers_agree(training: bool) -> None:
    module = made(MeanOnlyBatchNorm2d).train(training)
    scripted = torch.jit.script(copy.deepcopy(module))
    for seed in range(2):
        t = draw(3, 4, 5, 5, seed=seed)
        assert torch.equal(scripted(t), module(t))


def test_exported_eval_layer_agrees() -> None:
    module, t = made(MeanOnlyBatchNorm2d).eval(), draw(3, 4, 5, 5)
    assert torch.equal(torch.export.export(module, (t,)).module()(t), module(t))


def test_means_of_half_precision_inputs_are_taken_in_float32() -> None:
    module = MeanOnlyBatchNorm2d(4, momentum=1.0)
    t = (draw(8, 4, 16, 16) * 0.01 + 5).bfloat16()
    assert module(t).dtype == torch.bfloat16
    torch.testing.assert_close(module.running_mean.double(), t.double().mean((0, 2, 3)))


def test_inputs_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="dimensions"):
        MeanOnlyBatchNorm1d(4)(draw(2, 4, 3, 3))
    with pytest.raises(ValueError, match="dimensions"):
        MeanOnlyBatchNorm2d(4)(draw(2, 4))


def test_batch_norm_is_not_taken_for_its_mean_alone() -> None:
    sites, _, _ = find_sites(nn.Sequential(nn.BatchNorm2d(4), MeanOnlyBatchNorm2d(4)))
    assert [site.kind for site in sites] == ["batch_norm", "mean_only_batch_norm"]


def test_it_believes_no_variance() -> None:
    assert (
        RULES["mean_only_batch_norm"].believed(
            Site("a", "mean_only_batch_norm", 4, 1e-5, {"mean": "a"}), {}
        )
        is None
    )


def test_adapting_leaves_a_residual_under_a_millionth_and_claims_no_divergence() -> None:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in [(3, 6), (6, 6), (6, 6), (6, 8)]:
        conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        layers += [weight_norm(conv), MeanOnlyBatchNorm2d(outputs), nn.ReLU()]
    net = learned(nn.Sequential(*layers))
    images = draw(20, 3, 9, 9) * 2 + 1
    record = adabn_cli.adapt(net, images.split(6))
    assert all(site.adapted for site in record.sites)
    assert all(site.kl_before is None and site.kl_after is None for site in record.sites)
    assert record.kl.before is None
    # The program's own residual compares what a site believes, and this kind believes nothing.
    model = EagerModel(net)
    signals = list(model.suspended(images))
    assert len(signals) == 4
    for signal in signals:
        seen = measure(signal.activation).pixels
        stored_C = model.state()[signal.site.keys["mean"]]
        assert ((seen.mean_C - stored_C) / seen.var_C.sqrt()).abs().max() < 1e-6
