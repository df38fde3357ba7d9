"""ONNX graphs made by hand: where parameters may lie, what is a site, what is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor

from adabn_cli.adaptation.fingerprint import fingerprint
from adabn_cli.cli.boundary import run
from adabn_cli.errors import InputError, ModelError, UsageError
from adabn_cli.models.onnx.model import OnnxModel
from adabn_cli.models.open import ModelRequest, open_model

C = 4
ENDINGS = ("weight", "bias", "running_mean", "running_var")
Arrays = dict[str, NDArray[np.generic]]


def values(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng((seed, *shape)).normal(size=shape).astype(np.float32)


def batch_norm(x: str, y: str, layer: str) -> NodeProto:
    parameters = [f"{layer}.{ending}" for ending in ENDINGS]
    return helper.make_node("BatchNormalization", [x, *parameters], [y], name=f"/{layer}/{y}")


def statistics(layer: str, channels: int = C) -> Arrays:
    arrays = [values(channels, seed=seed) for seed in (len(layer), 1, 2, 3)]
    return {
        f"{layer}.{ending}": np.abs(x) + 0.5 if ending in ("weight", "running_var") else x
        for ending, x in zip(ENDINGS, arrays, strict=True)
    }


WEIGHTS: Arrays = {"c1.weight": values(C, 3, 3, 3), "c2.weight": values(C, C, 3, 3)}
PARAMETERS: Arrays = {**WEIGHTS, **statistics("bn1"), **statistics("bn2")}


def conv(x: str, y: str, *parameters: str) -> NodeProto:
    return helper.make_node("Conv", [x, *parameters], [y], name=f"/{y}/Conv", pads=[1] * 4)


CONV1, CONV2 = conv("x", "a", "c1.weight"), conv("r", "c", "c2.weight")
RELU = helper.make_node("Relu", ["b"], ["r"])
NODES = [CONV1, batch_norm("a", "b", "bn1"), RELU, CONV2, batch_norm("c", "y", "bn2")]


def constant(name: str, value: NDArray[np.generic]) -> NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))


def of_floats(name: str, sizes: Sequence[int | str | None]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)


def model(
    nodes: Sequence[NodeProto],
    arrays: Mapping[str, NDArray[np.generic]],
    *,
    opset: int = 17,
    ir_version: int = 8,
    batch: int | str = "n",
    dimensions: int = 4,
) -> ModelProto:
    inputs = [of_floats("x", [batch, 3, 8, 8])]
    if ir_version < 4:
        inputs += [of_floats(name, x.shape) for name, x in arrays.items()]
    graph = helper.make_graph(
        nodes,
        "net",
        inputs,
        [of_floats("y", [None] * dimensions)],
        [numpy_helper.from_array(x, name) for name, x in arrays.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)


def identities(**of: str) -> list[NodeProto]:
    names = {name.replace("__", "."): root.replace("__", ".") for name, root in of.items()}
    return [helper.make_node("Identity", [root], [name]) for name, root in names.items()]


def without(*names: str) -> Arrays:
    return {name: x for name, x in PARAMETERS.items() if name not in names}


def shared_by_name() -> ModelProto:
    """As an optimizer leaves it: equal parameters have one name, whatever they are."""
    first = helper.make_node("BatchNormalization", ["a", "one", "zero", "zero", "one"], ["b"])
    second = ["c", "bn2.weight", "zero", "zero", "one"]
    last = helper.make_node("BatchNormalization", second, ["y"])
    arrays = {"one": np.ones(C, np.float32), "zero": np.zeros(C, np.float32), **PARAMETERS}
    return model([CONV1, first, RELU, CONV2, last], arrays)


def with_branches() -> ModelProto:
    """An If between the normalizers, with one more of them in a branch, and a Loop."""
    then = helper.make_graph(
        [helper.make_node("Relu", ["b"], ["t"])], "then", [], [of_floats("t", [None] * 4)]
    )
    other = helper.make_graph(
        [batch_norm("b", "e", "bn3")], "else", [], [of_floats("e", [None] * 4)]
    )
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        constant("limit", np.array([0, 0, 0, 99])),
        helper.make_node("Greater", ["shape", "limit"], ["more"]),
        helper.make_node("Cast", ["more"], ["counts"], to=TensorProto.INT64),
        helper.make_node("ReduceMin", ["counts"], ["all"], keepdims=0),
        helper.make_node("Cast", ["all"], ["wide"], to=TensorProto.BOOL),
        CONV1,
        batch_norm("a", "b", "bn1"),
        helper.make_node("If", ["wide"], ["i"], then_branch=then, else_branch=other),
        helper.make_node("Loop", ["trips", "", "i"], ["r"], body=_adds_b()),
        CONV2,
        batch_norm("c", "y", "bn2"),
    ]
    return model(nodes, {**PARAMETERS, **statistics("bn3"), "trips": np.array(3)})


def _adds_b() -> GraphProto:
    nodes = [
        helper.make_node("Identity", ["go_on"], ["going_on"]),
        helper.make_node("Add", ["v", "b"], ["w"]),
    ]
    flag = TensorProto.BOOL
    return helper.make_graph(
        nodes,
        "body",
        [
            helper.make_tensor_value_info("trip", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", flag, []),
            of_floats("v", [None] * 4),
        ],
        [helper.make_tensor_value_info("going_on", flag, []), of_floats("w", [None] * 4)],
    )


def folded() -> ModelProto:
    """Convolutions, a transposed one in groups, and a linear layer; all with a bias."""
    nodes = [
        conv("x", "a", "c1.weight", "c1.bias"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("ConvTranspose", ["b", "t.weight", "t.bias"], ["t"], group=2),
        helper.make_node("GlobalAveragePool", ["t"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "g.weight", "g.bias"], ["h"], transB=1, beta=0.5, alpha=2.0),
        helper.make_node("Gemm", ["h", "k.weight", "k.bias"], ["y"]),
    ]
    shapes = {"t.weight": (C, 3, 2, 2), "t.bias": (6,), "g.weight": (5, 6), "g.bias": (5,)}
    shapes |= {"c1.bias": (C,), "k.weight": (5, 2), "k.bias": (1, 2)}
    arrays = {"c1.weight": WEIGHTS["c1.weight"], **{n: values(*s) for n, s in shapes.items()}}
    return model(nodes, arrays, dimensions=2)


CASES: dict[str, Callable[[], ModelProto]] = {
    **{
        f"opset {n}": lambda n=n: model(  # type: ignore[misc]
            NODES, PARAMETERS, opset=n, ir_version=8 if n < 21 else 11
        )
        for n in (9, 13, 14, 15, 18, 21, 23)
    },
    "initializers are inputs": lambda: model(NODES, PARAMETERS, opset=9, ir_version=3),
    "constant nodes": lambda: model([*map(constant, PARAMETERS, PARAMETERS.values()), *NODES], {}),
    "shared through Identity": lambda: model(
        [*identities(bn2__running_mean="bn1.bias", bn2__running_var="bn1.weight"), *NODES],
        without("bn2.running_mean", "bn2.running_var"),
    ),
    "others share the statistics": lambda: model(
        [*identities(bn1__bias="bn1.running_mean", bn2__weight="bn1.running_var"), *NODES],
        without("bn1.bias", "bn2.weight"),
    ),
    "shared by name": shared_by_name,
    "a layer used twice": lambda: model(
        [*NODES[:4], batch_norm("c", "y", "bn1")], without(*statistics("bn2"))
    ),
    "a batch of one": lambda: model(NODES, PARAMETERS, batch=1),
    "a batch of two": lambda: model(NODES, PARAMETERS, batch=2),
    "a site at the input": lambda: model(
        [batch_norm("x", "b", "bn0"), conv("b", "y", "c1.weight")],
        {**WEIGHTS, **statistics("bn0", 3)},
    ),
    "branches and loops": with_branches,
    "folded": folded,
}


@pytest.fixture
def images() -> Tensor:
    """Five images of 8 px."""
    return torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def opened(path: Path, output: str | None = None) -> OnnxModel:
    found = open_model(ModelRequest(path, output=output)).model
    assert isinstance(found, OnnxModel)
    return found


def plain_outputs(path: Path, images: Tensor) -> NDArray[np.float32]:
    """What onnxruntime gives for the file as it is, in pieces of the batch that it takes."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options)
    given = session.get_inputs()[0].shape[0]
    step = given if isinstance(given, int) else len(images)
    whole = torch.cat([images, images[-1:]])  # An even number, for a batch of two.
    pieces = whole.split(step) if step < len(images) else (images,)
    outputs = np.concatenate([session.run(None, {"x": x.numpy()})[0] for x in pieces])
    return np.asarray(outputs[: len(images)])


