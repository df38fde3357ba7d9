"""Which architecture a state dict is recognized as, and what is said where none or several fit."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from adabn_cli.errors import ModelError
from adabn_cli.models.architectures import recognize as architecture_recognition
from adabn_cli.models.architectures.build import load_entries
from adabn_cli.models.architectures.index import (
    ArchitectureIndex,
    Entry,
    document_of,
    key_sketch,
    similarity,
)
from adabn_cli.models.architectures.libraries import LIBRARIES
from adabn_cli.models.architectures.recognize import recognize_architecture


def weights_of(name: str, **arguments: object) -> dict[str, Tensor]:
    package, _, bare = name.partition(":")
    if package == "timm":
        pytest.importorskip("timm")
    torch.manual_seed(0)
    return LIBRARIES[package].build(bare, arguments).state_dict()


@pytest.mark.parametrize(
    "name",
    [
        "torchvision:alexnet",
        "torchvision:efficientnet_b0",
        "torchvision:mnasnet0_5",
        "torchvision:mobilenet_v2",
        "torchvision:mobilenet_v3_small",
        "torchvision:regnet_y_400mf",
        "torchvision:resnet18",
        "torchvision:densenet121",
        "torchvision:shufflenet_v2_x0_5",
        "torchvision:squeezenet1_1",
        "torchvision:swin_t",
        "torchvision:lraspp_mobilenet_v3_large",
        "timm:ghostnet_100",
        "timm:hardcorenas_a",
        "timm:lcnet_050",
        "timm:mobilenetv2_050",
        "timm:regnetx_002",
        "timm:repvgg_a0",
        "timm:resnet18d",
        "timm:resnet26t",
        "timm:seresnext26d_32x4d",
        "timm:xcit_nano_12_p16_224",
    ],
)
def test_architectures_are_recognized_whatever_their_number_of_classes(name: str) -> None:
    entries = weights_of(name, num_classes=7)
    recognized = recognize_architecture(entries)
    assert recognized.name == name
    assert recognized.source.startswith("matched by keys and shapes")
    assert recognized.classes is None
    assert recognized.preprocessing is not None
    assert load_entries(recognized.module, entries, name) == []


def test_input_channels_are_recognized_too() -> None:
    entries = weights_of("timm:lcnet_050", num_classes=7, in_chans=1)
    recognized = recognize_architecture(entries)
    assert recognized.name == "timm:lcnet_050"
    assert recognized.preprocessing is None
    load_entries(recognized.module, entries, "weights")


def test_gray_weights_of_a_shared_network_are_timms_alone() -> None:
    recognized = recognize_architecture(weights_of("timm:resnet34", num_classes=2, in_chans=1))
    assert recognized.name == "timm:resnet34"


def test_missing_batch_counters_change_nothing() -> None:
    entries = weights_of("torchvision:mobilenet_v2")
    old = {key: value for key, value in entries.items() if "num_batches" not in key}
    recognized = recognize_architecture(old)
    assert recognized.name == "torchvision:mobilenet_v2"
    assert recognized.classes is not None
    assert len(recognized.classes) == 1000


def test_equal_functions_of_both_libraries_count_as_one() -> None:
    pytest.importorskip("timm")
    recognized = recognize_architecture(weights_of("torchvision:resnet34"))
    assert recognized.name == "torchvision:resnet34"
    assert recognized.source == (
        "matched by keys and shapes (torchvision); computes the same as timm:resnet34"
    )


def test_a_twin_without_published_weights_is_named_and_does_not_compete() -> None:
    pytest.importorskip("timm")
    recognized = recognize_architecture(weights_of("torchvision:resnet18"))
    assert "timm:resnetblur18 would fit too" in recognized.source


def test_equal_keys_that_compute_different_things_are_refused() -> None:
    entries = weights_of("timm:tf_mobilenetv3_small_075")
    with pytest.raises(ModelError, match="do not all compute the same") as caught:
        recognize_architecture(entries)
    assert "timm:mobilenetv3_small_075, timm:tf_mobilenetv3_small_075" in caught.value.what
    assert "--arch timm:mobilenetv3_small_075" in caught.value.hint
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize("claimed", ["tf_mobilenetv3_small_075", "timm:tf_mobilenetv3_small_075"])
def test_a_name_in_the_metadata_decides_between_those_that_fit(claimed: str) -> None:
    entries = weights_of("timm:tf_mobilenetv3_small_075")
    recognized = recognize_architecture(entries, claimed)
    assert recognized.name == "timm:tf_mobilenetv3_small_075"
    assert recognized.source == "checkpoint metadata (timm)"


@pytest.mark.parametrize("claimed", ["resnet50", "timm:gone", "os:system", "nowhere", "timm:", ""])
def test_a_name_in_the_metadata_that_does_not_fit_is_passed_over(claimed: str) -> None:
    recognized = recognize_architecture(weights_of("torchvision:squeezenet1_1"), claimed)
    assert recognized.name == "torchvision:squeezenet1_1"
    assert recognized.source == "matched by keys and shapes (torchvision)"


def test_without_timm_only_torchvision_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = weights_of("torchvision:resnet50", num_classes=7)
    strangers = weights_of("timm:lcnet_050")
    monkeypatch.setitem(sys.modules, "timm", None)
    assert recognize_architecture(entries).source == "matched by keys and shapes (torchvision)"
    with pytest.raises(ModelError, match="no architecture") as caught:
        recognize_architecture(strangers)
    assert "timm:" not in caught.value.where


def test_a_near_miss_lists_the_nearest_and_what_differs() -> None:
    entries = weights_of("torchvision:mobilenet_v2")
    del entries["classifier.1.bias"]
    entries["extra.weight"] = torch.zeros(1)
    with pytest.raises(ModelError, match="no architecture") as caught:
        recognize_architecture(entries)
    nearest = caught.value.where
    assert nearest.startswith(
        "Nearest: torchvision:mobilenet_v2 "
        "(1 missing: classifier.1.bias; 1 unexpected: extra.weight)"
    )
    assert nearest.count(":mobile") >= 1
    assert "--arch" in caught.value.hint


def test_a_wider_network_is_nearest_to_its_own_family() -> None:
    entries = weights_of("torchvision:resnet18", width_per_group=64)
    entries["layer4.1.conv2.weight"] = torch.zeros(512, 512, 5, 5)
    with pytest.raises(ModelError) as caught:
        recognize_architecture(entries)
    assert "1 of another shape: layer4.1.conv2.weight" in caught.value.where


def test_weights_of_a_stranger_are_refused(shared_data: Path) -> None:
    path = shared_data / "checkpoints" / "ccexam_usps.pth"
    entries: Mapping[str, Tensor] = torch.load(path, weights_only=True, map_location="cpu")
    with pytest.raises(ModelError, match="no architecture"):
        recognize_architecture(entries)


def test_no_entries_at_all_are_refused() -> None:
    with pytest.raises(ModelError, match="no architecture"):
        recognize_architecture({})


def test_a_name_that_the_installed_library_does_not_build_is_no_match(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entries = weights_of("torchvision:squeezenet1_1")
    shapes = {key: tuple(value.shape) for key, value in entries.items()}
    claims = [Entry(f"torchvision:{name}", shapes, frozenset()) for name in ("gone", "alexnet")]
    index = ArchitectureIndex(document_of({}, claims))
    assert index.names(shapes) == ["torchvision:gone", "torchvision:alexnet"]
    monkeypatch.setattr(architecture_recognition.ArchitectureIndex, "shipped", lambda: index)
    with pytest.raises(ModelError, match="no architecture") as caught:
        recognize_architecture(entries)
    assert "gone" not in caught.value.where


def test_the_index_does_not_depend_on_the_order_of_its_architectures() -> None:
    entries = [
        Entry("timm:b", {"w": (3, 4), "v": (2,)}, frozenset({("w", 0)})),
        Entry("torchvision:b", {"w": (9, 4), "v": (2,)}, frozenset()),
        Entry("timm:a", {"w": (3, 5), "v": (2,), "n.num_batches_tracked": ()}, frozenset()),
    ]
    documents = [document_of({"x": "1"}, order) for order in (entries, entries[::-1])]
    assert json.dumps(documents[0]) == json.dumps(documents[1])
    index = ArchitectureIndex(documents[0])
    assert index.names({"w": (70, 4), "v": (2,)}) == ["torchvision:b", "timm:b"]
    assert index.names({"w": (70, 5), "v": (2,)}) == ["timm:a"]
    assert index.names({"w": (70, 6), "v": (2,)}) == []


def test_sketches_estimate_the_share_of_common_keys() -> None:
    keys = [f"layer{i}.weight" for i in range(400)]
    assert similarity(key_sketch(keys), key_sketch(keys)) == 1.0
    assert similarity(key_sketch(keys), key_sketch(f"{key}x" for key in keys)) == 0.0
    assert 0.25 < similarity(key_sketch(keys), key_sketch(keys[:200])) < 0.75


def test_the_shipped_index_is_small_and_sorted(project: Path) -> None:
    path = project / "adabn_cli/models/architectures/architecture_index.json"
    text = path.read_text()
    assert len(text) < 400_000
    groups = list(json.loads(text)["architectures"])
    assert groups == sorted(groups)
