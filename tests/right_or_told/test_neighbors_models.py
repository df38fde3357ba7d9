"""Model files as other tools and scripts write them: they are adapted, or what they are is told."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import adabn_cli

GIVEN = ("--img-size", "8", "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5", "--labels", "none")

SCRIPT = """
from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, width, 3), nn.BatchNorm2d(width)

    def forward(self, x):
        return self.bn(self.conv(x)).relu()


class Net(nn.Module):
    def __init__(self, widths=(4, 3), settings=None):
        super().__init__()
        width, classes = widths
        self.block, self.fc = Block(width), nn.Linear(width, classes)
        self.settings = settings

    def forward(self, x):
        return self.fc(self.block(x).mean((2, 3)))


def network():
    return Net()
"""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Twelve pictures of noise, 8x8."""
    folder, draw = tmp_path / "pictures", np.random.default_rng(0)
    folder.mkdir()
    for number in range(12):
        values = draw.integers(0, 160, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture(autouse=True)
def _no_modules_left() -> Iterator[None]:
    before, path = dict(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in sys.modules.keys() - before.keys():
        if name.partition(".")[0] in ("src", "pkg") or name.startswith("_adabn_arch_"):
            del sys.modules[name]


def images_of(folder: Path) -> Tensor:
    """The pictures as --mean 0.5 and --std 0.5 make them, float64 [N, 3, 8, 8]."""
    pictures = [np.asarray(Image.open(path), np.float64) for path in sorted(folder.iterdir())]
    return (torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5


def reference(net: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """A net's statistics on all images by plain PyTorch, layer by layer, as precise as these."""
    net = net.to(images.dtype).eval()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            seen: list[Tensor] = []
            hook = layer.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0]))
            with torch.no_grad():
                net(images)
            hook.remove()
            for x in seen:
                layer.running_mean = x.double().mean((0, 2, 3)).to(x.dtype)
                layer.running_var = x.double().var((0, 2, 3), correction=0).to(x.dtype)
    return {key: x.double() for key, x in net.state_dict().items() if "running_" in key}


def learned(net: nn.Module, shape: tuple[int, ...] = (3, 8, 8)) -> nn.Module:
    """The net in eval mode, its statistics those of some noise."""
    with torch.no_grad():
        for _ in range(3):
            net.train()(torch.rand(8, *shape))
    return net.eval()


def require_statistics(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert expected
    for key, value in expected.items():
        torch.testing.assert_close(found[key].double(), value, rtol=1e-4, atol=1e-5)


@pytest.fixture
def script(tmp_path: Path) -> Any:
    """The module that script.py is, as it is when the script itself runs: `__main__`."""
    (tmp_path / "script.py").write_text(SCRIPT)
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec(SCRIPT, scope)
    torch.manual_seed(0)
    return scope


def save_as_main(net: nn.Module, scope: Mapping[str, Any], path: Path, **how: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("Block", "Net"):
            patch.setattr(sys.modules["__main__"], name, scope[name], raising=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # The legacy format finds no source to store.
            torch.save(net, path, **how)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("callee", ["Net", "network"])
def test_a_pickle_of_a_script_is_adapted_with_the_script_that_arch_names(
    callee: str, zipped: bool, script: Any, target: Path, command: Callable[..., Any]
) -> None:
    net = learned(script["Net"]())
    save_as_main(net, script, Path("net.pth"), _use_new_zipfile_serialization=zipped)
    how = ("--trust-pickle", "--arch", f"script.py:{callee}")
    done = command("adapt", "net.pth", "-t", target, "-o", "run", *how, *GIVEN)
    assert done.code == 0, done.err
    assert "trusted pickle" in done.out
    with pytest.MonkeyPatch.context() as patch:
        for name in ("Block", "Net"):
            patch.setattr(sys.modules["__main__"], name, script[name], raising=False)
        written = torch.load(Path("run/model.pth"), weights_only=False)
    require_statistics(written.state_dict(), reference(net, images_of(target)))


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ((), 3, "--trust-pickle --arch path/to/script.py:Net"),
        (("--trust-pickle",), 3, "Name the script that defines it: --arch path/to/script.py:Net"),
        (("--arch", "script.py:Net"), 3, "or add --trust-pickle"),
        (("--trust-pickle", "--arch", "other.py:Net"), 3, "The pickle needs __main__.Net"),
        (("--trust-pickle", "--arch", "script.py:Block"), 2, "a whole module, a Net"),
        (
            ("--trust-pickle", "--arch", "script.py:Net", "--arch-args", "widths=[4,3]"),
            2,
            "Leave out --arch and --arch-args",
        ),
    ],
    ids=["nothing", "trust", "arch", "other-file", "other-class", "arguments"],
)
def test_a_pickle_of_a_script_says_how_it_is_opened(
    options: tuple[str, ...], code: int, said: str, script: Any, target: Path,
    command: Callable[..., Any],
) -> None:  # fmt: skip
    Path("other.py").write_text("class Other: pass\n")
    save_as_main(learned(script["Net"]()), script, Path("net.pth"))
    done = command("adapt", "net.pth", "-t", target, *options, *GIVEN)
    assert (done.code, said in " ".join(done.err.split())) == (code, True), done.err


def test_a_script_is_not_run_without_trust(script: Any, command: Callable[..., Any]) -> None:
    save_as_main(script["Net"](), script, Path("net.pth"))
    Path("script.py").write_text("open('proof', 'w')\n" + SCRIPT)
    assert command("inspect", "net.pth", "--arch", "script.py:Net").code == 3
    assert not Path("proof").exists()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """src/net.py, which imports its neighbor as a part of its package."""
    block, net = SCRIPT.split("class Net(")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "blocks.py").write_text(block)
    (tmp_path / "src" / "net.py").write_text(
        f"from torch import nn\nfrom .blocks import Block\n\n\nclass Net({net}"
    )
    return tmp_path / "src"


def test_a_trusted_pickle_finds_the_classes_of_the_current_folder(
    package: Path, command: Callable[..., Any]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(package.parent)
        torch.save(importlib.import_module("src.net").Net(), "net.pth")
    for name in ("src", "src.net", "src.blocks"):
        del sys.modules[name]
    refused = command("inspect", "net.pth")
    assert (refused.code, "src.net" in sys.modules) == (3, False)
    path = list(sys.path)
    sys.path[:] = [entry for entry in path if entry not in ("", ".", str(package.parent))]
    done = command("inspect", "net.pth", "--trust-pickle")
    assert (done.code, "src.net.Net" in done.out) == (0, True), done.err
    assert str(package.parent) not in sys.path


def test_a_pickle_of_another_folder_says_where_to_run(
    package: Path, tmp_path: Path, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(package.parent)
        torch.save(importlib.import_module("src.net").Net(), "net.pth")
    for name in ("src", "src.net", "src.blocks"):
        del sys.modules[name]
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    done = command("inspect", tmp_path / "net.pth", "--trust-pickle")
    assert (done.code, "Run adabn in the folder that holds src" in done.err) == (3, True), done.err


@pytest.mark.parametrize("marked", [True, False], ids=["package", "plain-folder"])
@pytest.mark.parametrize("deep", [True, False], ids=["two-up", "beside"])
def test_a_file_of_a_package_is_loaded_as_part_of_it(
    deep: bool, marked: bool, package: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    if marked:
        (package / "__init__.py").touch()
    path = package / "net.py"
    if deep:
        (package / "nets").mkdir()
        text = path.read_text().replace("from .blocks", "from ..blocks")
        path = path.rename(package / "nets" / "net.py")
        path.write_text(text)
    (tmp_path / "src").rename(tmp_path / "pkg")
    path = tmp_path / "pkg" / path.relative_to(package)
    scope: dict[str, Any] = {"__name__": "script"}
    exec(SCRIPT, scope)
    torch.save(scope["Net"]().state_dict(), "net.pth")
    done = command("inspect", "net.pth", "--arch", f"{path.relative_to(tmp_path)}:Net")
    assert (done.code, "1 batch_norm" in done.out) == (0, True), done.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("widths=[6,5]", 0, "6 neurons"),
        ('widths=[6,5],settings={"a": [1, 2], "b": null}', 0, "6 neurons"),
        ('{"widths": [6, 5], "settings": true}', 0, "6 neurons"),
        ("widths=[6,5", 2, '"[6,5" is neither a Python literal nor JSON'),
        ('{"widths": [6, 5]', 2, "not a JSON object"),
        ('{"widths": 1, "widths": 2}', 2, '"widths" is given twice'),
        ('{"wid ths": 1}', 2, "not the name of an argument"),
    ],
)
def test_arch_args_take_json(
    arguments: str, code: int, said: str, script: Any, command: Callable[..., Any]
) -> None:
    torch.save(script["Net"]((6, 5)).state_dict(), "net.pth")
    done = command("inspect", "net.pth", "--arch", "script.py:Net", "--arch-args", arguments)
    assert (done.code, said in " ".join((done.out + done.err).split())) == (code, True), done.err


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("import no_such_thing_at_all", "Install no_such_thing_at_all, or run adabn in the folder"),
        ("raise ValueError('not now')", "Mend that code"),
    ],
)
def test_a_file_that_cannot_be_imported_says_why(
    text: str, hint: str, script: Any, command: Callable[..., Any]
) -> None:
    torch.save(script["Net"]().state_dict(), "net.pth")
    Path("bad.py").write_text(text)
    done = command("inspect", "net.pth", "--arch", "bad.py:Net")
    assert (done.code, hint in " ".join(done.err.split())) == (2, True), done.err


