"""The commands on ONNX files: inspect, adapt, apply, evaluate and profile."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from adabn_cli.cli.boundary import run
from adabn_cli.data.open import open_target
from adabn_cli.data.target import TargetRequest
from adabn_cli.models.open import ModelRequest, open_model
from adabn_cli.record import Record

SOME = ["--max-images", "400"]
FACES = ["--img-size", "240,320", "--mean", ".498,.498,.498", "--std", ".502,.502,.502"]


def export(model: Path, path: Path, *, fold: bool = False) -> Path:
    """The export of a checkpoint, which says of itself what the checkpoint says."""
    opened = open_model(ModelRequest(model)).model
    assert opened.preprocessing is not None
    module: Any = opened.module  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of the exporter and of what it calls.
        torch.onnx.export(
            folded(module) if fold else module,
            (torch.zeros(1, 1, *opened.preprocessing.size),),
            str(path),
            dynamo=False,
            dynamic_axes={"x": {0: "n"}},
            input_names=["x"],
            do_constant_folding=False,
        )
    proto = onnx.load(path)
    size, mean = opened.preprocessing.size, opened.preprocessing.mean
    preprocessing = {"size": size, "mean": mean, "std": opened.preprocessing.std}
    about = {"preprocessing": preprocessing, "classes": list(opened.classes or ())}
    onnx.helper.set_model_props(proto, {key: json.dumps(value) for key, value in about.items()})
    onnx.save(proto, path)
    return path


def folded(module: nn.Sequential) -> nn.Sequential:
    """The net with every normalizer folded into the layer before it."""
    layers = list(module.eval())
    for place, layer in enumerate(layers[1:], 1):
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            before: Any = layers[place - 1]
            fuse = fuse_conv_bn_eval if isinstance(before, nn.Conv2d) else fuse_linear_bn_eval
            layers[place - 1], layers[place] = fuse(before, layer), nn.Identity()
    return nn.Sequential(*layers)


@pytest.fixture(scope="module")
def digits(sample_data: Path) -> Path:
    """The sample net as it was trained."""
    return sample_data / "digits_bn.pt"


@pytest.fixture(scope="module")
def graph(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its export, with the normalizers kept."""
    path = tmp_path_factory.mktemp("export") / "digits.onnx"
    return export(digits, path)


