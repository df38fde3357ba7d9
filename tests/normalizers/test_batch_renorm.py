"""Batch Renormalization: BatchNorm where it is clipped to it, its own eval mode where it is not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from learned_statistics import learned
from torch import Tensor, nn

import adabn_cli
from adabn_cli.adaptation.rules import RULES
from adabn_cli.model import Site
from adabn_cli.models.live.module import EagerModel
from adabn_cli.moments import Moments
from adabn_cli.normalizers.batch_renorm import (
    BatchRenorm1d,
    BatchRenorm2d,
    BatchRenorm3d,
    ClippingSchedule,
)

PLAIN = ClippingSchedule(r_max=1.0, d_max=0.0)
FREE = ClippingSchedule(r_max=1e9, d_max=1e9, start=0, r_end=0, d_end=0)
SHAPES = [
    (BatchRenorm1d, nn.BatchNorm1d, (6, 4)),
    (BatchRenorm1d, nn.BatchNorm1d, (6, 4, 5)),
    (BatchRenorm2d, nn.BatchNorm2d, (6, 4, 5, 3)),
    (BatchRenorm3d, nn.BatchNorm3d, (6, 4, 3, 2, 5)),
]
Renorm = type[BatchRenorm1d] | type[BatchRenorm2d] | type[BatchRenorm3d]
Norm = type[nn.BatchNorm1d] | type[nn.BatchNorm2d] | type[nn.BatchNorm3d]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def randomized(layer: nn.Module) -> nn.Module:
    """The layer with parameters and statistics away from their defaults."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, tensor in [*layer.named_parameters(), *layer.named_buffers()]:
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 2, generator=generator)
                if name in ("running_mean", "bias"):
                    tensor.sub_(1)
    return layer


@pytest.mark.parametrize(("renorm", "norm", "shape"), SHAPES)
@pytest.mark.parametrize("cast", [torch.float32, torch.float64])
def test_training_clipped_to_one_and_zero_is_batch_norm_to_the_bit(
    renorm: Renorm, norm: Norm, shape: tuple[int, ...], cast: torch.dtype
) -> None:
    ours, theirs = renorm(4, schedule=PLAIN).to(cast), norm(4).to(cast)
    randomized(theirs)
    ours.load_state_dict(theirs.state_dict())
    for step in range(3):
        x = draw(*shape, seed=step).to(cast) * 3 + 1
        x_ours, x_theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
        y_ours, y_theirs = ours(x_ours), theirs(x_theirs)
        assert torch.equal(y_ours, y_theirs)
        (y_ours**3).sum().backward()
        (y_theirs**3).sum().backward()
        assert torch.equal(x_ours.grad, x_theirs.grad)
        assert torch.equal(ours.weight.grad, theirs.weight.grad)
        assert torch.equal(ours.bias.grad, theirs.bias.grad)


def test_bit_equality_holds_in_channels_last_and_before_the_schedule_starts() -> None:
    x = draw(6, 4, 8, 8).to(memory_format=torch.channels_last)
    assert torch.equal(BatchRenorm2d(4)(x), nn.BatchNorm2d(4)(x))


@pytest.mark.parametrize("shape", [(1, 4), (2, 4), (1, 4, 3), (32, 4)])
def test_without_clips_training_output_is_eval_output(shape: tuple[int, ...]) -> None:
    layer = randomized(BatchRenorm1d(4, schedule=FREE))
    expected = copy.deepcopy(layer).eval()
    x = draw(*shape) * 3 + 1
    torch.testing.assert_close(layer(x), expected(x), rtol=1e-5, atol=1e-5)


def test_one_value_a_channel_is_refused_while_d_is_zero_as_batch_norm_does() -> None:
    with pytest.raises(ValueError, match="one value a channel"):
        BatchRenorm1d(4)(draw(1, 4))
    assert BatchRenorm1d(4, schedule=FREE)(draw(1, 4)).abs().sum() > 0


