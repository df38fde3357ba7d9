"""Graphs that hide normalizers: partly folded, written as Mul and Add, shared between nodes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

import adabn_cli
from adabn_cli.adaptation.rules import FoldedBatchNorm
from adabn_cli.cli.boundary import run
from adabn_cli.models.containers import byte_patch
from adabn_cli.models.open import ModelRequest, open_model
from adabn_cli.record import Record

HALF = ["--img-size", "8", "--mean", ".5,.5,.5", "--std", ".5,.5,.5", "-q"]


def network() -> nn.Sequential:
    """Two convolutions and a linear layer, a BatchNorm behind each; 8 x 8 px."""
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5, eps=1e-3), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 6), nn.BatchNorm1d(6)),
        nn.Linear(6, 3),
    )
    for layer in net:
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor in (layer.weight.data, layer.running_var):
                tensor.uniform_(0.5, 1.5)  # type: ignore[union-attr]
            for tensor in (layer.bias.data, layer.running_mean):
                tensor.normal_(0, 0.3)  # type: ignore[union-attr]
    return net.eval()


#: What stands for a convolution and its normalizer, from value `x` to value `y`; adds constants.
Pair = Callable[[Any, Any, str, str, dict[str, Any]], list[NodeProto]]


def kept(conv: Any, norm: Any, x: str, y: str, constants: dict[str, Any]) -> list[NodeProto]:
    return [_conv(conv, x, f"{y}/c", y, constants), batch_norm(norm, f"{y}/c", y, y, constants)]


def fused(weight: str, bias: str) -> Pair:
    def folded(conv: Any, norm: Any, x: str, y: str, constants: dict[str, Any]) -> list[NodeProto]:
        both = fuse_conv_bn_eval(conv, norm)
        names = [weight.format(y), bias.format(y)]
        constants |= dict(zip(names, (both.weight, both.bias), strict=True))
        return [helper.make_node("Conv", [x, *names], [y])]

    return folded


def written(*steps: str) -> Pair:
    """The normalizer as arithmetic, `Mul`, `Add` or the others, by constants [1, C, 1, 1]."""

    def arithmetic(
        conv: Any, norm: Any, x: str, y: str, constants: dict[str, Any]
    ) -> list[NodeProto]:
        spread = (norm.running_var + norm.eps).sqrt()
        factor = norm.weight / spread
        shift = norm.bias - norm.running_mean * factor
        found = {"Mul": factor, "Div": 1 / factor, "Add": shift, "Sub": -shift}
        if len(steps) == 4:  # Sub mean, Div spread, Mul gamma, Add beta.
            found = {"Sub": norm.running_mean, "Div": spread, "Mul": norm.weight, "Add": norm.bias}
        nodes, value = [_conv(conv, x, f"{y}/c", y, constants)], f"{y}/c"
        for index, op in enumerate(steps):
            constants[f"{y}/{op}"] = found[op].view(1, -1, 1, 1)
            given = y if index == len(steps) - 1 else f"{y}/{index}"
            nodes.append(helper.make_node(op, [value, f"{y}/{op}"], [given], name=f"/{y}/{op}"))
            value = given
        return nodes

    return arithmetic


def _conv(conv: Any, x: str, y: str, layer: str, constants: dict[str, Any]) -> NodeProto:
    parameters = {f"{layer}.weight": conv.weight}
    parameters |= {} if conv.bias is None else {f"{layer}.bias": conv.bias}
    constants |= parameters
    return helper.make_node("Conv", [x, *parameters], [y])


def batch_norm(norm: Any, x: str, y: str, layer: str, constants: dict[str, Any]) -> NodeProto:
    found = {f"{layer}_bn.{key}": norm.state_dict()[key] for key in PARAMETERS}
    constants |= found
    return helper.make_node("BatchNormalization", [x, *found], [y], epsilon=norm.eps)


PARAMETERS = ("weight", "bias", "running_mean", "running_var")


def graph(first: Pair, second: Pair, path: Path) -> Path:
    """The network as a graph, its two convolutions' normalizers written in these ways."""
    net: Any = network()
    constants: dict[str, Any] = {"8.weight": net[8].weight, "8.bias": net[8].bias}
    constants |= {"10.weight": net[10].weight, "10.bias": net[10].bias}
    nodes = [
        *first(net[0], net[1], "x", "a", constants),
        helper.make_node("Relu", ["a"], ["b"]),
        *second(net[3], net[4], "b", "c", constants),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["e"]),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("Gemm", ["f", "8.weight", "8.bias"], ["g"], transB=1),
        batch_norm(net[9], "g", "h", "9", constants),
        helper.make_node("Gemm", ["h", "10.weight", "10.bias"], ["y"], transB=1),
    ]
    return saved(nodes, constants, path, dimensions=2)


