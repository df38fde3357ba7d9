"""A model whose numbers cannot be believed is told before it is scored, in every format."""

from __future__ import annotations

import copy
import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from learned_statistics import learned
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

import adabn_cli
from adabn_cli.errors import ModelError
from adabn_cli.jobs.checks.believing import is_random, require_sound
from adabn_cli.models.live.module import EagerModel

ARCH = """
from collections import OrderedDict
from torch import nn


def net():
    return nn.Sequential(OrderedDict(
        conv=nn.Conv2d(3, 6, 3), bn=nn.BatchNorm2d(6), act=nn.ReLU(),
        conv2=nn.Conv2d(6, 6, 3), bn2=nn.BatchNorm2d(6), act2=nn.ReLU(),
        pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), head=nn.Linear(6, 3),
    ))
"""
SCALED = ("--img-size", 8, "--mean", 0.5, "--std", 0.25, "--device", "cpu")
FORMATS = ("state dict", "legacy", "safetensors", "pickle", "script", "traced", "pt2", "onnx")
CAN = "adapt", "evaluate", "profile", "collect", "watch"


def fresh() -> nn.Sequential:
    scope: dict[str, Any] = {}
    exec(ARCH, scope)
    torch.manual_seed(0)
    module: nn.Sequential = scope["net"]()
    return module.eval()


def trained() -> nn.Sequential:
    """The net with statistics that were learned."""
    return learned(fresh())


def saved(module: nn.Module, kind: str) -> tuple[object, ...]:
    """The module in a file of that kind, as the arguments that open it."""
    endings = {"safetensors": ".safetensors", "pt2": ".pt2", "onnx": ".onnx", "data": ".onnx"}
    path, example = Path("model" + endings.get(kind, ".pt")), torch.rand(2, 3, 8, 8)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch deprecates TorchScript, and its exporters warn.
        if kind in ("state dict", "legacy"):
            torch.save(module.state_dict(), path, _use_new_zipfile_serialization=kind[0] == "s")
        elif kind == "safetensors":
            save_file(module.state_dict(), path)
        elif kind == "pickle":
            torch.save(module, path)
        elif kind == "script":
            torch.jit.script(module).save(path)
        elif kind == "traced":
            torch.jit.trace(module, example).save(path)
        elif kind == "pt2":
            shapes = ({0: torch.export.Dim.DYNAMIC},)
            torch.export.save(torch.export.export(module, (example,), dynamic_shapes=shapes), path)
        else:
            _save_onnx(module, example, path, beside=kind == "data")
    if kind not in ("state dict", "legacy", "safetensors"):
        return (path,)
    Path("arch.py").write_text(ARCH)
    return path, "--arch", "arch.py:net"


def _save_onnx(module: nn.Module, example: Tensor, path: Path, *, beside: bool) -> None:
    import onnx

    buffer = io.BytesIO()
    torch.onnx.export(
        module, (example,), buffer, dynamo=False, do_constant_folding=False,
        training=torch.onnx.TrainingMode.PRESERVE, input_names=["x"], output_names=["y"],
        dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
    )  # fmt: skip
    proto = onnx.load_from_string(buffer.getvalue())
    onnx.save(proto, path, save_as_external_data=beside, location="model.data", size_threshold=0)


@pytest.fixture
def photos() -> Path:
    """Twelve pictures of three classes, that what holds them is called by."""
    for number in range(12):
        folder = Path("photos", str(number % 3))
        folder.mkdir(parents=True, exist_ok=True)
        generator = np.random.default_rng(number)
        pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return Path("photos")


