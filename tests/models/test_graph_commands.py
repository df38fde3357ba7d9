"""The commands on TorchScript and .pt2 files: as on the checkpoint that they were made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from graph_contract import changed_members, pictures, silence
from safetensors.torch import load_file

from adabn_cli.cli.boundary import run
from adabn_cli.models.open import ModelRequest, open_model
from adabn_cli.record import Record

SOME = ["--max-images", "100"]


@pytest.fixture(scope="module")
def digits(sample_data: Path) -> Path:
    """The sample net as it was trained."""
    return sample_data / "digits_bn.pt"


@pytest.fixture(scope="module")
def live(digits: Path, sample_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that adapts the checkpoint itself."""
    folder = tmp_path_factory.mktemp("live") / "run"
    adapt(digits, sample_data, folder)
    return folder


@pytest.fixture(scope="module", params=["torchscript", "exported-program"])
def graph(
    request: pytest.FixtureRequest, digits: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The net as a graph, which says of itself what the checkpoint says."""
    model = open_model(ModelRequest(digits)).model
    known = model.preprocessing
    assert known is not None
    about = {
        "preprocessing": {"size": known.size, "mean": known.mean, "std": known.std},
        "classes": list(model.classes or ()),
    }
    extra = {"adabn.json": json.dumps(about)}
    module: Any = model.module.eval()  # type: ignore[attr-defined]
    images = pictures(2, known.size[0], known.channels)
    folder = tmp_path_factory.mktemp("graph")
    with silence():
        if request.param == "torchscript":
            path = folder / "digits.pt"
            torch.jit.trace(module, images).save(str(path), _extra_files=extra)
        else:
            path = folder / "digits.pt2"
            dynamic = ({0: torch.export.Dim.DYNAMIC},)
            program = torch.export.export(module, (images,), dynamic_shapes=dynamic)
            torch.export.save(program, path, extra_files=extra)
    return path


def adapt(model: Path, sample_data: Path, folder: Path, *more: str) -> Record:
    target = ["--target", str(sample_data / "target"), *SOME]
    assert run(["adapt", str(model), *target, "-q", "-o", str(folder), *more]) == 0
    return Record.model_validate_json((folder / "run.json").read_text())


def test_a_graph_adapts_as_its_checkpoint_does(
    live: Path, graph: Path, sample_data: Path, tmp_path: Path
) -> None:
    expected = Record.model_validate_json((live / "run.json").read_text())
    found = adapt(graph, sample_data, tmp_path / "run", "--verify")
    assert found.model.format in ("torchscript", "exported-program")
    assert found.after.accuracy == expected.after.accuracy
    assert found.before.accuracy == expected.before.accuracy
    assert found.residual is not None
    assert max(found.residual.max_mean, found.residual.max_log_variance) < 1e-6
    assert found.model.weights == expected.model.weights
    packs = [load_file(folder / "pack.safetensors") for folder in (live, tmp_path / "run")]
    assert packs[0].keys() == packs[1].keys()
    assert all(torch.equal(value, packs[1][key]) for key, value in packs[0].items())
    assert changed_members(graph, tmp_path / "run" / f"model{graph.suffix}")


def test_a_pack_of_the_checkpoint_goes_into_the_graph_and_out_again(
    live: Path, graph: Path, tmp_path: Path
) -> None:
    pack, out, back = str(live / "pack.safetensors"), tmp_path / "out", tmp_path / "back"
    assert run(["apply", str(graph), pack, "-q", "-o", str(out)]) == 0
    adapted = open_model(ModelRequest(live / "model.pt")).model
    known = adapted.preprocessing
    assert known is not None
    images = pictures(8, known.size[0], known.channels)
    found = open_model(ModelRequest(out)).model.forward(images)
    assert torch.equal(found, adapted.forward(images))  # type: ignore[arg-type]
    assert run(["apply", str(out), pack, "--revert", "-q", "-o", str(back)]) == 0
    assert back.read_bytes() == graph.read_bytes()


def test_a_graph_is_inspected_and_evaluated(
    live: Path, graph: Path, sample_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run(["inspect", str(graph), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["format"] in ("torchscript", "exported-program")
    assert len(shown["sites"]) > 2
    assert shown["classes_source"] == "classes"
    assert shown["input_channels"] == 1
    pack = ["--pack", str(live / "pack.safetensors")]
    data = ["--data", str(sample_data / "target"), *SOME]
    assert run(["evaluate", str(graph), *data, *pack, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["scores"]["accuracy"]
    expected = Record.model_validate_json((live / "run.json").read_text())
    assert found == expected.after.accuracy


def test_a_graph_takes_no_architecture_and_one_set_of_weights(
    graph: Path, sample_data: Path
) -> None:
    target = ["--target", str(sample_data / "target"), "-q"]
    assert run(["adapt", str(graph), *target, "--arch", "resnet18"]) == 2
    assert run(["adapt", str(graph), *target, "--weights", "ema"]) == 2
