"""State dicts as other tools save them: looked through where the weights are there, or named."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils import prune

import adabn_cli

GIVEN = ("--img-size", "32", "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5", "--labels", "none")
NETWORK = """
from torch import nn


def net():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(4, 2))
"""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Six pictures of noise, 32x32; and net.py."""
    folder, draw = tmp_path / "pictures", np.random.default_rng(0)
    folder.mkdir()
    for number in range(6):
        values = draw.integers(0, 160, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{number}.png")
    (tmp_path / "net.py").write_text(NETWORK)
    return folder


def images_of(folder: Path) -> Tensor:
    pictures = [np.asarray(Image.open(path), np.float64) for path in sorted(folder.iterdir())]
    return (torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5


def reference(net: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """A net's statistics on all images by plain PyTorch in float64, layer by layer."""
    net = copy.deepcopy(net).double().eval()
    for layer in net.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            seen: list[Tensor] = []
            hook = layer.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0]))
            with torch.no_grad():
                net(images)
            hook.remove()
            if seen:
                axes = [axis for axis in range(seen[0].dim()) if axis != 1]
                layer.running_mean = seen[0].mean(axes)
                layer.running_var = seen[0].var(axes, correction=0)
    return {key: x for key, x in net.state_dict().items() if "running_" in key}


