"""Norm Prop: its constants against quadrature, its layers on normal inputs."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm
from torch import Tensor, nn

from adabn_cli.normalizers.norm_prop import (
    NormPropAvgPool2d,
    NormPropConv2d,
    NormPropLinear,
    NormPropMaxPool2d,
    normal_average_moments,
    normal_max_moments,
    rectified_normal_moments,
)

GAMMAS = [1.0, 1 / 1.21]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def moments_by_quadrature(density: object, value: object) -> tuple[float, float]:
    """Mean and deviation of value(x) for x of that density."""
    first, second = (
        quad(lambda x, p=p: density(x) * value(x) ** p, -14, 14, points=[0.0], limit=500)[0]
        for p in (1, 2)
    )
    return first, math.sqrt(second - first**2)


@pytest.mark.parametrize(
    ("gamma", "beta"), [(1, 0), (1 / 1.21, 0), (2, 1), (0.5, -1), (3, -2), (0.7, 2)]
)
def test_moments_of_a_rectified_normal_agree_with_quadrature(gamma: float, beta: float) -> None:
    expected = moments_by_quadrature(norm.pdf, lambda x: max(gamma * x + beta, 0))
    assert rectified_normal_moments(gamma, beta) == pytest.approx(expected, abs=1e-6)


def test_the_papers_constants() -> None:
    mean, std = rectified_normal_moments()
    assert mean == pytest.approx(1 / math.sqrt(2 * math.pi), abs=1e-15)
    assert std == pytest.approx(math.sqrt((1 - 1 / math.pi) / 2), abs=1e-15)
    assert mean == pytest.approx(0.39894, abs=5e-6)
    assert std == pytest.approx(0.58382, abs=5e-6)
    assert math.sqrt(0.5) / std == pytest.approx(1.2112, abs=5e-5)


@pytest.mark.parametrize("k", [1, 2, 4, 9, 49, 1024])
def test_moments_of_a_maximum_agree_with_quadrature(k: int) -> None:
    expected = moments_by_quadrature(
        lambda x: k * norm.pdf(x) * norm.cdf(x) ** (k - 1), lambda x: x
    )
    assert normal_max_moments(k) == pytest.approx(expected, abs=1e-6)


def test_moments_of_small_maxima_and_averages_are_the_known_ones() -> None:
    pair = (1 / math.sqrt(math.pi), math.sqrt(1 - 1 / math.pi))
    assert normal_max_moments(2) == pytest.approx(pair, abs=1e-9)
    assert normal_max_moments(1) == pytest.approx((0, 1), abs=1e-9)
    assert normal_average_moments(9) == (0, pytest.approx(1 / 3))
    for moments in (normal_max_moments, normal_average_moments):
        with pytest.raises(ValueError, match="of 0 numbers"):
            moments(0)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_untrained_layers_give_mean_0_on_normal_input(gamma: float) -> None:
    torch.manual_seed(0)
    linear = NormPropLinear(64, 32, gamma=gamma)
    y = linear(draw(20_000, 64)).detach()
    assert y.mean(0).abs().max() < 0.05
    torch.testing.assert_close(y.std(0), torch.full((32,), gamma), rtol=0, atol=0.05)
    conv = NormPropConv2d(4, 8, 3, gamma=gamma)
    y = conv(draw(200, 4, 16, 16)).detach()
    assert y.mean((0, 2, 3)).abs().max() < 0.05
    torch.testing.assert_close(y.std((0, 2, 3)), torch.full((8,), gamma), rtol=0, atol=0.05)


def test_ten_untrained_layers_with_gamma_1_keep_mean_0_and_variance_1() -> None:
    torch.manual_seed(0)
    x = draw(4000, 256)
    with torch.no_grad():
        for _ in range(10):
            x = NormPropLinear(256, 256, gamma=1.0)(x)
            assert abs(float(x.mean())) < 0.05
            assert abs(float(x.var(0).mean()) - 1) < 0.1


def test_the_papers_own_constants_come_with_gamma_1_and_its_weights() -> None:
    """With the m of gamma = 1 and gamma = 1/1.21, as printed, a mean of -0.119 is left."""
    torch.manual_seed(0)
    layer = NormPropLinear(64, 32, gamma=1.0)
    with torch.no_grad():
        layer.gamma.fill_(1 / 1.21)
    x = draw(20_000, 64)
    unit = layer.weight / layer.weight.norm(dim=1, keepdim=True)
    z = x @ unit.T * layer.gamma + layer.bias
    printed = (z.relu() - 1 / math.sqrt(2 * math.pi)) / math.sqrt((1 - 1 / math.pi) / 2)
    torch.testing.assert_close(layer(x), printed, rtol=1e-4, atol=1e-5)
    assert float(layer(x).mean().detach()) == pytest.approx(-0.1186, abs=0.01)


def test_the_jacobians_singular_values_are_nearer_1_with_1_21_than_without() -> None:
    torch.manual_seed(0)
    sizes, positive = {}, {}
    for gamma in GAMMAS:
        layer = NormPropLinear(300, 300, gamma=gamma)
        values = torch.cat(
            [
                torch.linalg.svdvals(torch.autograd.functional.jacobian(layer, x))
                for x in draw(3, 300)
            ]
        )
        # About half of them are zero: the rectifier's. The paper averages through E[J J^T].
        sizes[gamma] = float(values.square().mean().sqrt())
        positive[gamma] = float(values[values > 1e-4].mean())
    with_it, without = sizes[1 / 1.21], sizes[1.0]
    assert without == pytest.approx(1.21, abs=0.05)
    assert with_it == pytest.approx(1, abs=0.05)
    assert abs(positive[1 / 1.21] - 1) < abs(positive[1.0] - 1)


def test_logits_come_without_the_constants_of_a_rectifier() -> None:
    layer = NormPropLinear(16, 4, relu=False)
    with torch.no_grad():
        layer.bias.copy_(draw(4))
    x = draw(10, 16, seed=1)
    unit = layer.weight / layer.weight.norm(dim=1, keepdim=True)
    torch.testing.assert_close(layer(x), x @ unit.T / 1.21 + layer.bias)
    conv = NormPropConv2d(2, 3, 3, relu=False)
    assert float(conv(draw(4, 2, 8, 8)).detach().min()) < -1


def test_the_scale_of_a_filter_does_not_matter_and_a_filter_of_zeros_is_finite() -> None:
    layer, x = NormPropConv2d(2, 3, 3, stride=2, padding=1), draw(4, 2, 8, 8)
    before = layer(x)
    with torch.no_grad():
        layer.weight.mul_(100)
    torch.testing.assert_close(layer(x), before)
    with torch.no_grad():
        layer.weight[0] = 0
    layer(x).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters())


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (NormPropLinear(5, 4), (3, 5)),
        (NormPropLinear(5, 4, relu=False), (3, 5)),
        (NormPropConv2d(2, 3, 2), (2, 2, 4, 4)),
        (NormPropConv2d(2, 3, 2, padding=1, relu=False), (2, 2, 3, 3)),
        (NormPropMaxPool2d(2), (2, 2, 4, 4)),
        (NormPropAvgPool2d(2), (2, 2, 4, 4)),
    ],
)
def test_gradcheck(layer: nn.Module, shape: tuple[int, ...]) -> None:
    layer = copy.deepcopy(layer).double()
    names = [name for name, _ in layer.named_parameters()]

    def call(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    inputs = [draw(*shape).double(), *(p.detach().clone() for p in layer.parameters())]
    assert torch.autograd.gradcheck(call, [t.requires_grad_() for t in inputs])


@pytest.mark.parametrize("pool", [NormPropMaxPool2d, NormPropAvgPool2d])
@pytest.mark.parametrize("kernel", [2, 3])
def test_pooled_normals_have_mean_0_and_variance_1(pool: type, kernel: int) -> None:
    y = pool(kernel)(draw(100, 4, 24, 24))
    assert y.shape[-1] == 24 // kernel
    assert abs(float(y.mean())) < 0.03
    assert abs(float(y.std()) - 1) < 0.03


def test_scripted_and_exported_nets_agree() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        NormPropConv2d(3, 4, 3, padding=1),
        NormPropMaxPool2d(2),
        NormPropConv2d(4, 4, 3),
        NormPropAvgPool2d(2),
        nn.Flatten(),
        NormPropLinear(4, 3, relu=False),
    )
    x = draw(2, 3, 8, 8)
    torch.testing.assert_close(torch.jit.script(net)(x), net(x))
    torch.testing.assert_close(torch.export.export(net, (x,)).module()(x), net(x))


def test_autocast_takes_norms_in_float32() -> None:
    layer = NormPropLinear(512, 8)
    with torch.no_grad():
        layer.weight.fill_(1e4)
    with torch.autocast("cpu", dtype=torch.float16):
        assert torch.isfinite(layer(draw(2, 512))).all()
    assert torch.isfinite(layer.half()(draw(2, 512).half())).all()