def inputs(folder: Path) -> Tensor:
    """The same as the model takes them, in the order of the run."""
    pictures = [np.array(Image.open(path)) for path in sorted(folder.glob("*/*.png"))]
    return (torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25


def population(module: nn.Module, images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and variance of every BatchNorm's input behind the final ones before, in float64."""
    wide, found = copy.deepcopy(module).double().eval(), {}

    def fill(layer: Any, args: tuple[Tensor, ...]) -> None:
        var, mean = torch.var_mean(args[0].transpose(0, 1).flatten(1), dim=1, correction=0)
        layer.running_mean, layer.running_var = mean, var
        found[layer.name] = mean, var

    for name, layer in wide.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.name = name
            layer.register_forward_pre_hook(fill)
    with torch.no_grad():
        wide(images.double())
    return found


def told(folder: str = "run") -> Any:
    """The record in a run's folder."""
    return json.loads(Path(folder, "run.json").read_text())


def doing(command: str, opened: tuple[object, ...], photos: Path) -> tuple[object, ...]:
    """The arguments of a command on a model."""
    model, *rest = opened
    given = {
        "adapt": ("-t", photos, "-o", "run"),
        "evaluate": ("-d", photos),
        "profile": ("-s", photos, "-o", "its.profile"),
        "collect": ("-t", photos, "--shard", "1/1"),
        "watch": (photos, "-o", "watched", "--once", "--interval", 0),
    }[command]
    return command, model, *(given + SCALED), *rest


# Statistics never learned.


@pytest.mark.parametrize("kind", FORMATS)
def test_a_net_that_never_learned_statistics_is_adapted_only_if_asked(
    kind: str, command: Callable[..., Any], photos: Path
) -> None:
    arguments = doing("adapt", saved(fresh(), kind), photos)
    refused = command(*arguments)
    assert refused.code == 3
    assert "--adapt-initial" in refused.err
    assert not Path("run").exists()
    assert command(*arguments, "--adapt-initial").code == 0
    record = told()
    assert record["model"]["unlearned_sites"] == [site["name"] for site in record["sites"]]
    assert len(record["sites"]) == 2
    assert record["kl"]["before"] is None
    assert [site["kl_before"] for site in record["sites"]] == [None, None]
    assert any("2 of 2 sites never learned" in warning for warning in record["warnings"])


@pytest.mark.parametrize(("name", "code"), list(zip(CAN, (3, 0, 0, 3, 3), strict=True)))
def test_what_only_reads_them_warns_and_what_replaces_them_refuses(
    name: str, code: int, command: Callable[..., Any], photos: Path
) -> None:
    arguments = doing(name, saved(fresh(), "state dict"), photos)
    done = command(*arguments, *([] if name == "watch" else ["--json"]))
    assert done.code == code
    words = "--adapt-initial" if code else "2 of 2 sites never learned"
    assert words in done.out + done.err
    if code:
        assert command(*arguments, "--adapt-initial").code == 0


def test_a_profile_keeps_what_a_net_without_statistics_computes(
    command: Callable[..., Any], photos: Path
) -> None:
    opened = saved(fresh(), "state dict")
    assert command(*doing("profile", opened, photos)).code == 0
    assert command(*doing("adapt", opened, photos), "--profile", "its.profile").code == 0
    module = fresh()
    module.load_state_dict(torch.load("run/model.pt"))
    with torch.no_grad():  # The target is the source: nothing moves but by rounding.
        expected, found = fresh()(inputs(photos)), module(inputs(photos))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_head_that_was_added_later_is_named_and_left_out_of_kl(
    command: Callable[..., Any], photos: Path
) -> None:
    module = trained()
    module.bn2.reset_running_stats()
    assert command(*doing("adapt", saved(module, "state dict"), photos)).code == 0
    record = told()
    assert record["model"]["unlearned_sites"] == ["bn2"]
    first, second = record["sites"]
    assert second["kl_before"] is second["kl_after"] is None
    assert record["kl"]["before"]["mean"] == pytest.approx(first["kl_before"]["mean"])
    (warning,) = [words for words in record["warnings"] if "never learned" in words]
    assert "1 of 2 sites" in warning
    assert "bn2" in warning


def test_an_averaged_net_from_python_is_filled_only_if_asked(photos: Path) -> None:
    module, images = trained(), inputs(photos)
    for layer in (module.bn, module.bn2):
        layer.reset_running_stats()
    with pytest.raises(ModelError, match="update_bn") as raised:
        adabn_cli.adapt(module, [images])
    assert "--adapt-initial" in raised.value.hint
    assert not module.bn.running_mean.any()
    record = adabn_cli.adapt(module, [images], adapt_initial=True)
    assert record.kl.before is None
    assert record.model.unlearned_sites == ("bn", "bn2")
    for name, (mean, var) in population(module, images).items():
        layer = module.get_submodule(name)
        torch.testing.assert_close(layer.running_mean.double(), mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(layer.running_var.double(), var, rtol=1e-4, atol=1e-5)
    with pytest.warns(UserWarning, match="never learned"):
        adabn_cli.profile(fresh(), [images])


# Impossible numbers.


def negative() -> nn.Sequential:
    module = trained()
    module.bn2.running_var[3] = -0.7
    return module


@pytest.mark.parametrize("kind", FORMATS)
def test_a_negative_variance_is_replaced_and_before_is_no_measurement(
    kind: str, command: Callable[..., Any], photos: Path
) -> None:
    assert command(*doing("adapt", saved(negative(), kind), photos)).code == 0
    record = told()
    (phrase,) = record["model"]["impossible_statistics"]
    assert "-0.7 in channel 3" in phrase
    assert any(phrase in warning for warning in record["warnings"])
    assert record["before"]["accuracy"] is record["change"]["accuracy"] is None
    assert record["verdict"]["outcome"] == "cannot tell"
    assert record["after"]["labeled"] == 12
    assert record["sites"][1]["kl_before"] is None
    gated = command("report", "run", "--fail-on", "accuracy_drop>1pp")
    assert gated.code == 4


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -0.7])
def test_python_too_holds_nothing_against_impossible_statistics(value: float, photos: Path) -> None:
    module, images = trained(), inputs(photos)
    module.bn.running_var[2] = value
    record = adabn_cli.adapt(module, [(images, torch.arange(12) % 3)])
    assert (record.before.accuracy, record.verdict.outcome) == (None, "cannot tell")
    assert "running_var" in record.model.impossible_statistics[0]
    assert record.kl.before is None or record.sites[0].kl_before is None
    for name, (mean, var) in population(module, images).items():
        layer = module.get_submodule(name)
        torch.testing.assert_close(layer.running_mean.double(), mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(layer.running_var.double(), var, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (("--layers", "!bn2"), "--layers"),
        (("--prior", 4), "--prior"),
        (("--alpha", 0.5), "--alpha"),
        (("--source", "photos"), "profile"),
        (("--engine", "online", "--momentum", 0.1), "--momentum"),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, tuple) else "",
)
def test_impossible_statistics_that_would_stay_are_refused(
    options: tuple[object, ...], hint: str, command: Callable[..., Any], photos: Path
) -> None:
    done = command(*doing("adapt", saved(negative(), "state dict"), photos), *options)
    assert done.code == 3
    assert "bn2.running_var is -0.7 in channel 3" in done.err
    assert hint in done.err
    assert not Path("run").exists()


@pytest.mark.parametrize("name", CAN[1:])
def test_impossible_statistics_are_refused_where_the_source_is_scored(
    name: str, command: Callable[..., Any], photos: Path
) -> None:
    done = command(*doing(name, saved(negative(), "state dict"), photos))
    assert done.code == 3
    assert "bn2.running_var is -0.7 in channel 3" in done.err
    assert "adabn adapt" in done.err


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *((kind, torch.nan) for kind in (*FORMATS, "data")),
        ("pickle", torch.inf),
        ("data", torch.inf),
    ],
)
def test_broken_weights_are_refused_and_listed(
    kind: str, value: float, command: Callable[..., Any], photos: Path
) -> None:
    module = trained()
    with torch.no_grad():
        module.head.weight[1, 2] = value
    opened = saved(module, kind)
    done = command(*doing("adapt", opened, photos))
    assert done.code == 3
    assert "has 1 of 18 values NaN or infinite" in done.err
    assert not Path("run").exists()
    found = command("inspect", *opened, "--json")
    assert found.code == 0
    assert "1 of 18" in json.loads(found.out)["broken_entries"][0]


