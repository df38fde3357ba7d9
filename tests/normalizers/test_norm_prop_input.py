"""The input normalization of Norm Prop: fitted once, adapted like any other site."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import adabn_cli
from adabn_cli.adaptation.rules import RULES
from adabn_cli.errors import TargetError
from adabn_cli.model import Site
from adabn_cli.moments import Moments
from adabn_cli.normalizers.norm_prop_input import NormPropInput


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(33, 3), (33, 3, 7), (33, 3, 5, 6)])
def test_what_was_fitted_comes_out_with_mean_0_and_variance_1(shape: tuple[int, ...]) -> None:
    layer, x = NormPropInput(3, eps=0.0), draw(*shape) * 5 + 100
    layer.fit(x.split(8))
    y = layer(x).double()
    dims = [dim for dim in range(len(shape)) if dim != 1]
    zeros = torch.zeros(3, dtype=torch.float64)
    torch.testing.assert_close(y.mean(dims), zeros, rtol=0, atol=1e-5)
    torch.testing.assert_close(y.var(dims, correction=0), zeros + 1, rtol=0, atol=1e-5)


def test_training_leaves_the_fitted_statistics() -> None:
    layer = NormPropInput(3)
    layer.fit([draw(8, 3)])
    before = layer.input_mean.clone()
    layer.train()(draw(8, 3, seed=1))
    assert torch.equal(layer.input_mean, before)
    assert list(layer.parameters()) == []


def test_fitting_to_nothing_or_to_other_channels_is_refused() -> None:
    with pytest.raises(TargetError):
        NormPropInput(3).fit([])
    with pytest.raises(ValueError, match="batches"):
        NormPropInput(3).fit([draw(3, 4)])


def test_a_dead_channel_stays_finite() -> None:
    layer, x = NormPropInput(2), draw(5, 2)
    x[:, 1] = 4
    layer.fit([x])
    assert layer(x)[:, 1].tolist() == [0] * 5


def test_gradcheck() -> None:
    layer = NormPropInput(3).double()
    layer.fit([draw(8, 3).double() * 2 + 1])
    assert torch.autograd.gradcheck(layer, draw(4, 3).double().requires_grad_())


def test_scripted_and_exported_layers_agree() -> None:
    layer, x = NormPropInput(3), draw(4, 3, 5, 5)
    layer.fit([x])
    assert torch.equal(torch.jit.script(layer)(x), layer(x))
    assert torch.equal(torch.export.export(layer, (x,)).module()(x), layer(x))


def test_what_is_absorbed_is_believed() -> None:
    site = Site("a", "norm_prop_input", 2, 1e-3, {"mean": "input_mean", "std": "input_std"})
    state = {key: torch.ones(2) for key in site.keys.values()}
    moments = Moments.of_variance(7, torch.tensor([1.0, -2]), torch.tensor([4.0, 0]))
    entries = RULES["norm_prop_input"].absorb(site, state, moments)
    believed = RULES["norm_prop_input"].believed(site, state | entries)
    torch.testing.assert_close(believed.mean_C, moments.mean_C)
    torch.testing.assert_close(believed.var_C, moments.var_C, rtol=1e-9, atol=1e-15)


def test_adapting_is_fitting_to_the_target() -> None:
    torch.manual_seed(0)
    layer, expected = NormPropInput(3), NormPropInput(3)
    layer.fit([draw(40, 3, 6, 6)])
    target = draw(40, 3, 6, 6, seed=1) * 3 + 1
    expected.fit([target])
    net = nn.Sequential(layer, nn.Conv2d(3, 4, 3))
    record = adabn_cli.adapt(net, target.split(7), verify=True)
    assert [site.kind for site in record.sites] == ["norm_prop_input"]
    assert record.sites[0].kl_before.mean > 0.5
    assert record.residual.max_mean < 1e-6
    assert record.residual.max_log_variance < 1e-6
    torch.testing.assert_close(layer.input_mean, expected.input_mean)
    torch.testing.assert_close(layer.input_std, expected.input_std)