@pytest.mark.parametrize("case", CASES)
def test_a_graph_runs_in_stages_and_is_saved_with_new_statistics(
    case: str, images: Tensor, tmp_path: Path
) -> None:
    path, out = tmp_path / "model.onnx", tmp_path / "out.onnx"
    onnx.save(CASES[case](), path)
    original, source = path.read_bytes(), opened(path)
    expected = plain_outputs(path, images)
    found = source.forward(images)
    assert found is not None
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())

    before = fingerprint(source)
    keys = [key for site in source.sites for key in site.keys.values()]
    generator = torch.Generator().manual_seed(2)
    source.load_state(
        {key: torch.rand(source.state()[key].shape, generator=generator) + 0.5 for key in keys}
    )
    adapted = source.forward(images)
    assert adapted is not None
    assert not np.allclose(adapted, expected, rtol=1e-3)
    source.save(out)
    assert path.read_bytes() == original
    onnx.checker.check_model(out)
    scale = float(adapted.abs().max())
    np.testing.assert_allclose(plain_outputs(out, images), adapted, rtol=1e-5, atol=1e-5 * scale)
    again = opened(out)
    assert [site.name for site in again.sites] == [site.name for site in source.sites]
    if case != "folded":
        assert fingerprint(again) == before
        for key in keys:
            assert torch.equal(again.state()[key], source.state()[key])