@pytest.mark.parametrize("name", [*CAN, "convert"])
def test_broken_weights_are_refused_by_every_command(
    name: str, command: Callable[..., Any], photos: Path
) -> None:
    module = trained()
    module.bn.bias.data[0] = torch.nan
    opened = saved(module, "safetensors")
    arguments = (
        ("convert", *opened, "-o", "c.pth") if name == "convert" else doing(name, opened, photos)
    )
    done = command(*arguments)
    assert done.code == 3
    assert "bn.bias" in done.err
    assert not Path("c.pth").exists()


def test_masks_and_bounds_may_be_infinite() -> None:
    module = trained()
    module.register_buffer("mask", torch.full((4, 4), -torch.inf).triu(1))
    module.register_buffer("bound", torch.tensor(torch.inf))
    require_sound(EagerModel(module), "here")
    module.mask[0, 0] = torch.nan
    with pytest.raises(ModelError, match="mask has 7 of 16"):
        require_sound(EagerModel(module), "here")


def test_inspect_lists_what_cannot_be_believed_without_an_architecture(
    command: Callable[..., Any],
) -> None:
    module = negative()
    module.bn.reset_running_stats()
    torch.save({f"own.{key}": value for key, value in module.state_dict().items()}, "a.pth")
    found = command("inspect", "a.pth", "--json")
    assert found.code == 0
    record = json.loads(found.out)
    assert record["broken_entries"] == ["own.bn2.running_var is -0.7 in channel 3"]
    assert record["unlearned_sites"] == ["own.bn"]
    shown = " ".join(command("inspect", "a.pth").out.split())
    assert "own.bn2.running_var is -0.7" in shown


