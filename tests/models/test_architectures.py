"""`--arch` and its arguments, and loading a state dict into what they name."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from adabn_cli.errors import ModelError, UsageError
from adabn_cli.models.architectures.build import (
    build_architecture,
    load_entries,
    parse_arch_args,
)
from adabn_cli.models.architectures.libraries import LIBRARIES


def weights_of(name: str, **arguments: object) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return LIBRARIES["torchvision"].build(name, arguments).state_dict()


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("", {}),
        ("width=2", {"width": 2}),
        ("a=1, b=[1, 2],c=name", {"a": 1, "b": [1, 2], "c": "name"}),
        ("a=None,b=True,c=0.5", {"a": None, "b": True, "c": 0.5}),
        ("a='x,y',b=(1,(2,3))", {"a": "x,y", "b": (1, (2, 3))}),
        ("url=a=b", {"url": "a=b"}),
    ],
)
def test_arch_args_are_literals_or_text(text: str, arguments: dict[str, object]) -> None:
    assert parse_arch_args(text) == arguments


@pytest.mark.parametrize("text", ["width", "width 2", "=2", "a=1,,b=2", "a=1,a=2", "2x=3"])
def test_what_is_no_key_and_value_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_arch_args(text)
    assert "--arch-args" in caught.value.where


def test_torchvision_architecture_gets_the_number_of_classes_of_the_weights() -> None:
    entries = weights_of("resnet18", num_classes=7)
    built = build_architecture("torchvision:resnet18", {}, entries)
    assert built.name == "torchvision:resnet18"
    assert built.source == "--arch"
    assert built.classes is None
    assert load_entries(built.module, entries, "weights") == []
    assert torch.equal(built.module.state_dict()["fc.weight"], entries["fc.weight"])


def test_published_preprocessing_and_classes_come_with_their_source() -> None:
    entries = weights_of("resnet50")
    built = build_architecture("torchvision:resnet50", {}, entries)
    preprocessing = built.preprocessing
    assert preprocessing is not None
    assert preprocessing.source == "torchvision ResNet50_Weights.IMAGENET1K_V2"
    assert preprocessing.size == (224, 224)
    assert math.floor(224 / preprocessing.crop_pct) == 232
    assert preprocessing.interpolation == "bilinear"
    assert preprocessing.mean == (0.485, 0.456, 0.406)
    assert built.classes is not None
    assert built.classes[:2] == ("tench", "goldfish")
    assert len(built.classes) == 1000


def test_resize_of_every_published_preset_survives_as_a_crop_fraction() -> None:
    from torchvision import models

    library = LIBRARIES["torchvision"]
    for name in library.indexed_names():
        preset = models.get_model_weights(name).DEFAULT.transforms()
        preprocessing = library.published(name).preprocessing
        assert preprocessing is not None
        resized = math.floor(preprocessing.size[0] / preprocessing.crop_pct)
        assert [resized] == preset.resize_size, name


def test_auxiliary_classifiers_are_built_where_the_weights_have_them() -> None:
    for aux_logits in (True, False):
        entries = weights_of("googlenet", aux_logits=aux_logits, init_weights=False)
        built = build_architecture("torchvision:googlenet", {}, entries)
        assert load_entries(built.module, entries, "weights") == []


def test_timm_architecture_gets_classes_and_input_channels_of_the_weights() -> None:
    timm = pytest.importorskip("timm")
    entries = timm.create_model("mobilenetv3_small_050", num_classes=5, in_chans=1).state_dict()
    built = build_architecture("timm:mobilenetv3_small_050", {}, entries)
    assert built.preprocessing is None  # Three channels were published, and these weights take one.
    assert load_entries(built.module, entries, "weights") == []
    with torch.inference_mode():
        assert built.module.eval()(torch.zeros(1, 1, 64, 64)).shape == (1, 5)


def test_timm_tag_chooses_the_preprocessing() -> None:
    timm = pytest.importorskip("timm")
    entries = timm.create_model("resnet18").state_dict()
    tagged = build_architecture("timm:resnet18.tv_in1k", {}, entries)
    assert tagged.preprocessing is not None
    assert tagged.preprocessing.source == "timm resnet18.tv_in1k"
    assert tagged.preprocessing.interpolation == "bilinear"
    assert tagged.classes is not None
    assert tagged.classes[0] == "tench, Tinca tinca"


def test_tables_outside_the_state_dict_have_their_values() -> None:
    timm = pytest.importorskip("timm")
    name = "swin_tiny_patch4_window7_224"
    torch.manual_seed(0)
    original = timm.create_model(name, num_classes=3).eval()
    built = build_architecture(f"timm:{name}", {}, original.state_dict())
    load_entries(built.module, original.state_dict(), "weights")
    picture = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        assert torch.equal(built.module.eval()(picture), original(picture))


def test_arguments_that_are_given_are_not_inferred() -> None:
    built = build_architecture(
        "torchvision:resnet18", {"num_classes": 3}, weights_of("resnet18", num_classes=7)
    )
    assert built.module.fc.out_features == 3


def test_callable_of_a_package_is_built_with_its_arguments(shared_data: Path) -> None:
    pytest.importorskip("ccexam")
    path = shared_data / "checkpoints" / "ccexam_usps.pth"
    entries = torch.load(path, weights_only=True, map_location="cpu")
    built = build_architecture("ccexam.models:USPSNet", {"input_size": 16}, entries)
    assert built.preprocessing is None
    load_entries(built.module, entries, path.name)
    with torch.inference_mode():
        assert built.module.eval()(torch.zeros(2, 1, 16, 16)).shape == (2, 10)


FILE = """
from dataclasses import dataclass
from torch import nn
from neighbour import WIDTH