def test_training_output_is_the_papers_formula_with_both_clips_binding() -> None:
    schedule = ClippingSchedule(r_max=1.5, d_max=0.25, start=0, r_end=0, d_end=0)
    layer = randomized(BatchRenorm2d(4, schedule=schedule)).double()
    before = copy.deepcopy(layer)
    x = draw(5, 4, 3, 3).double() * torch.tensor([0.2, 1, 2, 9]).view(1, -1, 1, 1) + 0.3
    sigma_B = (x.var((0, 2, 3), correction=0) + layer.eps).sqrt()
    mu_B = x.mean((0, 2, 3))
    ratio, shift = sigma_B / before.running_std, (mu_B - before.running_mean) / before.running_std
    assert ((ratio > 1.5).any(), (ratio < 1 / 1.5).any(), (shift.abs() > 0.25).any()) == (1, 1, 1)
    r, d = ratio.clip(1 / 1.5, 1.5), shift.clip(-0.25, 0.25)
    w, b, mu, sigma, r, d = (
        t.view(1, -1, 1, 1) for t in (before.weight, before.bias, mu_B, sigma_B, r, d)
    )
    torch.testing.assert_close(layer(x), w * ((x - mu) / sigma * r + d) + b)
    rate = 0.01
    expected_mean = before.running_mean + rate * (mu_B - before.running_mean)
    expected_std = before.running_std + rate * (sigma_B - before.running_std)
    torch.testing.assert_close(layer.running_mean, expected_mean)
    torch.testing.assert_close(layer.running_std, expected_std)
    assert int(layer.schedule_step) == 1


@pytest.mark.parametrize(
    ("step", "r_max", "d_max"),
    [
        (0, 1, 0),
        (5_000, 1, 0),
        (15_000, 1 + 2 * 10 / 35, 2.5),
        (25_000, 1 + 2 * 20 / 35, 5),
        (40_000, 3, 5),
        (90_000, 3, 5),
    ],
)
def test_default_bounds_follow_the_papers_schedule(step: int, r_max: float, d_max: float) -> None:
    layer = BatchRenorm2d(2)
    layer.schedule_step.fill_(step)
    assert [float(bound) for bound in layer.bounds()] == pytest.approx([r_max, d_max])


@pytest.mark.parametrize(
    "schedule",
    [
        ClippingSchedule(r_max=0.5),
        ClippingSchedule(d_max=-1),
        ClippingSchedule(start=30_000),
        ClippingSchedule(start=-1),
    ],
)
def test_schedules_that_cannot_be_followed_are_refused(schedule: ClippingSchedule) -> None:
    with pytest.raises(ValueError, match="Schedule"):
        BatchRenorm2d(2, schedule=schedule)


