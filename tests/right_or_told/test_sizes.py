"""A size that a graph fixes is not asked for, and what is borrowed is told while it is used."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import nn

from adabn_cli.jobs.preprocessing import (
    PreprocessingOptions,
    borrowed_note,
    resolve_preprocessing,
)
from adabn_cli.models.open import ModelRequest, open_model

_VALUES = ("--mean", "0.5", "--std", "0.25")


def graph(path: Path, size: tuple[object, object] = (12, 16), channels: int = 3) -> Path:
    """A BatchNorm, a mean over all pixels and a layer of two classes, as an ONNX graph."""
    generator = np.random.default_rng(0)
    vector = {name: generator.uniform(0.5, 1, channels) for name in ("s", "b", "m", "v")}
    tensors = {**vector, "w": generator.normal(size=(2, channels))}
    nodes = [
        helper.make_node("BatchNormalization", ["x", "s", "b", "m", "v"], ["n"]),
        helper.make_node("GlobalAveragePool", ["n"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["y"], transB=1),
    ]
    made = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", channels, *size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(value.astype(np.float32), k) for k, value in tensors.items()],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(made, opset_imports=opsets, ir_version=8), path)
    return path


def program(path: Path) -> Path:
    """The same as .pt2, exported for pictures of 12 x 16 pixels."""
    net = nn.Sequential(
        nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)
    ).eval()
    net[0].running_mean.fill_(0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.export.export(
            net,
            (torch.zeros(2, 3, 12, 16),),
            dynamic_shapes=({0: torch.export.Dim("n", min=1, max=64)},),
        )
        torch.export.save(made, path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for n in range(4):
        pixels = generator.integers(0, 255, (20, 24, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{n}.png")
    return folder


@pytest.mark.parametrize("make", [graph, program])
def test_a_graph_of_one_size_needs_no_img_size(tmp_path, command, photos, make):
    model = make(tmp_path / ("net.onnx" if make is graph else "net.pt2"))
    asked = ("adapt", model, "-t", photos, "-o", "run")
    assert command(*asked, *_VALUES).code == 0
    input_ = json.loads(Path("run/run.json").read_text())["model"]["preprocessing"]
    assert input_["size"] == [12, 16]
    assert input_["source"] == "options; size: the graph"
    unknown = command(*asked, "--force")
    assert unknown.code == 2
    assert "Unknown: mean, std\n" in unknown.err
    assert "--img-size" not in unknown.err
    contradicted = command(*asked, "--force", *_VALUES, "--img-size", "16")
    assert contradicted.code == 2
    assert "--img-size 16,16 is not what the graph takes" in contradicted.err
    assert "12 x 16 pixels" in contradicted.err
    assert command(*asked, "--force", *_VALUES, "--img-size", "12,16").code == 0
    assert "12x16 px; the rest unknown: give --mean --std" in command("inspect", model).out
    assert json.loads(command("inspect", model, "--json").out)["input_size"] == [12, 16]


def test_a_side_that_is_free_is_asked_for(tmp_path, command, photos):
    model = graph(tmp_path / "net.onnx", size=(12, "w"))
    asked = ("evaluate", model, "-d", photos, "--labels", "none", *_VALUES)
    assert "Unknown: size" in command(*asked).err
    assert "any pixels" in command(*asked, "--img-size", "16").err
    assert "Give --img-size 12,16." in command(*asked, "--img-size", "16").err
    assert command(*asked, "--img-size", "12,20").code == 4  # No labels, as asked for.


def test_a_graph_of_gray_pictures_takes_no_three_means(tmp_path, command, photos):
    model = graph(tmp_path / "net.onnx", channels=1)
    asked = ("adapt", model, "-t", photos, "-o", "run")
    assert command(*asked, *_VALUES).code == 0
    refused = command(*asked, "--force", "--mean", "0,0,0", "--std", "1,1,1")
    assert refused.code == 2
    assert "The model takes 1 channel; mean and std are given for 3." in refused.err


@pytest.fixture(scope="module")
def fine_tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("tuned") / "net.pth"
    torch.save(torchvision.models.resnet18(num_classes=3).state_dict(), path)
    return path


_ALL = {"size": (32, 32), "mean": (0.5,) * 3, "std": (0.2,) * 3}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((), "size, mean and std are from the published weights"),
        (("size",), "mean and std are from"),
        (("size", "std"), "The mean is from"),
        (("size", "mean", "std"), None),
    ],
)
def test_what_is_borrowed_is_named_while_it_is_used(fine_tuned, given, told):
    model = open_model(ModelRequest(fine_tuned)).model
    options = PreprocessingOptions(**{name: _ALL[name] for name in given})
    found = resolve_preprocessing(model, options)
    assert set(found.borrowed) == _ALL.keys() - set(given)
    note = borrowed_note(found)
    assert [told in text for text in note] == ([True] if told else [])
    names = {"size": "--img-size", "mean": "--mean", "std": "--std"}
    assert all((names[name] in note[0]) == (name not in given) for name in _ALL if note)


def test_no_run_mentions_the_published_weights_where_every_value_was_given(
    fine_tuned, command, photos
):
    asked = ["evaluate", fine_tuned, "-d", photos.parent, "--img-size", 32, "--labels", "x.csv"]
    Path("x.csv").write_text("path,label\n" + "".join(f"photos/{n}.png,0\n" for n in range(4)))
    some = command(*asked)
    assert "published weights" in some.out + some.err
    every = command(*asked, "--mean", "0.5,0.5,0.5", "--std", "0.2,0.2,0.2")
    assert every.code == some.code == 0
    assert "published weights" not in every.out + every.err


def test_what_is_borrowed_stays_so_in_a_converted_file(fine_tuned, command):
    assert command("convert", fine_tuned, "-o", "net.safetensors", "--img-size", 32, "-q").code == 0
    found = open_model(ModelRequest(Path("net.safetensors"))).model.preprocessing
    assert (found.size, found.borrowed) == ((32, 32), ("mean", "std"))


def test_a_number_of_pixels_is_finite(command):
    done = command("evaluate", "m.pt", "--data", ".", "--max-pixels", "9" * 400)
    assert (done.code, "is not a number of pixels" in done.err) == (2, True)
