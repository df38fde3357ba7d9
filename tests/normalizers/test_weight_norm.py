"""Weight Norm: initialized on a batch, scaled by a logarithm, held in a range."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from adabn_cli.errors import ModelError
from adabn_cli.moments import Moments, measure
from adabn_cli.normalizers.mean_only_batch_norm import MeanOnlyBatchNorm2d
from adabn_cli.normalizers.weight_norm import (
    data_dependent_init,
    limit_v_norms,
    log_scale_weight_norm,
)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def deep_net(depth: int = 10, *, bias: bool = True) -> nn.Sequential:
    """Eight convolutions and two linear layers, ReLU between them."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for index in range(depth - 2):
        conv = nn.Conv2d(3 if index == 0 else 8, 8, 3, padding=1, bias=bias)
        layers += [weight_norm(conv), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.5)]
    layers += [weight_norm(nn.Linear(32, 16)), nn.ReLU(), weight_norm(nn.Linear(16, 5))]
    return nn.Sequential(*layers)


def pre_activations(model: nn.Module, images: Tensor) -> dict[str, Moments]:
    """The moments of what every weighted layer puts out, in eval mode."""
    found: dict[str, Moments] = {}
    hooks = [
        layer.register_forward_hook(
            lambda _m, _a, output, name=name: found.__setitem__(name, measure(output).pixels)
        )
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        model.eval()(images)
    for hook in hooks:
        hook.remove()
    return found


def test_every_pre_activation_of_ten_layers_starts_with_mean_0_and_variance_1() -> None:
    net, images = deep_net().train(), draw(64, 3, 8, 8) * 4 + 2
    assert set(data_dependent_init(net, images).values()) == {0}
    assert all(layer.training for layer in net.modules())
    found = pre_activations(net, images)
    assert len(found) == 10
    for moments in found.values():
        assert moments.mean_C.abs().max() < 1e-5
        assert (moments.var_C - 1).abs().max() < 1e-5


def test_without_initialization_they_do_not() -> None:
    found = pre_activations(deep_net(), draw(64, 3, 8, 8) * 4 + 2)
    assert max(float((m.var_C - 1).abs().max()) for m in found.values()) > 0.5


def test_a_dead_channel_is_counted_and_gives_no_nan() -> None:
    net = nn.Sequential(weight_norm(nn.Conv2d(2, 4, 1, groups=2)), weight_norm(nn.Conv2d(4, 3, 1)))
    images = draw(16, 2, 5, 5)
    images[:, 1] = 7
    assert data_dependent_init(net, images) == {"0": 2, "1": 0}
    found = pre_activations(net, images)
    assert found["0"].mean_C.abs().max() < 1e-5
    assert found["0"].var_C.tolist() == pytest.approx([1, 1, 0, 0], abs=1e-5)
    assert (found["1"].var_C - 1).abs().max() < 1e-5
    assert all(torch.isfinite(tensor).all() for tensor in net.state_dict().values())


def test_directions_are_drawn_anew_with_deviation_0_05() -> None:
    layer = weight_norm(nn.Linear(100, 200))
    data_dependent_init(layer, draw(50, 100))
    assert float(layer.parametrizations.weight.original1.detach().std()) == pytest.approx(
        0.05, rel=0.02
    )


def test_without_bias_only_the_scale_is_set() -> None:
    layer, x = weight_norm(nn.Linear(6, 4, bias=False)), draw(50, 6) + 1
    data_dependent_init(layer, x)
    moments = measure(layer(x)).pixels
    assert (moments.var_C - 1).abs().max() < 1e-5
    assert moments.mean_C.abs().max() > 0.1


def test_a_mean_only_batch_norm_takes_the_mean_and_the_next_layer_sees_it() -> None:
    net = nn.Sequential(
        weight_norm(nn.Conv2d(3, 4, 3, bias=False)),
        MeanOnlyBatchNorm2d(4),
        nn.ReLU(),
        weight_norm(nn.Conv2d(4, 4, 3)),
    )
    images = draw(30, 3, 8, 8) + 2
    data_dependent_init(net, images)
    net.eval()
    for moments in (measure(net[:2](images)).pixels, measure(net(images)).pixels):
        assert moments.mean_C.abs().max() < 1e-5
        assert (moments.var_C - 1).abs().max() < 1e-5


def test_a_linear_layer_over_tokens_is_normalized_over_its_last_dimension() -> None:
    layer, x = weight_norm(nn.Linear(6, 4)), draw(20, 7, 6)
    data_dependent_init(layer, x)
    assert (measure(layer(x).flatten(0, 1)).pixels.var_C - 1).abs().max() < 1e-5


def test_a_transposed_convolution_needs_its_own_output_dimension() -> None:
    layer, x = weight_norm(nn.ConvTranspose2d(3, 5, 2), dim=1), draw(20, 3, 4, 4)
    data_dependent_init(layer, x)
    assert (measure(layer(x)).pixels.var_C - 1).abs().max() < 1e-5
    with pytest.raises(ModelError, match="3 values of g for 5 outputs"):
        data_dependent_init(weight_norm(nn.ConvTranspose2d(3, 5, 2)), x)


def test_a_layer_used_twice_is_initialized_by_its_first_call() -> None:
    shared = weight_norm(nn.Linear(4, 4))
    x = draw(30, 4) * 3
    data_dependent_init(nn.Sequential(shared, nn.ReLU(), shared), x)
    assert (measure(shared(x)).pixels.var_C - 1).abs().max() < 1e-5


def test_layers_that_the_batch_does_not_reach_are_named() -> None:
    class Forked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.spare = weight_norm(nn.Linear(3, 2)), weight_norm(nn.Linear(3, 2))

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)

    with pytest.raises(ModelError) as raised:
        data_dependent_init(Forked(), draw(8, 3))
    assert raised.value.where == "spare"