def saved(
    nodes: Sequence[NodeProto], constants: dict[str, Any], path: Path, dimensions: int = 4
) -> Path:
    found = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * dimensions)],
        [
            numpy_helper.from_array(value.detach().numpy().copy(), name)
            for name, value in constants.items()
        ],
    )
    proto: ModelProto = helper.make_model(
        found, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.checker.check_model(proto)
    onnx.save(proto, path)
    return path


ONNX, DYNAMO, OWN = (
    ("onnx::Conv_{0}1", "onnx::Conv_{0}2"),
    ("{0}.weight", "{0}.weight_bias"),
    ("{0}.weight", "{0}.bias"),
)
#: How the two pairs are written, and what is said of it.
SHAPES: dict[str, tuple[Pair, Pair, str]] = {
    "both folded by the TorchScript exporter": (
        fused(*ONNX),
        fused(*ONNX),
        "1 BatchNorm kept, 2 folded into convolutions.",
    ),
    "both folded by the dynamo exporter": (
        fused(*DYNAMO),
        fused(*DYNAMO),
        "1 BatchNorm kept, 2 folded into convolutions.",
    ),
    "both folded, as no name tells": (
        fused(*OWN),
        fused(*OWN),
        "1 BatchNorm kept, 2 convolutions with a bias and no BatchNorm after them: BatchNorm may "
        "be folded into them.",
    ),
    "one folded": (kept, fused(*ONNX), "2 BatchNorm kept, 1 folded into convolutions."),
    "Mul and Add": (
        written("Mul", "Add"),
        written("Mul", "Add"),
        "1 BatchNorm kept, 2 written as Mul and Add by constants.",
    ),
    "Div and Sub": (
        written("Div", "Sub"),
        kept,
        "2 BatchNorm kept, 1 written as Mul and Add by constants.",
    ),
    "Sub, Div, Mul, Add": (
        written("Sub", "Div", "Mul", "Add"),
        fused(*ONNX),
        "1 BatchNorm kept, 1 folded into convolutions, 1 written as Mul and Add by constants.",
    ),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Twelve pictures of source and of a darker target, and the unfolded checkpoint."""
    folder = tmp_path_factory.mktemp("graphs")
    generator = np.random.default_rng(0)
    for name, brightest in (("source", 256), ("target", 120)):
        (folder / name).mkdir()
        for index in range(12):
            pixels = generator.integers(0, brightest, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    torch.save(network().state_dict(), folder / "net.pth")
    return {name: folder / name for name in ("source", "target", "net.pth")}


def images(folder: Path) -> Tensor:
    """The pictures as the runs see them."""
    pixels = [
        np.asarray(Image.open(folder / f"{index}.png")) for index in (0, 1, 10, 11, *range(2, 10))
    ]
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255 * 2 - 1


def adapt(model: Path, folders: dict[str, Path], out: Path, *more: object) -> Record:
    arguments = ["adapt", model, "-t", folders["target"], *HALF, "-o", out, *more]
    assert run(list(map(str, arguments))) == 0
    return Record.model_validate_json((out / "run.json").read_text())


def unfolded_adapted(folders: dict[str, Path]) -> Tensor:
    """The outputs of the unfolded network in float64, each layer given the target's moments."""
    net, value = network().double(), images(folders["target"]).double()
    with torch.no_grad():
        for layer in net:
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                over = (0, 2, 3) if value.dim() == 4 else (0,)
                layer.running_mean = value.mean(over)
                layer.running_var = value.var(over, correction=0)
            value = layer(value)
    return value


def deployed(path: Path, given: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(str(path))
    return torch.from_numpy(session.run(None, {"x": given.numpy()})[0])


@pytest.mark.parametrize("shape", SHAPES)
def test_a_partly_folded_graph_adapts_as_the_unfolded_network(
    shape: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    *pairs, told = SHAPES[shape]
    model, given = graph(*pairs, tmp_path / "model.onnx"), images(folders["target"])  # type: ignore[arg-type]
    torch.testing.assert_close(deployed(model, given), network()(given), rtol=1e-4, atol=1e-5)
    assert told in open_model(ModelRequest(model)).notes
    reference = ["--reference", folders["net.pth"], "--verify"]
    record = adapt(model, folders, tmp_path / "run", *reference)
    assert [site.adapted for site in record.sites] == [True] * 3
    assert " BatchNorm kept, " in record.warnings[0]
    found, wanted = deployed(tmp_path / "run" / "model.onnx", given), unfolded_adapted(folders)
    assert float((found - wanted).abs().max() / wanted.std()) < 1e-5
    assert record.residual is not None
    assert 0 < max(record.residual.max_mean, record.residual.max_log_variance) < 1e-5
    back = tmp_path / "back.onnx"
    pack = tmp_path / "run" / "pack.safetensors"
    assert run(["apply", str(tmp_path / "run" / "model.onnx"), str(pack), "--revert", "-q",
                "-o", str(back)]) == 0  # fmt: skip
    assert back.read_bytes() == model.read_bytes()


@pytest.mark.parametrize("shape", ["both folded, as no name tells", "Mul and Add"])
def test_without_a_reference_the_rest_takes_a_profile_or_is_told(
    shape: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    *pairs, told = SHAPES[shape]
    model = graph(*pairs, tmp_path / "model.onnx")  # type: ignore[arg-type]
    record = adapt(model, folders, tmp_path / "alone")
    assert [site.adapted for site in record.sites] == [False, False, True]
    warning = " ".join(record.warnings)
    assert told in warning
    assert "2 of 3 sites are left as they are" in warning
    assert "--reference FILE" in warning
    assert "--source DIR" in warning
    record = adapt(model, folders, tmp_path / "held", "--source", folders["source"], "--verify")
    assert [site.adapted for site in record.sites] == [True] * 3
    assert "left as they are" not in " ".join(record.warnings)
    assert record.residual is not None
    assert 0 < max(record.residual.max_mean, record.residual.max_log_variance) < 1e-5


def test_what_is_no_batch_norm_is_not_taken_for_one(tmp_path: Path) -> None:
    """A head's and a squeeze's convolution, an input's scaling, a GroupNorm's gamma and beta."""
    net: Any = network()
    constants: dict[str, Any] = {
        **{"std": torch.rand(1, 3, 1, 1), "mean": torch.rand(1, 3, 1, 1)},
        **{"g": torch.rand(4, 1, 1), "b": torch.rand(4, 1, 1)},
        **{"s": torch.rand(2), "o": torch.rand(2), "to": torch.tensor([0, 2, -1])},
        "back": torch.tensor([0, 4, 6, 6]),
    }
    nodes = [
        helper.make_node("Mul", ["x", "std"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "mean"], ["input"]),
        *kept(net[0], net[1], "input", "a", constants),
        helper.make_node("Reshape", ["a", "to"], ["groups"]),
        helper.make_node("InstanceNormalization", ["groups", "s", "o"], ["even"]),
        helper.make_node("Reshape", ["even", "back"], ["n"]),
        helper.make_node("Mul", ["n", "g"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["p"]),
        _conv(nn.Conv2d(4, 4, 1), "p", "q", "squeeze", constants),
        helper.make_node("Relu", ["q"], ["r"]),
        _conv(nn.Conv2d(4, 3, 1), "d", "y", "head", constants),
    ]
    opened = open_model(ModelRequest(saved(nodes, constants, tmp_path / "model.onnx")))
    assert [site.name for site in opened.model.sites] == ["a_bn"]
    assert not opened.notes


def test_verifying_measures_what_was_written(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = graph(fused(*ONNX), fused(*ONNX), tmp_path / "model.onnx")
    absorb = FoldedBatchNorm.absorb

    def wrong(*args: Any) -> dict[str, Tensor]:
        return {key: 1.1 * value for key, value in absorb(*args).items()}

    monkeypatch.setattr(FoldedBatchNorm, "absorb", wrong)
    more = ["--reference", folders["net.pth"], "--verify"]
    record = adapt(model, folders, tmp_path / "run", *more)
    assert record.residual is not None
    assert record.residual.max_log_variance == pytest.approx(2 * np.log(1.1), rel=0.1)


def test_nodes_that_share_their_statistics_are_named(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    net: Any = network()
    constants: dict[str, Any] = {}
    nodes = [
        _conv(net[0], "x", "a", "c1", constants),
        batch_norm(net[1], "a", "b", "first", constants),
        _conv(nn.Conv2d(4, 4, 1), "b", "c", "c2", constants),
        batch_norm(net[1], "c", "d", "second", constants),
        batch_norm(net[1], "d", "y", "second", constants),
    ]
    nodes[3].input[3:] = nodes[1].input[3:]
    nodes[4].input[1:] = nodes[1].input[1:]
    for node, name in ((nodes[1], "/first"), (nodes[4], "/again")):
        node.name = name
    model = saved(nodes, {x: y for x, y in constants.items() if "second_bn.run" not in x},
                  tmp_path / "model.onnx")  # fmt: skip
    record = adapt(model, folders, tmp_path / "run")
    told = " ".join(record.warnings)
    assert "2 BatchNormalization nodes read the same four parameters: /first, /again" in told
    assert "2 BatchNorm layers share one tensor of means: first_bn, second_bn" in told
    assert "1 site is used several times in one forward: first_bn (2 times)" in told
    assert f"adapting took {record.method.forwards} forwards." in told
    assert {site.name: site.uses for site in record.sites} == {"first_bn": 2, "second_bn": 1}


class Twice(nn.Module):
    """One BatchNorm in two places."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.bn = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.bn.running_mean = torch.rand(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.b(self.bn(self.a(x)).relu())).mean((2, 3))  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ["scripted", "traced", "exported", "live"])
@pytest.mark.filterwarnings("ignore")
def test_a_layer_used_twice_is_named_in_every_format(
    kind: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    net, given = Twice().eval(), torch.randn(2, 3, 8, 8)
    model = tmp_path / ("net.pt2" if kind == "exported" else "net.pt")
    if kind == "scripted":
        torch.jit.script(net).save(str(model))
    elif kind == "traced":
        torch.jit.trace(net, given).save(str(model))  # type: ignore[no-untyped-call]
    elif kind == "exported":
        batch = {0: torch.export.Dim("n", min=2)}
        torch.export.save(torch.export.export(net, (given,), dynamic_shapes=[batch]), model)
    if kind == "live":
        record: Record = adabn_cli.adapt(net, [images(folders["target"])])
    else:
        record = adapt(model, folders, tmp_path / "run")
    told = " ".join(record.warnings)
    assert "1 site is used several times in one forward: bn (2 times)." in told
    assert f"adapting took {record.method.forwards} forwards." in told
    assert record.method.forwards > 1
    assert [site.uses for site in record.sites] == [2]


@pytest.mark.parametrize("kind", ["scripted", "traced", "exported"])
@pytest.mark.filterwarnings("ignore")
def test_other_graphs_say_that_batch_norm_may_be_folded_in(kind: str, tmp_path: Path) -> None:
    """Two convolutions fused; a squeeze, which has a bias and no normalizer, is not counted."""
    net: Any = network()
    net[0], net[1] = fuse_conv_bn_eval(net[0], net[1]), nn.Identity()
    net[3], net[4] = fuse_conv_bn_eval(net[3], net[4]), nn.Identity()
    squeeze = [nn.AdaptiveAvgPool2d(1), nn.Conv2d(5, 5, 1), nn.ReLU()]
    for place, layer in enumerate(squeeze, 6):
        net.insert(place, layer)
    net.eval()
    given, model = torch.randn(2, 3, 8, 8), tmp_path / "model.pt2"
    if kind == "exported":
        torch.export.save(torch.export.export(net, (given,)), model)
    else:
        made = torch.jit.script(net) if kind == "scripted" else torch.jit.trace(net, given)  # type: ignore[no-untyped-call]
        made.save(str(model.with_suffix(".pt")))
        model = model.with_suffix(".pt")
    opened = open_model(ModelRequest(model))
    assert opened.notes[0] == SHAPES["both folded, as no name tells"][2]
    assert "ONNX export with --reference or --source" in opened.notes[1]
    assert len(opened.model.sites) == 1


def test_a_graph_is_hashed_once_before_it_is_copied(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, hashed = graph(kept, kept, tmp_path / "model.onnx"), []
    sha256_of = byte_patch.sha256_of

    def counted(path: Path) -> str:
        hashed.append(path)
        return sha256_of(path)

    for module in ("checkpoint", "open_checkpoint", "onnx.file"):
        monkeypatch.setattr(f"adabn_cli.models.{module}.sha256_of", counted)
    adapt(model, folders, tmp_path / "run")
    assert hashed == [model]
    assert run(["inspect", str(model), "--json"]) == 0
    assert hashed == [model, model]


def test_inspect_says_both_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = graph(fused(*ONNX), fused(*ONNX), tmp_path / "model.onnx")
    assert run(["inspect", str(model), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["notes"][0] == "1 BatchNorm kept, 2 folded into convolutions."
    assert "do_constant_folding=False" in found["notes"][1]
    kinds = [site["kind"] for site in found["sites"]]
    assert kinds == ["affine", "affine", "batch_norm"]