def saved(path: str, content: object) -> str:
    torch.save(content, path)
    return path


def opened_and_adapted(
    command: Callable[..., Any], target: Path, *how: object, given: tuple[str, ...] = GIVEN
) -> tuple[str, Any]:
    """What adapting net.pth told, and what the file that it wrote holds."""
    done = command("adapt", "net.pth", "-t", target, "-o", "run", *how, *given)
    assert done.code == 0, done.err
    written = torch.load(Path("run/model.pth"), weights_only=False)
    return " ".join((done.out + done.err).split()), written


def split_batch_norm(net: nn.Module) -> nn.Module:
    layers = pytest.importorskip("timm.layers")
    return learned(layers.convert_splitbn_model(net, 2))  # type: ignore[no-any-return]


def test_auxiliary_batch_norm_is_no_site(script: Any) -> None:
    net = split_batch_norm(script["Net"]())
    record = adabn_cli.adapt(net, [torch.rand(8, 3, 8, 8)])
    assert [site.name for site in record.sites] == ["block.bn"]


def prefixed(prefix: str, state: Mapping[str, Any]) -> dict[str, Any]:
    return {prefix + key: value for key, value in state.items()}


def without_dots(state: Mapping[str, Any]) -> dict[str, Any]:
    return {k.replace(".", ""): v for k, v in state.items() if "running" not in k}