def test_a_forward_waits_at_every_site_with_what_the_node_reads(
    images: Tensor, tmp_path: Path
) -> None:
    onnx.save(model(NODES, PARAMETERS), tmp_path / "model.onnx")
    signals = list(opened(tmp_path / "model.onnx").suspended(images))
    assert [signal.site.name for signal in signals] == ["bn1", "bn2"]
    weight = torch.from_numpy(PARAMETERS["c1.weight"])
    wanted = torch.nn.functional.conv2d(images, weight, padding=1)
    torch.testing.assert_close(signals[0].activation, wanted, rtol=1e-5, atol=1e-5)


def test_sessions_are_made_once(
    images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx.save(model(NODES, PARAMETERS), tmp_path / "model.onnx")
    found, made = opened(tmp_path / "model.onnx"), []
    session = onnxruntime.InferenceSession

    def counted(*args: object, **kwargs: object) -> object:
        made.append(1)
        return session(*args, **kwargs)

    monkeypatch.setattr(onnxruntime, "InferenceSession", counted)
    for batch in images.split(2):
        found.forward(batch)
        found.load_state({"bn1.running_mean": torch.rand(C)})
    assert len(made) == 3


def test_a_normalizer_in_a_branch_is_left_alone_with_the_reason(tmp_path: Path) -> None:
    onnx.save(with_branches(), tmp_path / "model.onnx")
    found = opened(tmp_path / "model.onnx")
    assert [(layer.name, layer.reason[:21]) for layer in found.fixed] == [
        ("/bn3/e", "is in a branch or a l")
    ]


def test_a_graph_in_training_mode_has_no_site(tmp_path: Path) -> None:
    nodes = [CONV1, batch_norm("a", "y", "bn1")]
    nodes[1].attribute.append(helper.make_attribute("training_mode", 1))
    onnx.save(model(nodes, PARAMETERS), tmp_path / "model.onnx")
    found = opened(tmp_path / "model.onnx")
    assert not found.sites
    assert "training mode" in found.fixed[0].reason


def test_a_layer_without_a_bias_is_no_site_of_a_folded_graph(tmp_path: Path) -> None:
    proto = folded()
    proto.graph.node[-1].CopyFrom(helper.make_node("MatMul", ["h", "k.weight"], ["y"]))
    onnx.save(proto, tmp_path / "model.onnx")
    found = opened(tmp_path / "model.onnx")
    assert [site.name for site in found.sites] == ["c1", "t", "g"]
    assert [(layer.name, layer.kind) for layer in found.fixed[1:]] == [("k", "MatMul")]


def test_an_output_is_chosen_by_name_or_number(images: Tensor, tmp_path: Path) -> None:
    proto = model(NODES, PARAMETERS)
    proto.graph.output.append(of_floats("r", [None] * 4))
    onnx.save(proto, tmp_path / "model.onnx")
    relu = opened(tmp_path / "model.onnx", "r").forward(images)
    assert relu is not None
    assert bool((relu >= 0).all())
    numbered = opened(tmp_path / "model.onnx", "1").forward(images)
    assert numbered is not None
    assert torch.equal(numbered, relu)
    with pytest.raises(UsageError, match="It has: y, r"):
        opened(tmp_path / "model.onnx", "z")


def test_channels_last_pictures_are_turned(images: Tensor, tmp_path: Path) -> None:
    turn = helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2])
    proto = model([turn, conv("t", "a", "c1.weight"), *NODES[1:]], PARAMETERS)
    proto.graph.input[0].CopyFrom(of_floats("x", ["n", 8, 8, 3]))
    onnx.save(proto, tmp_path / "last.onnx")
    onnx.save(model(NODES, PARAMETERS), tmp_path / "first.onnx")
    last, first = (opened(tmp_path / f"{name}.onnx").forward(images) for name in ("last", "first"))
    assert last is not None
    assert first is not None
    assert torch.equal(last, first)