def require_statistics(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert expected
    for key, value in expected.items():
        torch.testing.assert_close(found[key].double(), value, rtol=1e-3, atol=1e-4)


def small_net() -> nn.Module:
    scope: dict[str, Any] = {}
    exec(NETWORK, scope)
    net: nn.Module = scope["net"]()
    with torch.no_grad():
        net.train()(torch.rand(8, 3, 32, 32))
    return net.eval()


@pytest.mark.parametrize("arch", ["test_resnet", None], ids=["with-arch", "without"])
def test_a_split_batch_norm_adapts_its_main_one(
    arch: str | None, target: Path, command: Callable[..., Any]
) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    plain = timm.create_model("test_resnet", num_classes=3).eval()
    with torch.no_grad():
        plain.train()(torch.rand(8, 3, 32, 32))
    split = timm.layers.convert_splitbn_model(copy.deepcopy(plain), 3).eval().state_dict()
    torch.save({"state_dict": split, **({"arch": arch} if arch else {})}, "split.pth")
    done = command("adapt", "split.pth", "-t", target, "-o", "run", "--crop-pct", "1", *GIVEN)
    assert done.code == 0, done.err
    assert "are not part of the network and are left as they are" in " ".join(done.out.split())
    written = torch.load("run/model.pth", weights_only=True)["state_dict"]
    require_statistics(written, reference(plain, images_of(target)))
    aux = [key for key in split if ".aux_bn." in key]
    assert aux
    assert all(torch.equal(written[key], split[key]) for key in aux)


def test_a_split_batch_norm_pickled_whole_adapts_its_main_one(
    target: Path, command: Callable[..., Any]
) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    net = timm.create_model("test_resnet", num_classes=3)
    net = timm.layers.convert_splitbn_model(net, 3)
    with torch.no_grad():
        net.train()(torch.rand(12, 3, 32, 32))
    torch.save(net.eval(), "split.pth")
    how = ("--trust-pickle", "--crop-pct", "1", *GIVEN)
    done = command("adapt", "split.pth", "-t", target, "-o", "run", *how)
    assert done.code == 0, done.err
    written = torch.load("run/model.pth", weights_only=False).state_dict()
    require_statistics(written, reference(net, images_of(target)))


def averaged(net: nn.Module) -> dict[str, Tensor]:
    return torch.optim.swa_utils.AveragedModel(net).state_dict()  # type: ignore[no-any-return]


def counted(net: nn.Module) -> dict[str, Tensor]:
    return {"decay": torch.tensor(0.9), "num_updates": torch.tensor(7), **net.state_dict()}


def parallel(net: nn.Module) -> dict[str, Tensor]:
    return {f"module.{key}": value for key, value in net.state_dict().items()}


@pytest.mark.parametrize(
    ("wrapped", "prefix"),
    [(averaged, "module."), (counted, ""), (parallel, "module.")],
    ids=["AveragedModel", "ema-counters", "DataParallel"],
)
def test_wrappers_of_weights_are_looked_through(
    wrapped: Callable[..., dict[str, Tensor]], prefix: str, target: Path,
    command: Callable[..., Any],
) -> None:  # fmt: skip
    net = small_net()
    given = wrapped(net)
    torch.save(given, "net.pth")
    done = command("adapt", "net.pth", "-t", target, "-o", "run", "--arch", "net.py:net", *GIVEN)
    assert done.code == 0, done.err
    written = torch.load("run/model.pth", weights_only=True)
    assert written.keys() == given.keys()
    found = {key.removeprefix(prefix): value for key, value in written.items()}
    require_statistics(found, reference(net, images_of(target)))


def quantization_aware() -> dict[str, Tensor]:
    state = dict(small_net().state_dict())
    return state | {"0.weight_fake_quant.scale": torch.ones(1)}


def fused() -> dict[str, Tensor]:
    state = {key: x for key, x in small_net().state_dict().items() if not key.startswith("1.")}
    return state | {"0.bn.running_mean": torch.zeros(4), "0.bn.running_var": torch.ones(4)}


def pruned() -> dict[str, Tensor]:
    net = small_net()
    prune.l1_unstructured(net[0], "weight", 0.5)  # type: ignore[index]
    return net.state_dict()


def parametrized() -> dict[str, Tensor]:
    net = small_net()
    nn.utils.parametrizations.orthogonal(net[4])  # type: ignore[index]
    return net.state_dict()


@pytest.mark.parametrize("arch", [(), ("--arch", "net.py:net")], ids=["unnamed", "named"])
@pytest.mark.parametrize(
    ("state", "said", "hint"),
    [
        (quantization_aware, "quantization-aware training (0.weight_fake_quant.scale)",
         "prepare_qat"),
        (fused, "fused layers in training (0.bn.running_mean)", "fuse_modules_qat"),
        (pruned, "as pruning's (0.weight_orig)", "the same pruning applied"),
        (parametrized, "a parametrized network (4.parametrizations.weight", "parametrizations"),
    ],
    ids=["qat", "fused", "pruned", "parametrized"],
)  # fmt: skip
def test_a_state_that_a_tool_renamed_is_named(
    state: Callable[[], dict[str, Tensor]], said: str, hint: str, arch: tuple[str, ...],
    target: Path, command: Callable[..., Any],
) -> None:  # fmt: skip
    torch.save(state(), "net.pth")
    done = command("adapt", "net.pth", "-t", target, *arch, *GIVEN)
    told = " ".join(done.err.split())
    assert (done.code, said in told, hint in told, "Nearest" in told) == (3, True, True, False), (
        told
    )


@pytest.mark.parametrize(
    ("net", "said", "hint"),
    [
        (nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4)),
         "first convolution is 1-d: it takes signals", "adabn_cli.adapt(model, batches)"),
        (nn.Sequential(nn.Conv3d(3, 4, 3), nn.BatchNorm3d(4)),
         "first convolution is 3-d: it takes volumes", "adabn_cli.adapt(model, batches)"),
        (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)),
         "has no convolution: it takes vectors", "adabn_cli.adapt(model, batches)"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)),
         "fit no architecture that is known here.", "Name it with --arch"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 2)),
         "without a source profile there is nothing to adapt",
         "Give --profile, and name it with --arch"),
        (nn.LayerNorm(4), "There is nothing to adapt in them", "Save a network"),
    ],
    ids=["1-d", "3-d", "vectors", "stranger", "no-statistics", "no-layers"],
)  # fmt: skip
def test_an_unknown_state_says_what_it_is_and_nothing_far_off(
    net: nn.Module, said: str, hint: str, target: Path, command: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def no_building(*_: object) -> None:
        raise AssertionError("a library's model was built to say what is nearest")

    monkeypatch.setattr("adabn_cli.models.architectures.recognize.build_named", no_building)
    torch.save(net.state_dict(), "net.pth")
    done = command("adapt", "net.pth", "-t", target, *GIVEN)
    told = " ".join(done.err.split())
    assert (done.code, said in told, hint in told, "Nearest" in told) == (3, True, True, False), (
        told
    )


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten(),
                       nn.Linear(24, 2)), (16, 3, 8)),
        (nn.Sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.ReLU(), nn.Flatten(),
                       nn.Linear(32, 2)), (16, 1, 4, 4, 4)),
        (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)), (16, 3)),
    ],
    ids=["1-d", "3-d", "vectors"],
)  # fmt: skip
def test_python_adapts_networks_that_take_no_pictures(
    net: nn.Module, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        net.train()(torch.randn(shape))
    net.eval()
    given = 3 * torch.rand(shape) + 1
    expected = reference(net, given.double())
    adabn_cli.adapt(net, [given[:8], given[8:]])
    require_statistics(dict(net.state_dict()), expected)
