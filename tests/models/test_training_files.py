"""What training scripts write: Lightning's, torchvision's and timm's checkpoints, and prefixes."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adabn_cli.errors import ModelError, UsageError
from adabn_cli.models.architectures.key_views import key_views
from adabn_cli.models.open import ModelRequest, OpenedModel, open_model
from adabn_cli.models.open_checkpoint import open_checkpoint

ARCH = "torchvision:shufflenet_v2_x0_5"
State = Mapping[str, Tensor]


@pytest.fixture(scope="module")
def trained() -> State:
    return state_of(0)


@pytest.fixture(scope="module")
def averaged() -> State:
    return state_of(1)


def state_of(seed: int) -> State:
    from torchvision.models import shufflenet_v2_x0_5

    torch.manual_seed(seed)
    return dict(shufflenet_v2_x0_5(num_classes=3).state_dict())


def prefixed(prefix: str, state: State) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


def lightning(state: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """The keys of trainer.save_checkpoint."""
    return {
        "epoch": 3,
        "global_step": 120,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": state,
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 3}}}},
        "callbacks": {
            "ModelCheckpoint{'monitor': 'val_acc'}": {
                "best_model_score": torch.tensor(0.9),
                "best_k_models": {"a.ckpt": torch.tensor(0.9)},
                "current": torch.ones(2),
            }
        },
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(5)}}, "param_groups": []}],
        "lr_schedulers": [],
        "MixedPrecision": {"scale": 65536.0},
        "hparams_name": "kwargs",
        **more,
    }


def training_file(kind: str, trained: State, averaged: State) -> dict[str, Any]:
    optimizer = {"state": {0: {"momentum_buffer": torch.ones(7)}}, "param_groups": []}
    count = {"n_averaged": torch.tensor(12)}
    if kind == "torchvision":
        arguments = Namespace(
            model="shufflenet_v2_x0_5", val_crop_size=224, val_resize_size=256,
            interpolation="bilinear",
        )  # fmt: skip
        return {
            "model": trained,
            "optimizer": optimizer,
            "lr_scheduler": {"last_epoch": 3},
            "epoch": 3,
            "args": arguments,
            "model_ema": {**count, **prefixed("module.", averaged)},
        }
    if kind == "timm":
        return {
            "epoch": 3,
            "arch": "shufflenet_v2_x0_5",
            "state_dict": prefixed("_orig_mod.", trained),
            "optimizer": optimizer,
            "version": 2,
            "args": Namespace(model="shufflenet_v2_x0_5", crop_pct=None, mean=None, std=None),
            "amp_scaler": {"scale": 1.0},
            "state_dict_ema": prefixed("_orig_mod.", averaged),
            "metric": 71.5,
        }
    if kind == "lightning-callback":
        return lightning(
            prefixed("net.", averaged),
            current_model_state=prefixed("net.", trained),
            averaging_state={**count, "extra": torch.ones(3)},
        )
    return lightning({**prefixed("net.", trained), **prefixed("ema_model.module.", averaged)})


def opened(path: Path, saved: object, *, zipped: bool = True, **request: Any) -> OpenedModel:
    torch.save(saved, path, _use_new_zipfile_serialization=zipped)
    return open_model(ModelRequest(path, **request))


def holds(found: OpenedModel, state: State) -> bool:
    held = found.model.state()
    return held.keys() == state.keys() and all(torch.equal(held[k], state[k]) for k in state)


def adapted(found: OpenedModel, path: Path) -> dict[str, Tensor]:
    """Writes the model with new means at every site; returns these."""
    state = found.model.state()
    means = {site.keys["mean"]: state[site.keys["mean"]] + 0.5 for site in found.model.sites}
    found.model.load_state(means)
    found.model.save(path)
    return means


def tensors_in(value: Any, name: str = "") -> dict[str, Tensor]:
    """Every tensor in a saved object, by its way through it."""
    if isinstance(value, Tensor):
        return {name: value}
    items: Any = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    return {k: v for key, x in items for k, v in tensors_in(x, f"{name}/{key}").items()}


def changed(before: Path, after: Path) -> dict[str, Tensor]:
    """The tensors that differ between two files that are alike in all else."""
    one, other = (tensors_in(torch.load(path, weights_only=False)) for path in (before, after))
    assert list(one) == list(other)
    return {name: other[name] for name in one if not torch.equal(one[name], other[name])}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("kind", ["torchvision", "timm", "lightning", "lightning-callback"])
def test_one_of_two_sets_of_weights_is_taken_and_adapted(
    kind: str, zipped: bool, trained: State, averaged: State, tmp_path: Path
) -> None:
    path, saved = tmp_path / "a.ckpt", training_file(kind, trained, averaged)
    by_default = opened(path, saved, zipped=zipped)
    assert by_default.model.architecture == ARCH
    assert holds(by_default, averaged)
    assert holds(opened(path, saved, zipped=zipped, weights="ema"), averaged)
    plain = opened(path, saved, zipped=zipped, weights="model")
    assert holds(plain, trained)
    for found, name in ((by_default, "ema"), (plain, "model")):
        means = adapted(found, tmp_path / f"{name}.ckpt")
        written = changed(path, tmp_path / f"{name}.ckpt")
        assert len(written) == len(means)
        for key, value in means.items():
            place = next(place for place in written if place.endswith(key))
            assert torch.equal(written[place], value)
        assert holds(open_model(ModelRequest(tmp_path / f"{name}.ckpt", weights=name)),
                     found.model.state())  # fmt: skip
        assert (tmp_path / f"{name}.ckpt").stat().st_size == path.stat().st_size


@pytest.mark.parametrize(
    ("kind", "taken"),
    [
        ("torchvision", "model_ema"),
        ("timm", "state_dict_ema"),
        ("lightning", "state_dict.ema_model"),
        ("lightning-callback", "state_dict"),
    ],
)
def test_a_note_says_which_weights_were_taken_and_that_there_are_others(
    kind: str, taken: str, trained: State, averaged: State, tmp_path: Path
) -> None:
    path, saved = tmp_path / "a.ckpt", training_file(kind, trained, averaged)
    note = next(note for note in opened(path, saved).notes if "were taken" in note)
    assert note.startswith(f"weights were taken from {taken}, their moving average")
    assert note.endswith("(--weights model)")
    assert "callbacks" not in note
    chosen = opened(path, saved, weights="model")
    assert not [note for note in chosen.notes if "were taken" in note]


def test_weights_without_an_average_need_no_note(trained: State, tmp_path: Path) -> None:
    found = opened(tmp_path / "a.pth", {"model": trained, "epoch": 1})
    assert not [note for note in found.notes if "weights were taken" in note]


@pytest.mark.parametrize(
    "prefix",
    [
        "model.", "net.", "network.", "classifier.", "module.", "_orig_mod.", "module._orig_mod.",
        "_orig_mod.module.", "model._orig_mod.", "_orig_mod.model.module.", "model.backbone.",
    ],
)  # fmt: skip
def test_prefixes_of_all_keys_are_looked_through(
    prefix: str, trained: State, tmp_path: Path
) -> None:
    path = tmp_path / "a.ckpt"
    found = opened(path, lightning(prefixed(prefix, trained)))
    assert (found.model.architecture, holds(found, trained)) == (ARCH, True)
    means = adapted(found, tmp_path / "b.ckpt")
    assert {name.rpartition(prefix)[2] for name in changed(path, tmp_path / "b.ckpt")} == set(means)


def test_layers_that_were_compiled_one_by_one_are_found(trained: State, tmp_path: Path) -> None:
    state = {key.replace("stage2.", "stage2._orig_mod."): x for key, x in trained.items()}
    assert holds(opened(tmp_path / "a.pth", state), trained)


def test_losses_and_metrics_beside_the_network_are_left_alone(
    trained: State, tmp_path: Path
) -> None:
    beside = {"criterion.weight": torch.ones(3), "val_acc.total": torch.ones(1)}
    path = tmp_path / "a.ckpt"
    found = opened(path, lightning({**beside, **prefixed("net.", trained)}))
    assert holds(found, trained)
    assert any("criterion.weight, val_acc.total" in note for note in found.notes)
    adapted(found, tmp_path / "b.ckpt")
    assert not [name for name in changed(path, tmp_path / "b.ckpt") if "net." not in name]


def test_a_network_with_a_part_more_is_not_taken_for_that_part(
    trained: State, tmp_path: Path
) -> None:
    state = {**prefixed("net.", trained), "head.weight": torch.ones(2, 3)}
    with pytest.raises(ModelError, match="no architecture that is known"):
        opened(tmp_path / "a.ckpt", lightning(state))
    found = opened(tmp_path / "a.ckpt", lightning(state), arch=ARCH)
    assert holds(found, trained)
    assert any("head.weight" in note for note in found.notes)


NETWORK = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten())

    def forward(self, x):
        return self.model(x)
"""


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "net."])
def test_a_named_network_may_have_a_single_part_called_model(prefix: str, tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETWORK)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
    state = prefixed("model.", layers.state_dict())
    path = tmp_path / "a.pth"
    found = opened(path, prefixed(prefix, state), arch=f"{tmp_path / 'nets.py'}:Net")
    assert holds(found, state)
    adapted(found, tmp_path / "b.pth")
    assert list(changed(path, tmp_path / "b.pth")) == [f"/{prefix}model.1.running_mean"]