class LogOfMean(nn.Module):
    """Outputs are NaN for pictures of a mean below `least`."""

    def __init__(self, least: float) -> None:
        super().__init__()
        self.bn, self.least = learned(nn.BatchNorm2d(3)), least

    def forward(self, x: Tensor) -> Tensor:
        logits = self.bn(x).mean((2, 3))
        return logits + (x.mean((1, 2, 3)) - self.least).sqrt().unsqueeze(1)


def test_outputs_that_are_no_numbers_are_counted_and_nothing_helps() -> None:
    images = torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    images[:3] -= 5
    pairs = [(images, torch.zeros(12, dtype=torch.long))]
    record = adabn_cli.adapt(LogOfMean(-2), pairs)
    assert (record.before.not_finite, record.after.not_finite) == (3, 3)
    assert record.verdict.outcome == "cannot tell"
    assert any("3 of 12 pictures before" in warning for warning in record.warnings)
    record = adabn_cli.adapt(LogOfMean(99), pairs)
    assert (record.before.not_finite, record.before.n) == (12, 12)
    assert (record.before.accuracy, record.after.accuracy, record.change.n) == (None, None, 0)
    assert record.verdict.outcome == "cannot tell"
    Path("run.json").write_text(record.as_json())


def test_gates_on_figures_that_are_not_there_cannot_tell(command: Callable[..., Any]) -> None:
    test_outputs_that_are_no_numbers_are_counted_and_nothing_helps()
    for gate in ("accuracy_after<50%", "collapse>0.5", "agreement<0.5", "verdict==harm"):
        done = command("report", "run.json", "--fail-on", gate)
        assert done.code == 4, gate
        assert "finite" in done.out + done.err


def test_a_kl_beyond_what_pictures_make_is_told() -> None:
    module = trained()
    for layer in (module.bn, module.bn2):
        layer.running_mean.fill_(-1e3)
    record = adabn_cli.adapt(module, [torch.rand(8, 3, 8, 8)])
    assert any("1,000 nats or more at 2 of 2 sites" in warning for warning in record.warnings)


# Random in eval mode.