COUNT = torch.tensor(3)
KEEPERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "averaged-model": lambda s: {"n_averaged": COUNT, **prefixed("module.", s)},
    "count-at-root": lambda s: {**s, "n_averaged": COUNT},
    "updates-and-decay": lambda s: {**s, "num_updates": COUNT, "decay": torch.tensor(0.9)},
    "beside-a-part": lambda s: {**prefixed("model.", s), "num_updates": COUNT},
    "copies-with-underscores": lambda s: {
        "state_dict": {**s, **{f"ema_{k.replace('.', '_')}": v for k, v in s.items()}}
    },
    "parameters-without-dots": lambda s: {
        **prefixed("model.", s), **prefixed("model_ema.", without_dots(s)),
        "model_ema.num_updates": COUNT, "model_ema.decay": torch.tensor(0.9),
    },
    "list-beside": lambda s: {
        "model": s, "ema": {"decay": 0.9, "num_updates": 3, "shadow_params": [torch.ones(4)]}
    },
}  # fmt: skip


@pytest.mark.parametrize("keeper", KEEPERS)
def test_counters_of_moving_averages_are_looked_through(
    keeper: str, script: Any, target: Path, command: Callable[..., Any]
) -> None:
    net = learned(script["Net"]())
    saved("net.pth", KEEPERS[keeper](net.state_dict()))
    _, written = opened_and_adapted(command, target, "--arch", "script.py:Net")
    written = written.get("state_dict", written.get("model", written))
    prefix = next(p for p in ("", "module.", "model.") if f"{p}block.bn.running_mean" in written)
    require_statistics(written, prefixed(prefix, reference(net, images_of(target))))