def test_pictures_of_another_size_are_told_the_right_one(tmp_path: Path) -> None:
    onnx.save(model(NODES, PARAMETERS), tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="--img-size 8,8"):
        opened(tmp_path / "model.onnx").forward(torch.zeros(1, 3, 9, 8))


def external(folder: Path, name: str = "weights.bin") -> Path:
    """A model with its tensors in a data file."""
    onnx.save_model(
        model(NODES, PARAMETERS),
        folder / "model.onnx",
        save_as_external_data=True,
        location=name,
        size_threshold=0,
    )
    return folder / "model.onnx"


def test_a_data_file_is_copied_beside_the_output(images: Tensor, tmp_path: Path) -> None:
    path, out = external(tmp_path), tmp_path / "out" / "adapted.onnx"
    out.parent.mkdir()
    found, original = opened(path), (tmp_path / "weights.bin").read_bytes()
    found.load_state({"bn1.running_mean": torch.ones(C)})
    found.save(out)
    assert {file.name for file in out.parent.iterdir()} == {"adapted.onnx", "weights.bin"}
    assert out.read_bytes() == path.read_bytes()
    assert (tmp_path / "weights.bin").read_bytes() == original
    adapted = found.forward(images)
    assert adapted is not None
    np.testing.assert_allclose(plain_outputs(out, images), adapted, rtol=1e-4, atol=1e-4)