@pytest.fixture(scope="module")
def live(digits: Path, sample_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that adapts the checkpoint itself."""
    folder = tmp_path_factory.mktemp("live") / "run"
    adapt(folder, digits, "--target", sample_data / "target", *SOME)
    return folder


def adapt(folder: Path, *arguments: str | Path) -> Record:
    """Runs `adabn adapt`; the record of its run."""
    assert run(["adapt", *map(str, arguments), "-q", "-o", str(folder)]) == 0
    return record_of(folder)


def classes_of(path: Path, data: Path, digits: Path) -> NDArray[np.int64]:
    """The class that onnxruntime finds in every picture."""
    preprocessing = open_model(ModelRequest(digits)).model.preprocessing
    assert preprocessing is not None
    session = onnxruntime.InferenceSession(str(path))
    target = open_target(TargetRequest(data, preprocessing), lambda done, total: None)
    outputs = [session.run(None, {"x": batch.numpy()})[0] for batch in target.batches()]
    return np.asarray(np.concatenate(outputs).argmax(1))


def record_of(run_folder: Path) -> Record:
    return Record.model_validate_json((run_folder / "run.json").read_text())


def test_a_graph_adapts_as_its_checkpoint_does(
    live: Path, graph: Path, sample_data: Path, tmp_path: Path
) -> None:
    expected = record_of(live)
    target = ["--target", sample_data / "target", *SOME]
    found = adapt(tmp_path / "run", graph, *target, "--verify")
    assert found.model.format == "onnx"
    assert found.before.accuracy == expected.before.accuracy
    assert found.after.accuracy == pytest.approx(expected.after.accuracy, abs=1e-3)
    assert found.residual is not None
    assert max(found.residual.max_mean, found.residual.max_log_variance) < 1e-4
    packs = [load_file(folder / "pack.safetensors") for folder in (live, tmp_path / "run")]
    assert packs[0].keys() == packs[1].keys()
    for key, value in packs[0].items():
        torch.testing.assert_close(packs[1][key], value, rtol=1e-4, atol=1e-5)
    onnx.checker.check_model(tmp_path / "run" / "model.onnx")


def test_a_pack_of_the_checkpoint_goes_into_the_graph_and_out_again(
    digits: Path, live: Path, graph: Path, sample_data: Path, tmp_path: Path
) -> None:
    data, out, back = sample_data / "target", tmp_path / "adapted.onnx", tmp_path / "back.onnx"
    pack = str(live / "pack.safetensors")
    assert run(["apply", str(graph), pack, "-q", "-o", str(out)]) == 0
    onnx.checker.check_model(out)
    adapted = open_model(ModelRequest(live / "model.pt")).model
    assert adapted.preprocessing is not None
    target = open_target(TargetRequest(data, adapted.preprocessing), lambda done, total: None)
    expected = torch.cat([adapted.forward(x).argmax(1) for x in target.batches()])  # type: ignore[union-attr]
    assert (classes_of(out, data, digits) == expected.numpy()).mean() >= 0.999
    assert (classes_of(graph, data, digits) != expected.numpy()).any()
    assert run(["apply", str(out), pack, "--revert", "-q", "-o", str(back)]) == 0
    assert back.read_bytes() == graph.read_bytes()


def test_a_graph_is_evaluated_with_a_pack(
    live: Path, graph: Path, sample_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack = ["--pack", str(live / "pack.safetensors")]
    capsys.readouterr()
    arguments = [str(graph), "--data", str(sample_data / "target"), *SOME, *pack, "--json"]
    assert run(["evaluate", *arguments]) == 0
    found = json.loads(capsys.readouterr().out)["scores"]["accuracy"]
    assert found == pytest.approx(record_of(live).after.accuracy, abs=1e-3)


def test_a_folded_graph_is_matched_to_a_profile(
    digits: Path, sample_data: Path, tmp_path: Path
) -> None:
    graph = export(digits, tmp_path / "folded.onnx", fold=True)
    target = ["--target", str(sample_data / "target"), *SOME]
    assert run(["adapt", str(graph), *target, "-o", str(tmp_path / "no")]) == 3
    source = ["--source", str(sample_data / "source"), "-o", str(tmp_path / "folded.profile")]
    assert run(["profile", str(graph), *source, "-q"]) == 0
    record = adapt(tmp_path / "run", graph, *target)
    assert record.model.fixed_layers[0].name == "BatchNormalization"
    assert record.before.accuracy is not None
    assert record.after.accuracy is not None
    assert record.after.accuracy > record.before.accuracy + 0.02
    out = tmp_path / "run" / "model.onnx"
    onnx.checker.check_model(out)
    assert all(name.endswith((".weight", ".bias")) for name in changed(graph, out))
    pack, back = str(tmp_path / "run" / "pack.safetensors"), tmp_path / "back.onnx"
    assert run(["apply", str(out), pack, "--revert", "-q", "-o", str(back)]) == 0
    assert back.read_bytes() == graph.read_bytes()


def changed(before: Path, after: Path) -> set[str]:
    values = [
        {x.name: numpy_helper.to_array(x).tobytes() for x in onnx.load(path).graph.initializer}
        for path in (before, after)
    ]
    return {name for name in values[0] if values[0][name] != values[1][name]}


@pytest.fixture(scope="module")
def faces(shared_data: Path) -> Path:
    """A third party's face detector, exported for one picture of 240 x 320 px."""
    return shared_data / "checkpoints" / "version-slim-320.onnx"


def test_every_node_of_a_face_detector_is_rewritten(
    faces: Path, sample_data: Path, tmp_path: Path
) -> None:
    target = ["--target", sample_data / "target", "--max-images", "8", "--labels", "none"]
    record = adapt(tmp_path / "run", faces, *target, *FACES, "--verify")
    assert len([site for site in record.sites if site.adapted]) == 25
    assert record.residual is not None
    assert max(record.residual.max_mean, record.residual.max_log_variance) < 1e-4
    out = tmp_path / "run" / "model.onnx"
    onnx.checker.check_model(out)
    endings = (".running_mean", ".running_var")
    assert len(changed(faces, out)) == 50
    assert all(name.endswith(endings) for name in changed(faces, out))
    scores, boxes = runs(out)
    assert scores.shape == (1, 4420, 2)
    assert np.isfinite(boxes).all()


def test_a_simplified_face_detector_is_told_to_be_folded_and_adapts_with_a_profile(
    faces: Path, sample_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folded = faces.with_name("version-slim-320_simplified.onnx")
    few = ["--max-images", "8", "--labels", "none", *FACES]
    target = ["--target", str(sample_data / "target")]
    assert run(["adapt", str(folded), *target, *few, "-o", str(tmp_path / "no")]) == 3
    error = " ".join(capsys.readouterr().err.split())
    assert "exporters fold it into the layers" in error
    assert "adabn profile" in error
    known = str(tmp_path / "faces.profile")
    source = ["--source", str(sample_data / "source"), "-o", known]
    assert run(["profile", str(folded), *source, *few, "-q"]) == 0
    record = adapt(tmp_path / "run", folded, *target, *few, "--profile", known, "--verify")
    assert len([site for site in record.sites if site.adapted]) == 41
    onnx.checker.check_model(tmp_path / "run" / "model.onnx")
    assert np.isfinite(runs(tmp_path / "run" / "model.onnx")[0]).all()


def runs(path: Path) -> list[NDArray[np.float32]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options)
    return list(session.run(None, {"input": np.zeros((1, 3, 240, 320), np.float32)}))


def test_options_that_belong_to_other_files_are_refused(graph: Path, tmp_path: Path) -> None:
    for option in (["--arch", "torchvision:resnet18"], ["--weights", "ema"]):
        assert run(["adapt", str(graph), "--target", str(tmp_path), *option]) == 2