def test_counters_do_not_hide_a_known_architecture(command: Callable[..., Any]) -> None:
    models = pytest.importorskip("torchvision.models")
    state = models.shufflenet_v2_x0_5(num_classes=3).state_dict()
    for number, content in enumerate(
        ({**state, "n_averaged": COUNT}, {**prefixed("net.", state), "num_updates": COUNT})
    ):
        done = command("inspect", saved(f"{number}.pth", content))
        assert (done.code, "torchvision:shufflenet_v2_x0_5" in done.out) == (0, True), done.out


def test_an_average_of_a_library_network_needs_no_trust(command: Callable[..., Any]) -> None:
    models = pytest.importorskip("torchvision.models")
    swa_utils = torch.optim.swa_utils
    net = swa_utils.AveragedModel(models.shufflenet_v2_x0_5(num_classes=3))
    done = command("inspect", saved("net.pth", net))
    assert (done.code, "torchvision:shufflenet_v2_x0_5" in done.out) == (0, True), done.err


def test_a_list_of_averaged_parameters_says_what_to_save(command: Callable[..., Any]) -> None:
    average = {"decay": 0.9, "num_updates": 3, "shadow_params": [torch.ones(4)]}
    done = command("inspect", saved("net.pth", average))
    assert (done.code, "ema.copy_to(model.parameters())" in done.err) == (3, True), done.err


def normed(net: nn.Module, norm: Callable[..., nn.Module]) -> nn.Module:
    for layer in [*net.modules()]:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            norm(layer)
    return net