class AlwaysDrops(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = trained()

    def forward(self, x: Tensor) -> Tensor:
        body = self.body
        hidden = torch.nn.functional.dropout(body.act(body.bn(body.conv(x))), 0.3)
        return body.head(body.flat(body.pool(body.act2(body.bn2(body.conv2(hidden))))))


def noisy(kind: str) -> tuple[object, ...]:
    """A file of a net that drops values in eval mode."""
    if kind in ("script", "traced"):
        return saved(AlwaysDrops().eval(), kind)
    torch.save(AlwaysDrops().body.state_dict(), "noisy.pth")
    Path("noisy.py").write_text(
        ARCH + "\n\nclass Noisy(nn.Sequential):\n    def __init__(self):\n"
        "        super().__init__(OrderedDict(net()._modules))\n\n    def forward(self, x):\n"
        "        for name, layer in self._modules.items():\n            x = layer(x)\n"
        "            x = nn.functional.dropout(x, 0.3) if name == 'act' else x\n        return x\n"
    )
    return "noisy.pth", "--arch", "noisy.py:Noisy"


@pytest.mark.parametrize("kind", ["state dict", "script", "traced"])
def test_dropout_in_eval_mode_is_told_by_every_command(
    kind: str, command: Callable[..., Any], photos: Path
) -> None:
    opened = noisy(kind)
    for name in CAN:
        done = command(*doing(name, opened, photos), *([] if name == "watch" else ["--json"]))
        assert done.code == 0
        assert "random in eval mode" in done.out, name
    assert told()["model"]["random"]
    gated = command("report", "run", "--json", "--fail-on", "accuracy_drop>99pp", "--fail-on",
                    "images<1")  # fmt: skip
    accuracy, images = json.loads(gated.out)["gates"]
    assert "random" in accuracy["reason"]
    assert images["reason"] is None


@pytest.mark.parametrize("kind", FORMATS)
def test_two_forwards_of_a_plain_net_are_the_same_to_the_bit(
    kind: str, command: Callable[..., Any], photos: Path
) -> None:
    assert command(*doing("adapt", saved(trained(), kind), photos)).code == 0
    assert not told()["model"]["random"]
    assert not any("random" in warning for warning in told()["warnings"])


def test_random_pictures_of_nan_are_not_taken_for_random_models() -> None:
    images = torch.full((2, 3, 8, 8), torch.nan)
    assert not is_random(EagerModel(trained()), images)
    assert is_random(EagerModel(AlwaysDrops()), torch.rand(2, 3, 8, 8))


# Train mode in the file.


@pytest.mark.parametrize("kind", ["pickle", "script"])
def test_a_file_in_train_mode_is_told_and_written_in_eval_mode(
    kind: str, command: Callable[..., Any], photos: Path
) -> None:
    module = trained().train()
    opened = saved(module, kind)
    done = command(*doing("adapt", opened, photos))
    assert done.code == 0
    assert any("saved in train mode" in warning for warning in told()["warnings"])
    put_in = command("apply", *opened, "run/pack.safetensors", "-o", "put_in.pt")
    assert put_in.code == 0
    assert "saved in train mode" in put_in.err
    images = inputs(photos)
    for name, (mean, var) in population(module, images).items():
        layer = module.get_submodule(name)
        layer.running_mean.copy_(mean)
        layer.running_var.copy_(var)
    with torch.no_grad():
        expected = module.eval()(images)
    for path in ("run/model.pt", "put_in.pt"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            written = (
                torch.jit.load(path) if kind == "script" else torch.load(path, weights_only=False)
            )
        assert not any(part.training for part in written.modules())
        with torch.no_grad():
            torch.testing.assert_close(written(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["pickle", "script", "state dict"])
def test_a_file_in_eval_mode_keeps_every_other_byte(
    kind: str, command: Callable[..., Any], photos: Path
) -> None:
    opened = saved(trained(), kind)
    assert command(*doing("adapt", opened, photos)).code == 0
    assert not any("train mode" in warning for warning in told()["warnings"])
    back = command("apply", "run/model.pt", *opened[1:], "run/pack.safetensors", "--revert", "-o",
                   "back.pt")  # fmt: skip
    assert back.code == 0
    assert Path("back.pt").read_bytes() == Path("model.pt").read_bytes()


@pytest.mark.parametrize("kind", ["pt2", "onnx"])
def test_a_graph_in_train_mode_says_that_it_stays_so(
    kind: str, command: Callable[..., Any], photos: Path
) -> None:
    found = command("inspect", *saved(trained().train(), kind), "--json")
    assert found.code == 0
    assert any("as a graph it stays so" in note for note in json.loads(found.out)["notes"])


# Half precision.


def test_a_statistic_beyond_float16_names_the_way_to_float32(
    command: Callable[..., Any], photos: Path
) -> None:
    module = trained()
    with torch.no_grad():
        module.conv.weight.mul_(2000)
    torch.save({key: x.half() if x.is_floating_point() else x
                for key, x in module.state_dict().items()}, "half.pth")  # fmt: skip
    Path("arch.py").write_text(ARCH)
    arch = ("--arch", "arch.py:net")
    done = command(*doing("adapt", ("half.pth", *arch), photos))
    assert done.code == 3
    assert "adabn convert MODEL -o FILE --float32" in done.err
    assert not Path("run").exists()
    assert command("convert", "half.pth", *arch, "-o", "wide.pth", "--float32").code == 0
    assert command(*doing("adapt", ("wide.pth", *arch), photos)).code == 0
    assert torch.load("run/model.pth")["state_dict"]["bn.running_var"].max() > 65504


def test_a_half_module_becomes_a_float32_one(command: Callable[..., Any]) -> None:
    opened = saved(trained().half(), "pickle")
    assert command("convert", *opened, "-o", "wide.pth", "--float32").code == 0
    entries = torch.load("wide.pth")["state_dict"]
    assert {x.dtype for x in entries.values() if x.is_floating_point()} == {torch.float32}
    refused = command("convert", *saved(trained().half(), "script"), "-o", "w.pth", "--float32")
    assert refused.code == 3
    assert "Leave out --float32" in refused.err