def test_a_net_without_weight_norm_is_refused() -> None:
    with pytest.raises(ModelError, match="no weight-normalized layer"):
        data_dependent_init(nn.Linear(3, 2), draw(8, 3))


def test_hooks_and_modes_are_put_back_after_a_failure() -> None:
    net = nn.Sequential(weight_norm(nn.Linear(3, 2)), nn.BatchNorm1d(2)).train()
    net[1].eval()
    with pytest.raises(RuntimeError):
        data_dependent_init(net, draw(8, 4))
    assert [layer.training for layer in (net, net[0], net[1])] == [True, True, False]
    assert not any(layer._forward_hooks for layer in net.modules())


def test_the_gradient_of_v_is_orthogonal_to_v() -> None:
    for layer in (weight_norm(nn.Conv2d(3, 4, 3)), log_scale_weight_norm(nn.Conv2d(3, 4, 3), 0.5)):
        layer.double()
        (layer(draw(5, 3, 6, 6).double()) ** 3).sum().backward()
        v = layer.parametrizations.weight.original1
        inner = (v * v.grad).flatten(1).sum(1)
        size = v.flatten(1).norm(dim=1) * v.grad.flatten(1).norm(dim=1)
        assert size.min() > 0.1
        assert (inner / size).abs().max() < 1e-12


@pytest.mark.parametrize("c", [1.0, 0.25])
def test_gradcheck_of_both_scales(c: float) -> None:
    for layer in (weight_norm(nn.Linear(3, 2)), log_scale_weight_norm(nn.Linear(3, 2), c)):
        layer.double()
        names, tensors = zip(*layer.named_parameters(), strict=True)

        def call(x: Tensor, *values: Tensor, layer=layer, names=names) -> Tensor:
            return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

        inputs = [draw(4, 3).double(), *(t.detach().clone() for t in tensors)]
        assert torch.autograd.gradcheck(call, [t.requires_grad_() for t in inputs])


def test_the_log_scale_leaves_the_weight_and_learns_its_logarithm() -> None:
    plain = weight_norm(nn.Conv2d(3, 4, 3))
    layer = log_scale_weight_norm(copy.deepcopy(plain), c=2.0)
    torch.testing.assert_close(layer.weight, plain.weight)
    weight = layer.parametrizations.weight
    s = weight.parametrizations.original0.original
    torch.testing.assert_close(weight.original0, torch.exp(2 * s))
    layer.weight.sum().backward()
    plain.weight.sum().backward()
    # ds = c g dg
    g = plain.parametrizations.weight.original0
    torch.testing.assert_close(s.grad, 2 * g * g.grad)


def test_the_log_scale_is_initialized_on_data_too() -> None:
    net = nn.Sequential(
        log_scale_weight_norm(nn.Linear(6, 8)), nn.ReLU(), log_scale_weight_norm(nn.Linear(8, 3))
    )
    x = draw(50, 6) * 5
    data_dependent_init(net, x)
    for moments in pre_activations(net, x).values():
        assert (moments.var_C - 1).abs().max() < 1e-5


def test_scales_without_a_logarithm_are_refused() -> None:
    layer = weight_norm(nn.Linear(3, 2))
    with torch.no_grad():
        layer.parametrizations.weight.original0[0] = -1
    with pytest.raises(ValueError, match="positive"):
        log_scale_weight_norm(layer)
    with pytest.raises(ValueError, match="c = 0"):
        log_scale_weight_norm(nn.Linear(3, 2), c=0)
    with pytest.raises(ValueError, match="another parametrization"):
        log_scale_weight_norm(torch.nn.utils.parametrizations.spectral_norm(nn.Linear(3, 2)))


def test_norms_are_brought_into_their_range_without_moving_a_weight() -> None:
    net = deep_net(4)
    with torch.no_grad():
        for factor, index in ((100.0, 0), (1e-3, 2)):
            net[index].parametrizations.weight.original1.mul_(factor)
        net[0].parametrizations.weight.original1[0].div_(99)  # In the range: stays to the bit.
    before = {
        name: layer.weight.detach().clone()
        for name, layer in net.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    }
    kept = net[0].parametrizations.weight.original1[0].clone()
    low, high = 0.5, 2.0
    limit_v_norms(net, low, high)
    for name, layer in net.named_modules():
        if name in before:
            torch.testing.assert_close(layer.weight, before[name])
            norms = layer.parametrizations.weight.original1.detach().flatten(1).norm(dim=1)
            assert low - 1e-6 <= float(norms.min()) <= float(norms.max()) <= high + 1e-6
    assert torch.equal(net[0].parametrizations.weight.original1[0], kept)


def test_the_range_of_a_transposed_convolution_is_along_its_own_dimension() -> None:
    layer = weight_norm(nn.ConvTranspose2d(3, 5, 2), dim=1)
    before = layer.weight.detach().clone()
    limit_v_norms(layer, 3.0, 4.0)
    torch.testing.assert_close(layer.weight, before)
    assert (
        layer.parametrizations.weight.original1.transpose(0, 1).flatten(1).norm(dim=1).min()
        > 3 - 1e-5
    )


def test_ranges_of_no_norm_are_refused_and_a_v_of_zeros_is_left() -> None:
    for low, high in ((0, 1), (2, 1)):
        with pytest.raises(ValueError, match="range"):
            limit_v_norms(nn.Linear(2, 2), low, high)
    layer = weight_norm(nn.Linear(3, 2))
    with torch.no_grad():
        layer.parametrizations.weight.original1[0] = 0
    limit_v_norms(layer, 0.5, 1)
    assert layer.parametrizations.weight.original1[0].tolist() == [0, 0, 0]