@pytest.mark.parametrize(("renorm", "_norm", "shape"), SHAPES)
def test_gradients_are_those_of_the_formula_with_r_and_d_constant(
    renorm: Renorm, _norm: Norm, shape: tuple[int, ...]
) -> None:
    schedule = ClippingSchedule(r_max=2.0, d_max=0.5, start=0, r_end=0, d_end=0)
    layer = randomized(renorm(4, schedule=schedule)).double()
    x = draw(*shape).double() * 2 + 0.5
    r, d = copy.deepcopy(layer)._correction(x, *layer.bounds())
    view = (1, 4, *(1 for _ in shape[2:]))
    dims = [dim for dim in range(len(shape)) if dim != 1]

    def formula(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        mean = x.mean(dims, keepdim=True)
        sigma = ((x - mean).square().mean(dims, keepdim=True) + layer.eps).sqrt()
        normalized = (x - mean) / sigma * r.view(view) + d.view(view)
        return weight.view(view) * normalized + bias.view(view)

    def found(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        fresh = copy.deepcopy(layer)
        return torch.func.functional_call(fresh, {"weight": weight, "bias": bias}, (x,))

    inputs = [t.detach().requires_grad_() for t in (x, layer.weight, layer.bias)]
    seed = draw(*shape, seed=9).double()
    expected = torch.autograd.grad(formula(*inputs), inputs, seed)
    for ours, theirs in zip(torch.autograd.grad(found(*inputs), inputs, seed), expected, strict=1):
        torch.testing.assert_close(ours, theirs)
    # The formula with r and d held is what finite differences can check: the layer's own output
    # moves with r and d too, which by design its gradient does not.
    assert torch.autograd.gradcheck(formula, inputs)


@pytest.mark.parametrize(("renorm", "_norm", "shape"), SHAPES)
@pytest.mark.parametrize("training", [True, False])
def test_gradcheck_passes_where_r_and_d_do_not_move(
    renorm: Renorm, _norm: Norm, shape: tuple[int, ...], training: bool
) -> None:
    layer = randomized(renorm(4, schedule=PLAIN)).double().train(training)

    def call(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    inputs = [draw(*shape).double(), layer.weight.detach(), layer.bias.detach()]
    assert torch.autograd.gradcheck(call, [t.requires_grad_() for t in inputs])


def test_r_and_d_carry_no_gradient() -> None:
    layer = BatchRenorm2d(3, schedule=FREE)
    x = draw(4, 3, 5, 5).requires_grad_()
    r, d = layer._correction(x.detach(), *layer.bounds())
    assert not r.requires_grad
    assert not d.requires_grad
    layer(x).sum().backward()
    # Through the batch's own normalization a sum has no gradient; through d it would have one.
    assert x.grad.abs().max() < 1e-5


@pytest.mark.parametrize(("renorm", "norm", "shape"), SHAPES)
def test_a_batch_norm_checkpoint_loads_and_gives_its_eval_output(
    renorm: Renorm, norm: Norm, shape: tuple[int, ...]
) -> None:
    theirs = randomized(norm(4))
    theirs.running_var.mul_(torch.tensor([1, 1e-5, 100, 0]))
    theirs(draw(*shape))
    net = nn.Sequential(renorm(4))
    net.load_state_dict(nn.Sequential(theirs).state_dict())
    x = draw(*shape, seed=1)
    torch.testing.assert_close(net.eval()(x), theirs.eval()(x))
    assert int(net[0].schedule_step) == 1


def test_a_checkpoint_from_before_batches_were_counted_starts_the_schedule() -> None:
    state = nn.BatchNorm2d(4).state_dict()
    del state["num_batches_tracked"]
    BatchRenorm2d(4).load_state_dict(state)


def test_its_own_state_dict_comes_back_whole() -> None:
    layer = randomized(BatchRenorm2d(4))
    layer(draw(3, 4, 2, 2))
    again = BatchRenorm2d(4)
    again.load_state_dict(layer.state_dict())
    assert all(torch.equal(t, layer.state_dict()[k]) for k, t in again.state_dict().items())
    assert set(layer.state_dict()) == {
        "weight",
        "bias",
        "running_mean",
        "running_std",
        "schedule_step",
    }


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_scripted_and_eager_layers_agree(training: bool, affine: bool) -> None:
    schedule = ClippingSchedule(start=0, r_end=2, d_end=4)
    layer = randomized(BatchRenorm2d(4, affine=affine, schedule=schedule)).train(training)
    scripted = torch.jit.script(copy.deepcopy(layer))
    for step in range(4):
        x = draw(3, 4, 5, 5, seed=step)
        assert torch.equal(scripted(x), layer(x))


def test_exported_eval_layer_agrees() -> None:
    layer = randomized(BatchRenorm2d(4)).eval()
    x = draw(3, 4, 5, 5)
    exported = torch.export.export(layer, (x,)).module()
    assert torch.equal(exported(x), layer(x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_statistics_of_low_precision_inputs_are_taken_in_float32(dtype: torch.dtype) -> None:
    layer = BatchRenorm2d(4, momentum=1.0, schedule=FREE)
    x = (draw(8, 4, 16, 16) * 0.01 + 5).to(dtype)
    y = layer(x)
    assert y.dtype == dtype
    truth = x.double()
    std = (truth.var((0, 2, 3), correction=0) + layer.eps).sqrt()
    torch.testing.assert_close(layer.running_mean.double(), truth.mean((0, 2, 3)))
    torch.testing.assert_close(layer.running_std.double(), std, rtol=1e-5, atol=0)
    assert layer.eval()(x).dtype == dtype


def test_autocast_leaves_the_statistics_in_float32() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), BatchRenorm2d(4, schedule=FREE))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = net(draw(4, 3, 8, 8))
    assert y.dtype == torch.bfloat16
    assert net[1].running_std.dtype == torch.float32
    y.float().sum().backward()
    assert torch.isfinite(net[1].weight.grad).all()


def test_a_half_precision_layer_normalizes_small_deviations() -> None:
    layer = BatchRenorm2d(4).half().eval()
    layer.running_std.fill_(1e-4)  # Its square is 0 in float16.
    x = (draw(2, 4, 3, 3) * 1e-4).half()
    torch.testing.assert_close(
        layer(x).float(), x.float() / layer.running_std[0].float(), rtol=2e-3, atol=0
    )


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(BatchRenorm1d, (2, 4, 3, 3)), (BatchRenorm2d, (2, 4, 3)), (BatchRenorm3d, (2, 4, 3, 3))],
)
def test_inputs_of_another_shape_are_refused(layer: Renorm, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="dimensions"):
        layer(4)(torch.zeros(shape))


class StdPlusEps(nn.Module):
    """Batch Renormalization as in most PyTorch repositories: eps is added to the deviation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.eps = 1e-3
        self.running_mean = nn.Buffer(torch.zeros(channels))
        self.running_std = nn.Buffer(torch.ones(channels))
        self.num_batches_tracked = nn.Buffer(torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        view = (1, -1, 1, 1)
        return (x - self.running_mean.view(view)) / self.running_std.view(view)


def net_of(normalizer: Callable[[int], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in [(3, 6), (6, 6), (6, 6), (6, 8)]:
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), normalizer(outputs), nn.ReLU()]
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    return learned(nn.Sequential(*layers, *head))


@pytest.mark.parametrize("normalizer", [BatchRenorm2d, StdPlusEps])
def test_adapting_leaves_a_residual_under_a_millionth(normalizer: type[nn.Module]) -> None:
    net = net_of(normalizer)
    record = adabn_cli.adapt(net, (draw(20, 3, 9, 9) * 2 + 1).split(6), verify=True)
    assert {site.kind for site in record.sites} == {"batch_renorm"}
    assert all(site.adapted and site.kl_before is not None for site in record.sites)
    assert record.residual.max_mean < 1e-6
    assert record.residual.max_log_variance < 1e-6


def test_adapting_batch_renorm_is_adapting_the_batch_norm_it_was_loaded_from() -> None:
    theirs = net_of(nn.BatchNorm2d)
    for index, layer in enumerate(theirs):
        if isinstance(layer, nn.BatchNorm2d):
            randomized(layer)
            layer.running_var[index % 6] = 1e-5
    ours = net_of(BatchRenorm2d)
    ours.load_state_dict(theirs.state_dict())
    images = draw(20, 3, 9, 9) * 2 + 1
    record_ours, record_theirs = (adabn_cli.adapt(net, [images]) for net in (ours, theirs))
    torch.testing.assert_close(ours.eval()(images), theirs.eval()(images), rtol=1e-4, atol=1e-5)
    for x, y in zip(record_ours.sites, record_theirs.sites, strict=True):
        assert x.kl_before.mean == pytest.approx(y.kl_before.mean, rel=1e-4)


def test_the_deviation_of_others_gets_its_eps_outside_the_root() -> None:
    net = net_of(StdPlusEps)
    images = draw(20, 3, 9, 9) * 0.05
    adabn_cli.adapt(net, [images])
    seen = next(iter(EagerModel(net).suspended(images))).activation
    std = seen.double().std((0, 2, 3), correction=0)
    torch.testing.assert_close(net[1].running_std.double(), std + 1e-3, rtol=1e-6, atol=0)


@pytest.mark.parametrize("counter", ["schedule_step", "num_batches_tracked"])
def test_what_is_absorbed_is_believed(counter: str) -> None:
    site = Site("a", "batch_renorm", 3, 1e-3, {"mean": "a.running_mean", "std": "a.running_std"})
    state = {key: torch.ones(3) for key in site.keys.values()} | {f"a.{counter}": torch.tensor(1)}
    moments = Moments.of_variance(7, torch.tensor([1.0, -2, 0]), torch.tensor([4.0, 1e-4, 0]))
    entries = RULES["batch_renorm"].absorb(site, state, moments)
    believed = RULES["batch_renorm"].believed(site, state | entries)
    torch.testing.assert_close(believed.mean_C, moments.mean_C)
    torch.testing.assert_close(believed.var_C, moments.var_C, rtol=1e-9, atol=1e-15)
    assert all((entries["a.running_std"] > 0).tolist())


def test_a_dead_channel_is_counted_and_stays_finite() -> None:
    net = learned(nn.Sequential(BatchRenorm2d(3)))
    images = draw(8, 3, 4, 4)
    images[:, 1] = 0.5
    record = adabn_cli.adapt(net, [images])
    assert record.sites[0].dead_channels == 1
    assert torch.isfinite(net(images)).all()


def test_moving_averages_of_small_batches_reach_what_adapting_measures() -> None:
    layer = BatchRenorm2d(3, momentum=0.02, schedule=FREE)
    data = draw(3000, 3, 4, 4) * 3 + 2
    for batch in data.split(5):
        layer(batch)
    trained = copy.deepcopy(layer)
    adabn_cli.adapt(nn.Sequential(layer), data.split(500))
    close = partial(torch.testing.assert_close, rtol=0.05, atol=0.1)
    close(trained.running_mean, layer.running_mean)
    close(trained.running_std, layer.running_std)
