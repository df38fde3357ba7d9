"""Live modules as models: suspended at every site, and left as they were."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torchvision
from learned_statistics import learned
from torch import Tensor, nn

import adabn_cli
from adabn_cli.adaptation.fingerprint import fingerprint
from adabn_cli.errors import ModelError, UsageError
from adabn_cli.model import Boxes
from adabn_cli.models.live import suspension
from adabn_cli.models.live.module import EagerModel, pick_outputs


def net() -> nn.Module:
    torch.manual_seed(0)
    layers = OrderedDict(
        conv=nn.Conv2d(3, 4, 3),
        bn=nn.BatchNorm2d(4),
        act=nn.ReLU(),
        conv2=nn.Conv2d(4, 4, 3),
        bn2=nn.BatchNorm2d(4),
        flat=nn.Flatten(),
        head=nn.Linear(64, 3),
    )
    return learned(nn.Sequential(layers))


@pytest.fixture
def images() -> Tensor:
    """Ten images of 8 px."""
    return torch.randn(10, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=["greenlet", "threads"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to suspend a forward."""
    if request.param == "threads":
        monkeypatch.setattr(suspension, "greenlet", None)
    return str(request.param)


@pytest.mark.usefixtures("way")
class TestSuspended:
    def test_yields_the_inputs_of_the_sites_in_order(self, images: Tensor) -> None:
        module = net().eval()
        signals = list(EagerModel(module).suspended(images))
        assert [signal.site.name for signal in signals] == ["bn", "bn2"]
        with torch.no_grad():
            assert torch.equal(signals[0].activation, module.conv(images))

    def test_returns_the_outputs_of_a_plain_forward(self, images: Tensor) -> None:
        model = EagerModel(net())
        run = model.suspended(images)
        while True:
            try:
                next(run)
            except StopIteration as end:
                outputs = end.value
                break
        assert torch.equal(outputs, model.forward(images))

    def test_interleaved_forwards_do_not_disturb_each_other(self, images: Tensor) -> None:
        model = EagerModel(net())
        expected = [model.forward(x) for x in images.split(3)]
        runs = [model.suspended(x) for x in images.split(3)]
        found: dict[int, Tensor] = {}
        while len(found) < len(runs):
            for index, run in enumerate(runs):
                try:
                    next(run)
                except StopIteration as end:
                    found.setdefault(index, end.value)
        assert all(torch.equal(found[index], x) for index, x in enumerate(expected))

    def test_autocast_inside_one_forward_does_not_leak_into_others(self, images: Tensor) -> None:
        class Mixed(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.low, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
                self.high, self.bn2 = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)

            def forward(self, x: Tensor) -> Tensor:
                with torch.autocast("cpu", dtype=torch.bfloat16), torch.enable_grad():
                    x = self.bn(self.low(x))
                assert not torch.is_autocast_enabled("cpu")
                return self.bn2(self.high(x.float())).mean((2, 3))

        torch.manual_seed(0)
        module = learned(Mixed())
        residual = adabn_cli.adapt(module, images.split(3), verify=True).residual
        assert residual is not None
        assert residual.max_mean < 1e-6
        assert not torch.is_autocast_enabled("cpu")
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()

    def test_closing_early_removes_the_hooks(self, images: Tensor) -> None:
        module = net().train()
        run = EagerModel(module).suspended(images)
        next(run)
        run.close()
        assert all(layer.training for layer in module.modules())
        assert not any(layer._forward_pre_hooks for layer in module.modules())

    def test_an_exception_in_the_model_is_raised_and_nothing_stays(self, images: Tensor) -> None:
        class Failing(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                if x.mean() > 0:
                    raise ValueError("a picture it does not like")
                return x

        module = learned(nn.Sequential(nn.BatchNorm2d(3), Failing(), nn.BatchNorm2d(3))).train()
        module[0].weight.requires_grad_(False)
        module[2].eval()
        before = copy.deepcopy(module.state_dict())
        batches = [images[:5] - 9, images[5:] + 9]
        with pytest.raises(ValueError, match="does not like"):
            adabn_cli.adapt(module, batches)
        assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
        assert [layer.training for layer in module.modules()] == [True, True, True, False]
        assert not module[0].weight.requires_grad
        assert module[2].weight.requires_grad
        assert not any(layer._forward_pre_hooks for layer in module.modules())

    def test_an_exception_in_mid_pass_restores_replaced_statistics(self, images: Tensor) -> None:
        class FailingWhenAdapted(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.bn, self.bn2 = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

            def forward(self, x: Tensor) -> Tensor:
                x = self.bn(x)
                if self.bn.running_mean.abs().max() > 0:
                    raise KeyboardInterrupt
                return self.bn2(x)

        module = FailingWhenAdapted().train()
        before = copy.deepcopy(module.state_dict())
        with pytest.raises(KeyboardInterrupt):
            adabn_cli.adapt(module, images.split(3), adapt_initial=True)
        assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
        assert all(layer.training for layer in module.modules())


def test_threads_and_greenlets_give_the_same_bits(
    images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = net(), net()
    adabn_cli.adapt(one, images.split(3))
    monkeypatch.setattr(suspension, "greenlet", None)
    adabn_cli.adapt(other, images.split(3))
    for key, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[key])


class UsersNorm(nn.Module):
    """A normalizer of somebody's own, with statistics of shape [1, C, 1, 1]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("running_var", torch.ones(1, channels, 1, 1))
        self.eps = 1e-3

    def forward(self, x: Tensor) -> Tensor:
        """Eval mode only."""
        return (x - self.running_mean) / (self.running_var + self.eps).sqrt()


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (nn.BatchNorm1d(6), (10, 6)),
        (nn.BatchNorm1d(6), (10, 6, 5)),
        (nn.BatchNorm2d(6), (10, 6, 4, 4)),
        (nn.BatchNorm3d(6), (10, 6, 3, 4, 4)),
        (nn.SyncBatchNorm(6), (10, 6, 4, 4)),
        (nn.InstanceNorm2d(6, track_running_stats=True), (10, 6, 4, 4)),
        (torchvision.ops.FrozenBatchNorm2d(6), (10, 6, 4, 4)),
        (UsersNorm(6), (10, 6, 4, 4)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_normalizers_are_told_by_what_they_hold(norm: nn.Module, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 2 + 1
    adabn_cli.adapt(learned(norm), x.split(4))
    var, mean = torch.var_mean(x.transpose(0, 1).flatten(1), dim=1, correction=0)
    torch.testing.assert_close(norm.running_mean.flatten(), mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(norm.running_var.flatten(), var, rtol=1e-5, atol=1e-6)


def test_timms_batch_norm_act_is_a_site() -> None:
    timm = pytest.importorskip("timm")
    module = timm.create_model("resnetv2_50x1_bit", pretrained=False, num_classes=0)
    assert EagerModel(module).sites == []  # GroupNorm throughout, all of them explained.
    assert EagerModel(module).fixed
    module = timm.create_model("efficientnet_lite0", pretrained=False)
    model = EagerModel(module)
    assert len(model.sites) == 49
    assert {type(layer).__name__ for layer in module.modules()} >= {"BatchNormAct2d"}


@pytest.mark.parametrize(
    ("norm", "word"),
    [
        (nn.BatchNorm2d(4, track_running_stats=False), "track_running_stats=False"),
        (nn.GroupNorm(2, 4), "store no statistics"),
        (nn.InstanceNorm2d(4), "store no statistics"),
    ],
)
def test_what_stores_no_statistics_is_explained(norm: nn.Module, word: str, images: Tensor) -> None:
    with pytest.raises(ModelError) as raised:
        adabn_cli.adapt(nn.Sequential(nn.Conv2d(3, 4, 3), norm), [images])
    assert word in str(raised.value)


def test_no_normalizer_at_all_is_explained(images: Tensor) -> None:
    with pytest.raises(ModelError, match="no normalization layer") as raised:
        adabn_cli.adapt(nn.Conv2d(3, 4, 3), [images])
    assert "folded" in raised.value.hint


def test_wrappers_are_taken_off(images: Tensor) -> None:
    module = net()
    assert EagerModel(nn.DataParallel(module)).module is module
    adabn_cli.adapt(nn.DataParallel(module), images.split(4))
    assert not module.bn.running_mean.eq(0).any()


def test_shadowed_attributes_do_not_hide_layers(images: Tensor) -> None:
    class Shadowing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = net()
            object.__setattr__(self, "modules", ["a list of the user's own"])
            object.__setattr__(self, "children", None)
            object.__setattr__(self, "named_modules", 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.block(x)

    record = adabn_cli.adapt(Shadowing(), images.split(4))
    assert [site.name for site in record.sites] == ["block.bn", "block.bn2"]


def test_frozen_parameters_and_modes_stay(images: Tensor) -> None:
    module = net().train()
    module.bn2.eval()
    module.conv.weight.requires_grad_(False)
    modes = [layer.training for layer in module.modules()]
    adabn_cli.adapt(module, images.split(4))
    assert [layer.training for layer in module.modules()] == modes
    assert not module.conv.weight.requires_grad
    assert module.head.weight.requires_grad


def test_only_statistics_change(images: Tensor) -> None:
    module = net()
    before = copy.deepcopy(module.state_dict())
    adabn_cli.adapt(module, images.split(4))
    changed = {k for k, value in module.state_dict().items() if not torch.equal(before[k], value)}
    assert changed == {f"{bn}.running_{what}" for bn in ("bn", "bn2") for what in ("mean", "var")}


@dataclass
class Logits:
    """What some libraries return."""

    loss: Tensor | None
    logits: Tensor


X = torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("outputs", "key"),
    [
        (X, None),
        ({"logits": X, "features": X + 1}, None),
        ({"out": X, "aux": X + 1}, None),
        ({"scores": X}, "scores"),
        ((X, X + 1), None),
        ((X + 1, X), "1"),
        (Logits(None, X), None),
    ],
)
def test_logits_are_picked(outputs: object, key: str | None) -> None:
    assert pick_outputs(outputs, key) is not None
    assert torch.equal(pick_outputs(outputs, key), X)


def test_a_detectors_boxes_are_told_by_labels_and_scores() -> None:
    def found(labels: list[int], scores: list[float]) -> dict[str, torch.Tensor]:
        n = len(labels)
        return {
            "boxes": torch.zeros(n, 4),
            "labels": torch.tensor(labels, dtype=torch.int64),
            "scores": torch.tensor(scores),
        }

    boxes = pick_outputs([found([3, 1], [0.9, 0.2]), found([], []), found([2], [0.5])], None)
    assert isinstance(boxes, Boxes)
    assert boxes.images == 3
    assert boxes.image_D.tolist() == [0, 0, 2]
    assert boxes.class_D.tolist() == [3, 1, 2]
    assert boxes.scores_D.tolist() == pytest.approx([0.9, 0.2, 0.5])
    assert pick_outputs([{"boxes": X}], None) is None


def test_an_output_that_is_not_there_lists_those_that_are() -> None:
    with pytest.raises(UsageError) as raised:
        pick_outputs({"scores": X, "boxes": X}, "logits")
    assert "scores, boxes" in raised.value.hint


def test_statistics_that_overflow_are_refused_and_undone() -> None:
    module = nn.Sequential(nn.BatchNorm1d(2).half(), nn.BatchNorm1d(2).half())
    x = torch.tensor([[300.0, 1.0], [-300.0, 2.0]]).half()
    with pytest.raises(ModelError, match="not finite"):
        adabn_cli.adapt(module, [x], adapt_initial=True)
    assert module[0].running_mean.tolist() == [0, 0]
    assert module[0].running_var.tolist() == [1, 1]


def test_double_precision_has_the_figures_of_single_precision(images: Tensor) -> None:
    single = adabn_cli.adapt(net(), images.split(4))
    double = adabn_cli.adapt(net().double(), images.double().split(4))
    for one, other in zip(single.sites, double.sites, strict=True):
        assert one.kl_before is not None
        assert one.kl_after is not None
        assert other.kl_before is not None
        assert other.kl_after is not None
        assert other.kl_before.mean == pytest.approx(one.kl_before.mean, rel=1e-4)
        assert other.kl_after.mean == pytest.approx(one.kl_after.mean, rel=1e-4)
    assert (single.method.dtype, double.method.dtype) == ("float32", "float64")


def test_models_that_normalize_their_input_in_place_are_right(images: Tensor) -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = net()

        def forward(self, x: Tensor) -> Tensor:
            return self.inside(x.sub_(1).div_(2))

    module, before = InPlace(), images.clone()
    record = adabn_cli.adapt(module, images.split(4), verify=True)
    assert torch.equal(images, before)
    assert record.residual is not None
    assert record.residual.max_mean == pytest.approx(0, abs=1e-6)


def test_loaders_that_fill_one_buffer_again_are_right(images: Tensor) -> None:
    def refilled() -> Iterator[Tensor]:
        buffer = torch.empty(2, 3, 8, 8)
        for batch in images.split(2):
            buffer.copy_(batch)
            yield buffer

    one, other = net(), net()
    adabn_cli.adapt(one, refilled())
    adabn_cli.adapt(other, images.split(2))
    assert torch.equal(one.bn.running_mean, other.bn.running_mean)


def test_training_goes_on_with_what_a_model_cached(images: Tensor) -> None:
    class Caching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside, self.scale = net(), None

        def forward(self, x: Tensor) -> Tensor:
            if self.scale is None:
                self.scale = torch.full((1,), 2.0) * 1
            return self.inside(x * self.scale)

    module = Caching()
    adabn_cli.adapt(module, images.split(4))
    module.train()(images).sum().backward()
    assert module.inside.conv.weight.grad is not None


def test_context_variables_of_the_caller_are_seen(images: Tensor) -> None:
    scale: ContextVar[float] = ContextVar("scale", default=1.0)

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn = nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            return self.bn(x * scale.get())

    module = learned(Scaled())
    scale.set(100.0)
    adabn_cli.adapt(module, images.split(4))
    torch.testing.assert_close(module.bn.running_mean, 100 * images.mean((0, 2, 3)))


def test_layers_compiled_in_place_run_as_they_were_written(images: Tensor) -> None:
    module = net()
    module.conv2.compile(backend="eager")
    compiled = module.conv2._compiled_call_impl
    record = adabn_cli.adapt(module, images.split(4), verify=True)
    assert record.residual is not None
    assert record.residual.max_mean == pytest.approx(0, abs=1e-6)
    assert module.conv2._compiled_call_impl is compiled


def test_wrong_labels_and_classes_are_refused_before_anything_changes(images: Tensor) -> None:
    module, own = net(), net().bn.running_mean
    for options, labels in (({}, torch.arange(10)), ({"classes": ["a", "b"]}, torch.zeros(10))):
        with pytest.raises(UsageError):
            adabn_cli.adapt(module, [(images, labels.long())], **options)
    with pytest.raises(UsageError, match="not class indices"):
        adabn_cli.adapt(module, [(images, torch.rand(10))])
    assert torch.equal(module.bn.running_mean, own)


def test_labels_may_be_numpy_or_lists(images: Tensor) -> None:
    labels = [0, 1, 2, 0, 1, 2, 0, 1, 2, -1]
    for given in (labels, np.array(labels), torch.tensor(labels).view(-1, 1)):
        record = adabn_cli.adapt(net(), [(images, given)])
        assert record.before.labeled == 9


def test_torchscript_and_lazy_layers_are_refused_with_a_reason(images: Tensor) -> None:
    traced = torch.jit.trace(net().eval(), images)
    with pytest.raises(ModelError, match="TorchScript"):
        adabn_cli.adapt(nn.Sequential(nn.BatchNorm2d(3), traced), [images])
    with pytest.raises(ModelError, match="lazy"):
        adabn_cli.adapt(nn.Sequential(nn.LazyBatchNorm2d()), [images])


def test_a_layer_under_two_names_keeps_one_fingerprint(images: Tensor) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn = nn.BatchNorm2d(3)
            self.stem = nn.Sequential(self.bn)

        def forward(self, x: Tensor) -> Tensor:
            return self.stem(x).mean((2, 3))

    module = learned(Twice())
    before = fingerprint(EagerModel(module))
    record = adabn_cli.adapt(module, images.split(4))
    assert fingerprint(EagerModel(module)) == before
    assert [site.name for site in record.sites] == ["bn"]


def test_outputs_that_are_no_class_scores_are_said_to_be(images: Tensor) -> None:
    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn = nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            return self.bn(x).mean(1)

    record = adabn_cli.adapt(learned(Rows()), [(images, torch.zeros(10, dtype=torch.long))])
    assert record.before.n == 0
    assert "not class scores" in record.verdict.sentence


def test_figures_that_are_not_finite_can_be_written_and_read_again(images: Tensor) -> None:
    module = nn.Sequential(nn.BatchNorm2d(3, eps=1e-320), nn.Flatten(), nn.Linear(192, 3))
    module[0].running_var.zero_()
    module[0].running_mean.fill_(1.0)
    record = adabn_cli.adapt(module, images.split(4))
    read = type(record).model_validate_json(record.as_json())
    assert read.as_json() == record.as_json()


def test_tuples_dicts_and_shuffling_loaders_are_read_once() -> None:
    x, y = torch.randn(12, 3, 8, 8), torch.arange(12) % 3
    pairs = [(x[:5], y[:5]), (x[5:], y[5:])]
    dicts = [{"pixel_values": a, "labels": b} for a, b in pairs]
    data = torch.utils.data.TensorDataset(x, y)
    shuffled = torch.utils.data.DataLoader(data, batch_size=5, shuffle=True)
    accuracies = [adabn_cli.adapt(net(), batches).after for batches in (pairs, dicts, shuffled)]
    assert {part.n for part in accuracies} == {12}
    assert len({part.accuracy for part in accuracies}) == 1
    assert adabn_cli.adapt(net(), (a for a, _ in pairs)).after.accuracy is None


def test_a_spread_under_a_name_of_its_own_is_not_taken_for_mean_only(images: Tensor) -> None:
    class Unknown(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("running_mean", torch.zeros(3))
            self.register_buffer("moving_sigma", torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            mean, sigma = self.running_mean.view(1, 3, 1, 1), self.moving_sigma.view(1, 3, 1, 1)
            return (x - mean) / sigma

    with pytest.raises(ModelError) as raised:
        adabn_cli.adapt(Unknown(), [images])
    assert "moving_sigma" in raised.value.where