def test_the_file_that_a_part_was_read_from_is_saved_anew_where_it_is_compressed(
    trained: State, tmp_path: Path
) -> None:
    import zipfile

    plain, path = tmp_path / "plain.ckpt", tmp_path / "a.ckpt"
    saved = lightning({"criterion.weight": torch.ones(3), **prefixed("net.", trained)})
    opened(plain, saved)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    means = adapted(open_model(ModelRequest(path)), tmp_path / "b.ckpt")
    assert len(changed(plain, tmp_path / "b.ckpt")) == len(means)


def test_lightnings_hyperparameters_name_architecture_input_and_classes(
    trained: State, tmp_path: Path
) -> None:
    saved = lightning(
        prefixed("model.", trained),
        hyper_parameters={
            "model_name": "shufflenet_v2_x0_5", "lr": 0.1, "class_names": ["a", "b", "c"]
        },
        datamodule_hyper_parameters={
            "img_size": 96, "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]
        },
    )  # fmt: skip
    found = opened(tmp_path / "a.ckpt", saved)
    assert found.model.architecture_source.startswith("checkpoint metadata")
    assert found.model.classes == ("a", "b", "c")
    assert found.classes_source == "hyper_parameters.class_names"
    known = found.model.preprocessing
    assert known is not None
    assert (known.size, known.source) == ((96, 96), "checkpoint: datamodule_hyper_parameters")