@dataclass
class Settings:
    width: int = WIDTH

def network(depth=1):
    return nn.Sequential(*(nn.BatchNorm2d(Settings().width) for _ in range(depth)))

def number():
    return 3

broken = 4
"""


@pytest.fixture
def network_file(tmp_path: Path) -> Path:
    (tmp_path / "neighbour.py").write_text("WIDTH = 2\n")
    (tmp_path / "my net.py").write_text(FILE)
    return tmp_path / "my net.py"


def test_callable_of_a_file_may_import_its_neighbours(network_file: Path) -> None:
    before = list(sys.path)
    built = build_architecture(f"{network_file}:network", {"depth": 2}, {})
    assert len(list(built.module.children())) == 2
    assert built.name == f"{network_file}:network"
    assert sys.path == before


@pytest.mark.parametrize(
    ("callee", "arguments", "said"),
    [
        ("netwrok", {}, "Did you mean network?"),
        ("broken", {}, 'no callable "broken"'),
        ("number", {}, "returned a int"),
        ("network", {"width": 3}, "unexpected keyword argument 'width'"),
    ],
)
def test_a_callable_that_builds_no_network_is_a_usage_error(
    network_file: Path, callee: str, arguments: dict[str, object], said: str
) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        build_architecture(f"{network_file}:{callee}", arguments, {})
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("resnet18", "torchvision:resnet18"),
        ("torchvision:resnet81", "torchvision:resnet18"),
        ("torchvision:qqqqqq", "package.module:CALLABLE"),
        ("", "package.module:CALLABLE"),
        ("no_such_package.models:Net", "No module named 'no_such_package'"),
        ("no/such/file.py:Net", "there is no such file"),
    ],
)
def test_an_unknown_architecture_is_a_usage_error_with_a_way_on(spec: str, said: str) -> None:
    with pytest.raises(UsageError, match=r"There is no|cannot be imported") as caught:
        build_architecture(spec, {}, {})
    assert said in str(caught.value)


def test_a_location_is_no_name_of_timm() -> None:
    pytest.importorskip("timm")
    with pytest.raises(UsageError, match="no architecture"):
        build_architecture("timm:hf-hub:timm/resnet18.a1_in1k", {}, {})


def test_arguments_that_a_library_refuses_are_a_usage_error() -> None:
    entries = weights_of("resnet18")
    for arguments in ({"depth": 3}, {"weights": "DEFAULT"}):
        with pytest.raises(UsageError, match="cannot be built: TypeError"):
            build_architecture("torchvision:resnet18", arguments, entries)


def test_timm_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UsageError, match="not installed") as caught:
        build_architecture("timm:resnet18", {}, {})
    assert caught.value.hint == 'Run pip install "adabn[timm]".'


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1))


def test_batch_counters_may_be_missing_or_left_over() -> None:
    module, entries = small(), dict(small().state_dict())
    module[1].num_batches_tracked.fill_(5)
    del entries["1.num_batches_tracked"]
    entries["9.num_batches_tracked"] = torch.tensor(3)
    notes = load_entries(module, entries, "weights.pt")
    assert [note.partition(":")[0] for note in notes] == [
        "1 num_batches_tracked counters are missing",
        "1 num_batches_tracked counters are left over",
    ]
    assert int(module[1].num_batches_tracked) == 0


def test_weights_that_do_not_fit_are_listed_and_change_nothing() -> None:
    module, entries = small(), dict(small().state_dict())
    before = module[1].weight.detach().clone()
    entries["1.weight"] = torch.zeros(3)
    del entries["0.weight"]
    entries |= {f"head.{i}": torch.zeros(1) for i in range(5)}
    with pytest.raises(ModelError) as caught:
        load_entries(module, entries, "weights.pt")
    message = str(caught.value)
    assert "1 missing: 0.weight" in message
    assert "5 unexpected: head.0, head.1, head.2, …" in message
    assert "1 of another shape: 1.weight [3] instead of [2]" in message
    assert "--arch" in caught.value.hint
    assert caught.value.where == "weights.pt"
    assert torch.equal(module[1].weight, before)
