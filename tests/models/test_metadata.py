from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from adabn_cli.models.metadata import read_metadata
from adabn_cli.models.open_checkpoint import open_checkpoint

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.2, 0.1)


def test_adabns_own_keys_are_read() -> None:
    found = read_metadata(
        {
            "arch": "torchvision:resnet18",
            "classes": ["cat", "dog"],
            "preprocessing": {
                "size": [192, 224],
                "mean": list(MEAN),
                "std": list(STD),
                "crop_pct": 0.9,
                "interpolation": "bicubic",
            },
        }
    )
    assert found.architecture == "torchvision:resnet18"
    assert (found.classes, found.classes_source) == (("cat", "dog"), "classes")
    p = found.preprocessing
    assert p is not None
    assert (p.size, p.mean, p.std) == ((192, 224), MEAN, STD)
    assert (p.crop_pct, p.interpolation) == (0.9, "bicubic")
    assert p.source == "checkpoint: preprocessing"
    assert found.notes == ()


def test_timm_training_files_are_read() -> None:
    arguments = Namespace(
        model="resnet26d", input_size=(3, 160, 160), img_size=None, mean=MEAN, std=STD,
        crop_pct=0.875, interpolation="", num_classes=7,
    )  # fmt: skip
    found = read_metadata({"arch": "resnet26d", "args": arguments, "version": 2})
    assert found.architecture == "timm:resnet26d"
    assert found.preprocessing is not None
    assert found.preprocessing.size == (160, 160)
    assert found.preprocessing.crop_pct == 0.875
    assert found.notes == ()


def test_timm_arguments_left_at_their_defaults_say_nothing() -> None:
    arguments = Namespace(
        model="resnet26d", img_size=None, mean=None, std=None, crop_pct=None, interpolation=""
    )
    found = read_metadata({"arch": "resnet26d", "args": arguments})
    assert (found.preprocessing, found.notes) == (None, ())


def test_torchvision_training_files_are_read() -> None:
    arguments = Namespace(
        model="resnet50", val_crop_size=224, val_resize_size=232, interpolation="bilinear"
    )
    found = read_metadata({"model": {}, "args": arguments})
    assert (found.architecture, found.architecture_source) == ("torchvision:resnet50", "args.model")
    assert found.preprocessing is not None
    assert found.preprocessing.crop_pct == 224 / 232


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("class_names", ["a", "b", "c"]),
        ("categories", ("a", "b", "c")),
        ("class_to_idx", {"b": 1, "a": 0, "c": 2}),
        ("label2id", {"b": "1", "a": "0", "c": "2"}),
        ("idx_to_class", {2: "c", 0: "a", 1: "b"}),
        ("id2label", {"2": "c", "0": "a", "1": "b"}),
        ("names", {0: "a", 1: "b", 2: "c"}),
        ("class_to_idx", json.dumps({"b": 1, "a": 0, "c": 2})),
    ],
)
def test_classes_are_read_in_the_order_of_the_outputs(key: str, value: Any) -> None:
    found = read_metadata({key: value})
    assert found.classes == ("a", "b", "c")
    assert found.classes_source == key
    assert read_metadata({"config": {key: value}}).classes_source == f"config.{key}"


def test_class_names_may_be_numbers() -> None:
    assert read_metadata({"class_to_idx": {"10": 1, "2": 0}}).classes == ("2", "10")
    assert read_metadata({"classes": [0, 1, 2]}).classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("saved", "named"),
    [
        ({"classes": 10}, "classes"),
        ({"classes": ["a", "a"]}, "classes"),
        ({"classes": "cat"}, "classes"),
        ({"class_to_idx": {"a": 0, "b": 2}}, "class_to_idx"),
        ({"class_to_idx": {"a": None}}, "class_to_idx"),
        ({"arch": 18}, "arch"),
        ({"preprocessing": 224}, "preprocessing"),
        ({"preprocessing": {"size": 224}}, "preprocessing"),
        ({"preprocessing": {"size": 224, "mean": MEAN}}, "preprocessing"),
        ({"preprocessing": {"size": -1, "mean": MEAN, "std": STD}}, "preprocessing.size"),
        ({"preprocessing": {"size": 8, "mean": [1, 2], "std": STD}}, "preprocessing.mean"),
        ({"preprocessing": {"size": 8, "mean": MEAN, "std": [0, 1, 1]}}, "preprocessing.std"),
    ],
)
def test_metadata_of_the_wrong_shape_is_named_and_not_fatal(
    saved: dict[str, Any], named: str
) -> None:
    found = read_metadata(saved)
    assert (found.architecture, found.preprocessing, found.classes) == (None, None, None)
    assert any(named in note for note in found.notes)


def test_one_wrong_field_does_not_cost_the_others() -> None:
    fields = {"size": 8, "mean": 0.5, "std": 0.25, "interpolation": "lanczos", "crop_pct": 7}
    found = read_metadata({"preprocessing": fields})
    assert found.preprocessing is not None
    assert found.preprocessing.channels == 1
    assert found.preprocessing.interpolation == "bilinear"
    assert [note.split()[0] for note in found.notes] == [
        "preprocessing.crop_pct",
        "preprocessing.interpolation",
    ]


def test_a_safetensors_header_is_read(tmp_path: Path) -> None:
    header = {
        "arch": "timm:resnet10t",
        "classes": json.dumps(["a", "b"]),
        "preprocessing": json.dumps({"size": 32, "mean": MEAN, "std": STD}),
        "format": "pt",
    }
    safetensors.torch.save_file({"w": torch.ones(2)}, tmp_path / "a.safetensors", metadata=header)
    found = open_checkpoint(tmp_path / "a.safetensors").metadata
    assert found.architecture == "timm:resnet10t"
    assert found.classes == ("a", "b")
    assert found.preprocessing is not None
    assert found.preprocessing.size == (32, 32)


def test_a_pickled_file_brings_its_metadata(tmp_path: Path) -> None:
    torch.save({"model": {"w": torch.ones(2)}, "classes": ["a", "b"]}, tmp_path / "a.pth")
    assert open_checkpoint(tmp_path / "a.pth").metadata.classes == ("a", "b")