@pytest.mark.parametrize("value", [18, {"name": "shufflenet_v2_x0_5"}, None, "mine.Net", ""])
def test_hyperparameters_that_name_no_architecture_do_no_harm(
    value: Any, trained: State, tmp_path: Path
) -> None:
    saved = lightning(prefixed("model.", trained), hyper_parameters={"model": value})
    assert holds(opened(tmp_path / "a.ckpt", saved), trained)


def test_a_choice_that_is_not_there_names_those_that_are(trained: State, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no weights named ema") as error:
        opened(tmp_path / "a.pth", lightning(trained), weights="ema")
    assert "state_dict" in error.value.hint


@pytest.mark.parametrize(
    "text",
    ["<!DOCTYPE html><html>", "\n <HTML>", "\ufeff<html>", "<!-- saved --><html>", "<head><title>"],
)
def test_a_web_page_that_was_saved_as_a_checkpoint_is_called_one(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match="a web page") as error:
        open_checkpoint(tmp_path / "a.pt")
    assert "download" in error.value.hint


def test_views_begin_with_the_keys_as_they_are() -> None:
    views = list(key_views(["a.x", "a.y", "loss.z"], ("module.", "model.")))
    assert [sorted(view.names) for view in views] == [
        ["a.x", "a.y", "loss.z"],
        ["model.a.x", "model.a.y", "model.loss.z"],
        ["module.model.a.x", "module.model.a.y", "module.model.loss.z"],
        ["x", "y"],
        ["z"],
    ]
    assert [view.whole for view in views] == [True, True, True, True, False]
