"""Folders of timm, transformers and segmentation-models-pytorch, in and out, offline."""

from __future__ import annotations

import contextlib
import importlib
import json
import shutil
import socket
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from adabn_cli.cli.boundary import run
from adabn_cli.errors import ModelError, UsageError
from adabn_cli.models.folders.processor import read_image_processor
from adabn_cli.models.open import ModelRequest, OpenedModel, open_model
from adabn_cli.models.open_checkpoint import kind_of
from adabn_cli.record import Record

#: Small configurations of image models that hold BatchNorm.
TRANSFORMERS: dict[str, dict[str, Any]] = {
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
    "regnet": {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1],
               "groups_width": 8},
    "efficientnet": {"width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 128},
    "mobilenet_v2": {"depth_multiplier": 0.2},
    "mobilevit": {},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("a test reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """The libraries warn of their own future."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def stirred(module: nn.Module) -> nn.Module:
    """The module in eval mode with statistics of noise, so that its outputs tell pictures apart."""
    torch.manual_seed(0)
    convolutions = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
            layer.momentum = 1.0
            nn.init.uniform_(layer.weight, 0.5, 1.5)  # timm begins its last ones with zeros.
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight)
    with torch.no_grad():
        module.train()(torch.randn(8, convolutions[0].in_channels, 64, 64))
    return module.eval()


def timm_folder(folder: Path, **more: Any) -> nn.Module:
    import timm
    from timm.models import save_for_hf

    config = {"input_size": [3, 64, 64], "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3],
              "crop_pct": 0.9, "interpolation": "bicubic"}  # fmt: skip
    with silence():
        model = timm.create_model("resnet10t", num_classes=3, pretrained_cfg_overlay=config)
        names = {"label_names": ["cat", "dog", "emu"]}
        save_for_hf(stirred(model), folder, model_config=names, safe_serialization=True, **more)
    return model


def transformers_folder(folder: Path, kind: str = "resnet", **more: Any) -> nn.Module:
    library = pytest.importorskip("transformers")
    auto = importlib.import_module("transformers.models.auto.modeling_auto")
    names = auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES[kind]
    name = names if isinstance(names, str) else names[0]
    labels = {0: "cat", 1: "dog", 2: "emu"}
    given = {"id2label": labels, "label2id": {v: k for k, v in labels.items()}}
    with silence():
        config = library.CONFIG_MAPPING[kind](**{**TRANSFORMERS[kind], **given, **more})
        model = stirred(getattr(library, name)(config))
        model.save_pretrained(folder)
    return model


def smp_folder(folder: Path) -> nn.Module:
    smp = pytest.importorskip("segmentation_models_pytorch")
    with silence():
        model = stirred(smp.Unet("mobilenet_v2", encoder_weights=None, classes=3))
        model.save_pretrained(folder)
    return model


def logits_of(module: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        found = module.eval()(images)
    return found if isinstance(found, Tensor) else found.logits


def opened(folder: Path, **request: Any) -> OpenedModel:
    with silence():
        return open_model(ModelRequest(folder, **request))


def images(size: int = 64) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def shift(found: OpenedModel, folder: Path) -> dict[str, Tensor]:
    """Writes the model with other means at every site; returns these."""
    state = found.model.state()
    means = {site.keys["mean"]: state[site.keys["mean"]] + 0.5 for site in found.model.sites}
    found.model.load_state(means)
    found.model.save(folder)
    return means


def require_only_means_changed(before: Path, after: Path, count: int) -> None:
    files = {path.relative_to(before) for path in before.rglob("*") if path.is_file()}
    assert files == {path.relative_to(after) for path in after.rglob("*") if path.is_file()}
    differing = [f for f in files if (before / f).read_bytes() != (after / f).read_bytes()]
    assert differing == [Path("model.safetensors")]
    old, new = (load_file(folder / "model.safetensors") for folder in (before, after))
    changed = [key for key in old if not torch.equal(old[key], new[key])]
    assert len(changed) == count
    assert all(key.endswith("running_mean") for key in changed)


MAKERS = {
    "timm-folder": timm_folder,
    "smp-folder": smp_folder,
    **{kind: lambda folder, kind=kind: transformers_folder(folder, kind) for kind in TRANSFORMERS},
}


@pytest.mark.parametrize("made", list(MAKERS))
def test_a_folder_computes_what_its_library_computes_and_comes_back(
    made: str, tmp_path: Path
) -> None:
    source, copy = tmp_path / "model.a1", tmp_path / "adapted"
    module = MAKERS[made](source)
    found = opened(source)
    assert found.checkpoint.kind == (made if made in ("timm-folder", "smp-folder")
                                       else "transformers-folder")  # fmt: skip
    expected = logits_of(module, images())
    assert torch.equal(found.model.forward(images()), expected)  # type: ignore[arg-type]
    assert not torch.allclose(expected[0], expected[1], rtol=1e-3)
    assert found.model.input_channels == 3
    assert len(found.model.sites) > 5
    means = shift(found, copy)
    require_only_means_changed(source, copy, len(means))
    again = opened(copy)
    assert torch.equal(again.model.forward(images()), found.model.forward(images()))  # type: ignore[arg-type]


def test_a_network_whose_layers_are_saved_under_older_names_is_read(tmp_path: Path) -> None:
    library = pytest.importorskip("transformers", minversion="5")
    config = library.SegformerConfig(
        hidden_sizes=[8, 8, 16, 16], decoder_hidden_size=16, num_attention_heads=[1, 1, 2, 2]
    )
    with silence():
        module = stirred(library.SegformerForSemanticSegmentation(config))
        module.save_pretrained(tmp_path / "a")
    found = opened(tmp_path / "a")
    assert torch.equal(found.model.forward(images()), logits_of(module, images()))  # type: ignore[arg-type]
    require_only_means_changed(tmp_path / "a", tmp_path / "b", len(shift(found, tmp_path / "b")))


def test_flipped_channels_reach_the_network_flipped(tmp_path: Path) -> None:
    library = pytest.importorskip("transformers")
    module = transformers_folder(tmp_path, "mobilevit")
    plain = opened(tmp_path).model.forward(images())
    library.MobileViTImageProcessor(size={"shortest_edge": 288}).save_pretrained(tmp_path)
    found = opened(tmp_path)
    assert torch.equal(found.model.forward(images()), logits_of(module, images().flip(1)))  # type: ignore[arg-type]
    assert not torch.equal(found.model.forward(images()), plain)  # type: ignore[arg-type]
    assert found.model.preprocessing is not None
    assert "channels flipped" in found.model.preprocessing.source


@pytest.mark.parametrize("made", ["timm-folder", "resnet", "smp-folder"])
def test_forwards_side_by_side_see_what_one_by_one_does(made: str, tmp_path: Path) -> None:
    MAKERS[made](tmp_path)
    model = opened(tmp_path).model
    batches = [images(), images() * 2]
    expected = [[signal.activation.clone() for signal in model.suspended(x)] for x in batches]
    together = list(zip(*(model.suspended(x) for x in batches), strict=True))
    assert len(together) == len(expected[0]) >= len(model.sites)
    for number, signals in enumerate(together):
        for batch, signal in enumerate(signals):
            assert torch.equal(signal.activation, expected[batch][number])


def test_a_timm_folder_says_its_input_and_classes(tmp_path: Path) -> None:
    timm_folder(tmp_path)
    found = opened(tmp_path)
    assert found.model.architecture == "timm:resnet10t"
    assert found.model.architecture_source == "config.json"
    assert (found.model.classes, found.classes_source) == (
        ("cat", "dog", "emu"), "config.json: label_names"
    )  # fmt: skip
    p = found.model.preprocessing
    assert p is not None
    assert (p.size, p.crop_pct, p.interpolation) == ((64, 64), 0.9, "bicubic")
    assert (p.mean, p.std) == ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    assert p.source == "config.json: pretrained_cfg"


def test_arguments_of_a_timm_model_reach_its_builder(tmp_path: Path) -> None:
    import timm
    from timm.models import save_for_hf

    arguments = {"in_chans": 1, "act_layer": "silu", "global_pool": "max"}
    model = stirred(timm.create_model("resnet10t", num_classes=3, **arguments))
    with silence():
        save_for_hf(model, tmp_path, model_args=arguments, safe_serialization=True)
    found = opened(tmp_path)
    gray = images()[:, :1]
    assert torch.equal(found.model.forward(gray), logits_of(model, gray))  # type: ignore[arg-type]


def test_transformers_wrapper_of_timm_is_read_as_timm(tmp_path: Path) -> None:
    library = pytest.importorskip("transformers")
    with silence():
        config = library.TimmWrapperConfig(architecture="resnet10t", num_labels=3)
        module = stirred(library.TimmWrapperForImageClassification(config))
        module.save_pretrained(tmp_path / "a")
    found = opened(tmp_path / "a")
    assert found.model.architecture == "timm:resnet10t"
    assert found.model.classes is None
    assert torch.equal(found.model.forward(images()), logits_of(module, images()))  # type: ignore[arg-type]
    means = shift(found, tmp_path / "b")
    require_only_means_changed(tmp_path / "a", tmp_path / "b", len(means))


def test_a_pickled_file_of_weights_and_what_lies_beside_it_are_kept(tmp_path: Path) -> None:
    source = tmp_path / "in"
    timm_folder(source)
    torch.save(load_file(source / "model.safetensors"), source / "pytorch_model.bin")
    (source / "model.safetensors").unlink()
    for name in ("README.md", "logs/a.txt", ".git/HEAD", ".gitattributes", "adabn-runs/x/run.json"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    shift(opened(source), tmp_path / "out")
    kept = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*"))
    assert kept == [".gitattributes", "README.md", "config.json", "logs/a.txt", "pytorch_model.bin"]
    assert (tmp_path / "out" / "logs" / "a.txt").read_text() == "logs/a.txt"


def test_other_files_of_weights_are_named_as_unchanged(tmp_path: Path) -> None:
    timm_folder(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    assert "only model.safetensors is adapted; pytorch_model.bin stays as it is" in (
        opened(tmp_path).notes
    )


def test_a_folder_of_links_is_copied_as_files(tmp_path: Path) -> None:
    timm_folder(tmp_path / "blobs")
    (tmp_path / "snapshot").mkdir()
    for path in (tmp_path / "blobs").iterdir():
        (tmp_path / "snapshot" / path.name).symlink_to(path)
    shift(opened(tmp_path / "snapshot"), tmp_path / "out")
    assert not [path for path in (tmp_path / "out").iterdir() if path.is_symlink()]
    assert len(list((tmp_path / "out").iterdir())) == len(list((tmp_path / "blobs").iterdir()))


# Commands


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for name in ("cat", "dog", "emu"):
        (folder / name).mkdir()
        for number in range(4):
            pixels = random.integers(0, 255, (72, 80, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


@pytest.mark.parametrize("made", ["timm-folder", "resnet", "smp-folder"])
def test_every_command_takes_a_folder(
    made: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "net.a1"
    MAKERS[made](source)
    more = ["--img-size", "64", "--mean", "0.5", "--std", "0.5"]
    if made == "resnet":
        pytest.importorskip("transformers").ConvNextImageProcessor(
            size={"shortest_edge": 64}
        ).save_pretrained(source)
    if made != "smp-folder":
        more = []
    out, model = tmp_path / "run", str(source)
    target = ["--target", str(photos), "--labels", "none", *more]
    with silence():
        assert run(["adapt", model, *target, "-o", str(out), "--verify", "-q"]) == 0
        record = Record.model_validate_json((out / "run.json").read_text())
        assert record.residual is not None
        assert max(record.residual.max_mean, record.residual.max_log_variance) < 1e-5
        assert kind_of(out / "model") == record.model.format
        capsys.readouterr()
        assert run(["inspect", model, "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert (shown["format"], len(shown["sites"])) == (record.model.format, len(record.sites))
        assert shown["bytes"] == (source / "model.safetensors").stat().st_size
        pack, put, back = str(out / "pack.safetensors"), tmp_path / "put", tmp_path / "back"
        assert run(["apply", model, pack, "-o", str(put), "-q"]) == 0
        assert run(["apply", str(put), pack, "--revert", "-o", str(back), "-q"]) == 0
        for path in source.iterdir():
            assert (back / path.name).read_bytes() == path.read_bytes()
        same = (put / "model.safetensors").read_bytes()
        assert same == (out / "model" / "model.safetensors").read_bytes()
        assert (
            run(["profile", model, "--source", str(photos), *more, "--labels", "none", "-q"]) == 0
        )
        assert (tmp_path / "net.a1.profile").is_file()
        if made != "smp-folder":
            assert run(["evaluate", model, "--data", str(photos), "--pack", pack, "-q"]) == 0


def test_a_folder_adapts_from_inside_it(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timm_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # The second finds the first run's folder in it.
        assert run(["adapt", ".", "--target", str(photos), "-q"]) == 0
    for found in tmp_path.glob("adabn-runs/*/model"):
        assert sorted(path.name for path in found.iterdir()) == ["config.json", "model.safetensors"]


def test_an_output_folder_is_never_replaced(photos: Path, tmp_path: Path) -> None:
    timm_folder(tmp_path / "a")
    model, run_folder = str(tmp_path / "a"), tmp_path / "run"
    assert run(["adapt", model, "--target", str(photos), "-o", str(run_folder), "-q"]) == 0
    pack = str(run_folder / "pack.safetensors")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "precious").write_text("x")
    assert run(["apply", model, pack, "-o", str(tmp_path / "there"), "--force"]) == 2
    assert run(["apply", model, pack, "-o", model, "--force"]) == 2
    assert (tmp_path / "there" / "precious").read_text() == "x"
    (tmp_path / "empty").mkdir()
    assert run(["apply", model, pack, "-o", str(tmp_path / "empty"), "-q"]) == 0


# What is refused


def described(folder: Path, config: object, **weights: Tensor) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    save_file(weights or {"w": torch.ones(2)}, folder / "model.safetensors")
    return folder


REMOTE = {
    "model_type": "resnet",
    "architectures": ["ResNetForImageClassification"],
    "auto_map": {"AutoModelForImageClassification": "modeling.Net"},
}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "holds a list"),
        ({}, "not one of timm"),
        ({"model_type": 3}, "not one of timm"),
        ({"architecture": "no_such_net"}, "has no architecture 'no_such_net'"),
        ({"architecture": "resnet10t", "model_args": {"checkpoint_path": "x"}}, "checkpoint_path"),
        ({"architecture": "resnet10t", "model_args": {"pretrained": True}}, "pretrained"),
        ({"architecture": "resnet10t", "model_args": [1]}, "not hold arguments by name"),
        ({"architecture": "resnet10t", "model_args": {"colour": 1}}, "cannot be built"),
        ({"architecture": "resnet10t"}, "do not fit"),
        (REMOTE, "never run"),
        ({"model_type": "resnet"}, "does not name the class"),
        ({"model_type": "resnet", "architectures": ["ResNetBackbone"]}, "not an image classifier"),
        ({"model_type": "resnet", "architectures": ["os.system"]}, "not an image classifier"),
        ({"model_type": "mine", "architectures": ["MineForImageClassification"]}, "not an image"),
        ({"_model_class": "Losses", "encoder_name": "resnet18"}, "no class 'Losses'"),
        ({"_model_class": "Unet", "encoder_name": "none"}, "cannot be built"),
    ],
)  # fmt: skip
def test_a_folder_that_cannot_be_used_says_what_to_do(
    config: object, message: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if isinstance(config, dict) and "model_type" in config and config["model_type"] != 3:
        pytest.importorskip("transformers")
    if isinstance(config, dict) and "_model_class" in config:
        pytest.importorskip("segmentation_models_pytorch")
    folder = described(tmp_path / "a", config)
    with silence(), pytest.raises(ModelError, match=message) as error:
        open_model(ModelRequest(folder))
    assert error.value.hint
    with silence():
        assert run(["adapt", str(folder), "--target", str(photos)]) == 3
    assert message.rpartition(" ")[2].strip("'") in capsys.readouterr().err.replace("\n", " ")


def test_code_in_a_folder_is_never_imported(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    folder = described(tmp_path / "a", REMOTE)
    (folder / "modeling.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ModelError, match="never run"):
        open_model(ModelRequest(folder))
    assert not (tmp_path / "ran").exists()


def test_a_folder_without_configuration_or_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "best.pth").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"without a config\.json") as error:
        kind_of(tmp_path)
    assert "best.pth" in error.value.hint
    assert run(["inspect", str(tmp_path)]) == 3
    described(tmp_path, {"architecture": "resnet10t"})
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no weights"):
        open_model(ModelRequest(tmp_path))
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ModelError, match="split over several") as error:
        open_model(ModelRequest(tmp_path))
    assert "max_shard_size" in error.value.hint


@pytest.mark.parametrize(
    ("config", "package", "extra"),
    [
        ({"architecture": "resnet10t"}, "timm", "timm"),
        ({"model_type": "resnet", "architectures": ["X"]}, "transformers", "transformers"),
        ({"_model_class": "Unet", "encoder_name": "x"}, "segmentation_models_pytorch", "smp"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(
    config: object, package: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    folder = described(tmp_path / "a", config)
    with pytest.raises(ModelError, match="is missing") as error:
        open_model(ModelRequest(folder))
    assert error.value.hint == f'Install it: pip install "adabn[{extra}]".'
    assert run(["adapt", str(folder), "--target", str(tmp_path)]) == 3


def test_a_folder_takes_no_architecture(tmp_path: Path) -> None:
    timm_folder(tmp_path)
    with pytest.raises(UsageError, match="says itself"):
        open_model(ModelRequest(tmp_path, arch="timm:resnet10t"))


def test_a_pickle_that_runs_code_is_refused_in_a_folder_too(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    described(tmp_path / "a", {"architecture": "resnet10t"})
    (tmp_path / "a" / "model.safetensors").unlink()
    torch.save({"w": torch.ones(2), "x": Evil()}, tmp_path / "a" / "pytorch_model.bin")
    assert run(["inspect", str(tmp_path / "a")]) == 3
    assert run(["adapt", str(tmp_path / "a"), "--target", str(tmp_path)]) == 3
    assert not (tmp_path / "ran").exists()


def test_a_damaged_file_of_weights_is_refused(tmp_path: Path) -> None:
    timm_folder(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match="damaged"):
        open_model(ModelRequest(tmp_path))


def test_placeholder_names_are_no_classes(tmp_path: Path) -> None:
    transformers_folder(tmp_path, id2label={0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"})
    assert opened(tmp_path).model.classes is None


# Image processors, each held against what transformers itself makes of a picture


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 64}, "crop_pct": 0.875}),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 224}}),
        ("MobileNetV2ImageProcessor", {"size": {"shortest_edge": 96},
                                       "crop_size": {"height": 80, "width": 64}}),
        ("EfficientNetImageProcessor", {"size": {"height": 64, "width": 64}}),
        ("EfficientNetImageProcessor", {"size": {"height": 64, "width": 64}, "include_top": False,
                                        "rescale_factor": 1 / 127.5, "rescale_offset": True}),
        ("ViTImageProcessor", {"size": {"height": 64, "width": 64}}),
        ("ViTImageProcessor", {"size": {"height": 64, "width": 64}, "do_normalize": False}),
        ("LevitImageProcessor", {"size": {"shortest_edge": 64},
                                 "crop_size": {"height": 64, "width": 64}}),
        ("MobileViTImageProcessor", {"size": {"shortest_edge": 64}, "do_flip_channel_order": False,
                                     "crop_size": {"height": 56, "width": 56}}),
    ],
)  # fmt: skip
def test_a_picture_becomes_what_its_image_processor_makes_of_it(
    name: str, given: dict[str, Any], tmp_path: Path
) -> None:
    library = pytest.importorskip("transformers")
    with silence():
        processor = getattr(library, name)(**given)
        processor.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "preprocessor_config.json").read_text())
    found, notes = read_image_processor(config)
    assert found is not None
    assert notes == ()
    # A flat colour: framing cannot hide what the values become.
    picture = Image.new("RGB", (130, 130), (200, 100, 50))
    with silence():
        expected = processor(picture, return_tensors="pt")["pixel_values"][0]
    assert tuple(expected.shape[1:]) == found.size
    colour = torch.tensor([200, 100, 50]) / 255
    values = (colour - torch.tensor(found.mean)) / torch.tensor(found.std)
    assert torch.allclose(expected.mean((1, 2)), values, atol=2e-5)
    assert torch.allclose(expected.amax((1, 2)), values, atol=2e-5)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"feature_extractor_type": "ConvNextFeatureExtractor", "size": 224, "crop_pct": 0.875},
         (224, 256)),
        ({"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}},
         (384, 384)),
        ({"image_processor_type": "LevitImageProcessor", "size": {"shortest_edge": 224},
          "do_center_crop": True, "crop_size": 224}, (224, 256)),
        ({"image_processor_type": "MobileNetV1ImageProcessorFast", "size": {"shortest_edge": 256},
          "do_center_crop": True, "crop_size": {"height": 224, "width": 224}}, (224, 256)),
    ],
)  # fmt: skip
def test_resize_and_crop_of_published_configurations(
    config: dict[str, Any], expected: tuple[int, int]
) -> None:
    values = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    found, _ = read_image_processor({**config, **values})
    assert found is not None
    assert (found.size[0], int(found.size[0] / found.crop_pct)) == expected


@pytest.mark.parametrize(
    "config",
    [
        {"size": {"longest_edge": 3}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
        {"size": 8, "image_mean": [0.5] * 3, "image_std": [0.0] * 3},
        {"size": 8, "image_mean": [0.5] * 3, "image_std": "abc"},
        {"size": 8, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_resize": False},
        {"size": 8, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_center_crop": True,
         "crop_size": 9},
        {"auto_map": {"AutoImageProcessor": "x.Y"}, "size": 8},
    ],
)  # fmt: skip
def test_an_image_processor_that_is_not_understood_gives_a_note(config: dict[str, Any]) -> None:
    found, notes = read_image_processor(config)
    assert found is None
    assert len(notes) == 1


def test_a_folder_may_be_moved_while_it_is_open(tmp_path: Path) -> None:
    timm_folder(tmp_path / "a")
    found = opened(tmp_path / "a")
    shutil.rmtree(tmp_path / "a")
    with pytest.raises((ModelError, OSError)):
        found.model.save(tmp_path / "b")
    assert not list(tmp_path.iterdir())