NORMS: dict[str, Callable[..., nn.Module]] = {
    "spectral": nn.utils.parametrizations.spectral_norm,
    "spectral-old": nn.utils.spectral_norm,
    "weight": nn.utils.parametrizations.weight_norm,
    "weight-old": nn.utils.weight_norm,
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("norm", NORMS)
def test_weights_under_a_norm_go_into_the_plain_network(
    norm: str, script: Any, target: Path, command: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    net = learned(normed(script["Net"](), NORMS[norm]))
    saved("net.pth", net.state_dict())
    _, written = opened_and_adapted(command, target, "--arch", "script.py:Net")
    assert list(written) == list(net.state_dict())
    require_statistics(written, reference(net, images_of(target)))


def test_a_known_architecture_is_recognized_under_spectral_norm(
    command: Callable[..., Any],
) -> None:
    models = pytest.importorskip("torchvision.models")
    net = normed(models.shufflenet_v2_x0_5(num_classes=3), NORMS["spectral"])
    done = command("inspect", saved("net.pth", net.state_dict()))
    assert (done.code, "torchvision:shufflenet_v2_x0_5" in done.out) == (0, True), done.out


QUANTIZED = """
import warnings
import torch.ao.quantization as q
from torch import nn

PARTS = ["conv1", "bn1", "relu"], ["conv2", "bn2"]

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1, self.relu = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()
        self.conv2, self.bn2, self.fc = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        return self.fc(self.bn2(self.conv2(x)).mean((2, 3)))

def plain():
    return Net()

def fused():
    return q.fuse_modules_qat(plain().train(), [*PARTS])

def prepared(net=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = (net or plain()).train()
        net.qconfig = q.get_default_qat_qconfig("fbgemm")
        return q.prepare_qat(net)

def prepared_fused():
    return prepared(fused())
"""


@pytest.fixture
def quantized() -> Any:
    Path("quantized.py").write_text(QUANTIZED)
    scope: dict[str, Any] = {}
    exec(QUANTIZED, scope)
    torch.manual_seed(0)
    return scope


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("trained", "given", "said"),
    [
        ("prepared", "plain", "training (conv1.weight_fake_quant.fake_quant_enabled)"),
        ("prepared", None, "a function that returns the network with its observers"),
        ("prepared_fused", "plain", "a fused layer quantizes its weight by the statistics"),
        ("prepared_fused", "prepared_fused", "quantizes its weight by the statistics"),
        (
            "fused",
            "plain",
            "The file holds a state of fused layers in training (conv1.1.running",
        ),
    ],
)
def test_the_state_of_another_network_is_named(
    trained: str, given: str | None, said: str, quantized: Any, target: Path,
    command: Callable[..., Any],
) -> None:  # fmt: skip
    saved("net.pth", learned(quantized[trained]()).state_dict())
    how = ("--arch", f"quantized.py:{given}") if given else ()
    done = command("adapt", "net.pth", "-t", target, *how, *GIVEN)
    assert (done.code, said in " ".join(done.err.split())) == (3, True), done.err


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("trained", ["prepared", "fused"])
def test_the_network_as_it_was_trained_adapts(
    trained: str, quantized: Any, target: Path, command: Callable[..., Any]
) -> None:
    net = learned(quantized[trained]())
    saved("net.pth", net.state_dict())
    _, written = opened_and_adapted(command, target, "--arch", f"quantized.py:{trained}")
    for layer in net.modules():
        if "observer_enabled" in dict(layer.named_buffers(recurse=False)):
            layer.disable_observer()
    # Simulated quantization is of float32.
    require_statistics(written, reference(net, images_of(target).float()))


NO_PICTURES = """
from torch import nn

def signals():
    return nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(24, 3))

def volumes():
    return nn.Sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.Flatten(), nn.Linear(32, 3))
"""


@pytest.mark.parametrize("given", [(), GIVEN], ids=["nothing", "options"])
@pytest.mark.parametrize(("name", "shape"), [("signals", (2, 8)), ("volumes", (1, 4, 4, 4))])
def test_a_named_network_of_no_pictures_says_so(
    name: str, shape: tuple[int, ...], given: tuple[str, ...], target: Path,
    command: Callable[..., Any],
) -> None:  # fmt: skip
    Path("nets.py").write_text(NO_PICTURES)
    scope: dict[str, Any] = {}
    exec(NO_PICTURES, scope)
    saved("net.pth", learned(scope[name](), shape).state_dict())
    done = command("adapt", "net.pth", "-t", target, "--arch", f"nets.py:{name}", *given)
    assert (done.code, f"it takes {name}" in done.err) == (3, True), done.err
    assert "adabn_cli.adapt(model" in done.err


@pytest.mark.parametrize(
    ("content", "said", "nearest"),
    [
        ("unlike", "Name it with --arch", False),
        ("nothing", "Give --profile, and name it with --arch", False),
        ("like", "Name it with --arch", True),
    ],
)
def test_the_nearest_architecture_is_named_where_it_is_near(
    content: str, said: str, nearest: bool, script: Any, target: Path, command: Callable[..., Any]
) -> None:
    models = pytest.importorskip("torchvision.models")
    like = models.shufflenet_v2_x0_5(num_classes=3).state_dict()
    del like["conv5.1.bias"]
    states = {
        "unlike": script["Net"]().state_dict(),
        "nothing": nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 3)).state_dict(),
        "like": like,
    }
    done = command("adapt", saved("net.pth", states[content]), "-t", target, *GIVEN)
    assert (done.code, said in done.err) == (3, True), done.err
    assert ("Nearest: torchvision:shufflenet_v2_x0_5 (1 missing" in done.err) == nearest
    assert ("Nearest" in done.err) == nearest