def test_beside_the_input_the_data_file_gets_another_name(images: Tensor, tmp_path: Path) -> None:
    path, out = external(tmp_path), tmp_path / "adapted.onnx"
    found, original = opened(path), (tmp_path / "weights.bin").read_bytes()
    found.load_state({"bn1.running_mean": torch.ones(C)})
    found.save(out)
    assert (tmp_path / "weights.bin").read_bytes() == original
    onnx.checker.check_model(out)
    adapted = found.forward(images)
    assert adapted is not None
    np.testing.assert_allclose(plain_outputs(out, images), adapted, rtol=1e-4, atol=1e-4)
    with pytest.raises(ModelError, match="overwrite the data file"):
        opened(external(tmp_path, "b.onnx.data")).save(tmp_path / "b.onnx")


@pytest.mark.parametrize("case", ["opset 13", "shared by name"])
def test_a_missing_folder_for_the_output_is_an_error_of_its_own(case: str, tmp_path: Path) -> None:
    onnx.save(CASES[case](), tmp_path / "model.onnx")
    found = opened(tmp_path / "model.onnx")
    found.load_state({key: found.state()[key] + 1 for key in found.sites[0].keys.values()})
    with pytest.raises(InputError, match="cannot be written"):
        found.save(tmp_path / "missing" / "out.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def without_data(folder: Path) -> Path:
    path = external(folder)
    (folder / "weights.bin").unlink()
    return path


def outside(folder: Path) -> Path:
    path = external(folder)
    path.write_bytes(path.read_bytes().replace(b"weights.bin", b"../../a.bin"))
    return path


def saved(folder: Path, proto: ModelProto) -> Path:
    onnx.save(proto, folder / "model.onnx")
    return folder / "model.onnx"


def written(folder: Path, content: bytes) -> Path:
    (folder / "model.onnx").write_bytes(content)
    return folder / "model.onnx"


def quantized() -> ModelProto:
    quantize = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"])
    dequantize = helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"])
    scale: Arrays = {
        "s": np.array(0.1, np.float32),
        "z": np.array(0, np.uint8),
        **WEIGHTS,
        "b1": values(C),
    }
    return model([quantize, dequantize, conv("d", "y", "c1.weight", "b1")], scale)


def of_two_inputs() -> ModelProto:
    proto = model(NODES, PARAMETERS)
    proto.graph.input.append(of_floats("mask", ["n", 1]))
    return proto


def of_bytes() -> ModelProto:
    proto = model(NODES, PARAMETERS)
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    return proto


def with_unused_input() -> ModelProto:
    """A second output that scales boxes by an input of their own, as detectors have it."""
    proto = of_two_inputs()
    proto.graph.node.append(helper.make_node("Mul", ["y", "mask"], ["boxes"]))
    proto.graph.output.append(of_floats("boxes", [None] * 4))
    return proto


def test_the_picture_is_named_where_there_are_several_inputs(
    images: Tensor, tmp_path: Path
) -> None:
    onnx.save(with_unused_input(), tmp_path / "model.onnx")
    onnx.save(model(NODES, PARAMETERS), tmp_path / "plain.onnx")
    path = tmp_path / "model.onnx"
    found = open_model(ModelRequest(path, input_name="x")).model.forward(images)
    wanted = opened(tmp_path / "plain.onnx").forward(images)
    assert torch.equal(found, wanted)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"mask has to be given too[\s\S]*x \(FLOAT \[n, 3, 8, 8"):
        open_model(ModelRequest(path, input_name="x", output="boxes"))
    with pytest.raises(UsageError, match=r"It has: x \(FLOAT \[n, 3, 8, 8\]\), mask \(FLOAT"):
        open_model(ModelRequest(path, input_name="image"))
    with pytest.raises(ModelError, match="not a batch of pictures: 2 dimensions of FLOAT"):
        open_model(ModelRequest(path, input_name="mask"))


def test_an_input_with_a_default_keeps_it(images: Tensor, tmp_path: Path) -> None:
    proto = with_unused_input()
    one = np.full((1, 1), 2, np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(one, "mask"))
    onnx.save(proto, tmp_path / "model.onnx")
    plain = opened(tmp_path / "model.onnx").forward(images)
    for name in (None, "x"):
        request = ModelRequest(tmp_path / "model.onnx", output="boxes", input_name=name)
        torch.testing.assert_close(open_model(request).model.forward(images), 2 * plain)  # type: ignore[operator]


def test_a_picture_that_has_a_default_is_given_all_the_same(images: Tensor, tmp_path: Path) -> None:
    proto = model(NODES, PARAMETERS)
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 3, 8, 8), np.float32), "x"))
    onnx.save(proto, tmp_path / "model.onnx")
    onnx.save(model(NODES, PARAMETERS), tmp_path / "plain.onnx")
    found = open_model(ModelRequest(tmp_path / "model.onnx", input_name="x")).model
    wanted = opened(tmp_path / "plain.onnx").forward(images)
    assert torch.equal(found.forward(images), wanted)  # type: ignore[arg-type]


def test_the_input_is_named_on_the_command_line(
    sample_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path, with_unused_input())
    pictures = ["--img-size", "8", "--mean", ".5,.5,.5", "--std", ".5,.5,.5", "--max-images", "4"]
    target = ["--target", str(sample_data / "target"), "-o", str(tmp_path / "run"), "-q"]
    assert run(["adapt", str(path), *target, *pictures]) == 3
    assert "--input NAME" in capsys.readouterr().err
    assert run(["adapt", str(path), *target, *pictures, "--input", "x"]) == 0
    assert run(["inspect", str(path), "--input", "x"]) == 0
    pack, out = str(tmp_path / "run" / "pack.safetensors"), tmp_path / "out.onnx"
    assert run(["apply", str(path), pack, "--input", "x", "-q", "-o", str(out)]) == 0
    assert out.read_bytes() == (tmp_path / "run" / "model.onnx").read_bytes()
    digits = str(sample_data / "digits_bn.pt")
    assert run(["adapt", digits, *target, "--input", "x"]) == 2


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "empty": (lambda f: written(f, b""), "is empty"),
    "truncated": (
        lambda f: written(f, model(NODES, PARAMETERS).SerializeToString()[:-40]),
        "damaged or cut off",
    ),
    "header only": (lambda f: written(f, b"\x08\x08\x12\x01x"), "holds no graph"),
    "no normalizer": (
        lambda f: saved(f, model([conv("x", "y", "c1.weight")], WEIGHTS)),
        "nothing to adapt",
    ),
    "folded": (lambda f: saved(f, folded()), "do_constant_folding=False"),
    "quantized": (lambda f: saved(f, quantized()), "before it is quantized"),
    "data file missing": (without_data, "Copy weights.bin next to the model"),
    "data file outside": (outside, "outside its folder"),
    "several inputs": (lambda f: saved(f, of_two_inputs()), "--input NAME"),
    "bytes for pictures": (lambda f: saved(f, of_bytes()), "[N, C, H, W]"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_adapted_is_refused_with_a_next_step(
    case: str, tmp_path: Path, sample_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, words = REFUSED[case]
    path = make(tmp_path)
    pictures = ["--img-size", "8", "--mean", "0.5", "--std", "0.5", "--max-images", "4"]
    target = ["--target", str(sample_data / "target"), "-o", str(tmp_path / "run")]
    assert run(["adapt", str(path), *target, *pictures]) == 3
    error = " ".join(capsys.readouterr().err.split())
    assert words in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("library", ["onnx", "onnxruntime"])
def test_without_its_libraries_the_extra_to_install_is_named(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path, model(NODES, PARAMETERS))
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ModelError, match=r"pip install \"adabn\[onnx\]\""):
        open_model(ModelRequest(path))
