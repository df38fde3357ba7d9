from __future__ import annotations

import zipfile
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from adabn_cli.errors import ModelError, UsageError
from adabn_cli.models.checkpoint import Checkpoint
from adabn_cli.models.open_checkpoint import open_checkpoint

REAL = (
    "2.7_80x80_MiniFASNetV2.pth",
    "ccexam_mnist_no_bn.pth",
    "ccexam_svhn.pth",
    "ccexam_usps.pth",
    "resnet32-d509ac18.th",
    "version-slim-320.pth",
)


def small_state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return dict(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).state_dict())


def save(path: Path, saved: object, kind: str) -> Path:
    if kind == "safetensors":
        safetensors.torch.save_file(saved, path)
    else:
        torch.save(saved, path, _use_new_zipfile_serialization=kind == "torch-zip")
    return path


def noise(entries: dict[str, Tensor]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        key: torch.rand(value.shape, generator=generator)
        for key, value in entries.items()
        if value.is_floating_point()
    }


def assert_only_changed(before: Checkpoint, after: Checkpoint, changed: dict[str, Tensor]) -> None:
    assert list(after.entries) == list(before.entries)
    for key, value in before.entries.items():
        expected = changed[key].to(value.dtype) if key in changed else value
        assert torch.equal(after.entries[key], expected), key


@pytest.mark.parametrize("name", REAL)
def test_real_checkpoints_come_back_to_the_byte(
    name: str, shared_data: Path, tmp_path: Path
) -> None:
    source = shared_data / "checkpoints" / name
    before = open_checkpoint(source)
    changed = {k: v for k, v in noise(before.entries).items() if "running" in k or "bias" in k}
    before.write(tmp_path / "changed.pth", changed)
    after = open_checkpoint(tmp_path / "changed.pth")
    assert_only_changed(before, after, changed)
    after.write(tmp_path / "back.pth", {key: before.entries[key] for key in changed})
    assert (tmp_path / "back.pth").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("kind", ["torch-zip", "torch-legacy", "safetensors"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_every_container_and_dtype_is_patched_in_place(
    kind: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in small_state().items()}
    source = save(tmp_path / "model.bin", state, kind)
    before = open_checkpoint(source)
    changed = {"1.running_mean": torch.tensor([1.5, -2.0, 0.25, 8.0])}
    before.write(tmp_path / "out", changed)
    after = open_checkpoint(tmp_path / "out")
    assert (before.kind, after.kind) == (kind, kind)
    assert after.entries["1.running_mean"].dtype == dtype
    assert_only_changed(before, after, changed)
    differing = sum(
        a != b for a, b in zip(source.read_bytes(), (tmp_path / "out").read_bytes(), strict=True)
    )
    # 4 values, and a CRC of 4 bytes in two places.
    assert 0 < differing <= 4 * dtype.itemsize + 8
    after.write(tmp_path / "back", {"1.running_mean": before.entries["1.running_mean"]})
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    if kind == "torch-zip":
        assert zipfile.ZipFile(tmp_path / "out").testzip() is None


@pytest.mark.parametrize("kind", ["torch-zip", "torch-legacy"])
def test_strided_and_shared_tensors_are_patched_through_their_strides(
    kind: str, tmp_path: Path
) -> None:
    whole = torch.arange(24.0).reshape(4, 6)
    saved = {"left": whole[:, :3], "turned": whole[:, 3:].T, "whole": whole, "same": whole}
    before = open_checkpoint(save(tmp_path / "a.pth", saved, kind))
    before.write(tmp_path / "b.pth", {"turned": -torch.ones(3, 4), "left": torch.zeros(4, 3)})
    after = open_checkpoint(tmp_path / "b.pth")
    expected = torch.cat([torch.zeros(4, 3), -torch.ones(4, 3)], dim=1)
    assert torch.equal(after.entries["whole"], expected)
    assert torch.equal(after.entries["same"], expected)
    with pytest.raises(ModelError, match="share their memory"):
        before.write(tmp_path / "c.pth", {"same": expected, "whole": expected + 1})
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.pth", "b.pth"]


def test_a_compressed_zip_is_saved_anew(tmp_path: Path) -> None:
    plain = save(tmp_path / "plain.pth", {"state_dict": small_state(), "epoch": 3}, "torch-zip")
    packed = zipfile.ZipFile(tmp_path / "packed.pth", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(plain) as old, packed as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
    before = open_checkpoint(tmp_path / "packed.pth")
    changed = {"1.running_var": torch.full((4,), 2.0)}
    before.write(tmp_path / "out.pth", changed)
    after = open_checkpoint(tmp_path / "out.pth")
    assert_only_changed(before, after, changed)
    assert after.root["epoch"] == 3


def test_a_whole_torchvision_module_loads_without_trust_and_is_patched(tmp_path: Path) -> None:
    import torchvision

    network = torchvision.models.resnet18(num_classes=3).eval()
    torch.save(network, tmp_path / "a.pt")
    before = open_checkpoint(tmp_path / "a.pt")
    assert isinstance(before.module, type(network))
    assert not before.entries
    assert not before.trusted_pickle
    mean = torch.linspace(-1, 1, 64)
    before.write(tmp_path / "b.pt", {"bn1.running_mean": mean})
    after = open_checkpoint(tmp_path / "b.pt").module
    assert after is not None
    expected = network.state_dict() | {"bn1.running_mean": mean}
    for key, value in after.state_dict().items():
        assert torch.equal(value, expected[key]), key
    with torch.no_grad():
        assert torch.equal(before.module(torch.ones(1, 3, 64, 64)),
                           network(torch.ones(1, 3, 64, 64)))  # fmt: skip


def test_a_whole_timm_module_loads_without_trust(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    torch.save({"model": timm.create_model("resnet10t", num_classes=5)}, tmp_path / "a.pt")
    opened = open_checkpoint(tmp_path / "a.pt")
    assert opened.module is not None
    assert opened.metadata.architecture == "timm:resnet10t"
    assert opened.metadata.preprocessing is not None


def test_a_module_in_data_parallel_is_unwrapped(tmp_path: Path) -> None:
    torch.save({"model": nn.DataParallel(nn.BatchNorm2d(2))}, tmp_path / "a.pt")
    opened = open_checkpoint(tmp_path / "a.pt")
    assert isinstance(opened.module, nn.BatchNorm2d)
    assert opened.weights == "model"


@pytest.mark.parametrize(
    "key", ["", "state_dict", "model", "model_state_dict", "net", "state_dict_ema", "my_net"]
)
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.", "module._orig_mod."])
def test_state_dicts_are_found_under_the_usual_keys_and_prefixes(
    key: str, prefix: str, tmp_path: Path
) -> None:
    state = OrderedDict((prefix + name, value) for name, value in small_state().items())
    optimizer = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []}
    saved = {key: state, "epoch": 3, "optimizer": optimizer} if key else state
    opened = open_checkpoint(save(tmp_path / "a.pth", saved, "torch-zip"))
    assert list(opened.entries) == list(small_state())
    assert opened.weights == key
    opened.write(tmp_path / "b.pth", {"1.bias": torch.ones(4)})
    assert torch.equal(open_checkpoint(tmp_path / "b.pth").entries["1.bias"], torch.ones(4))


def test_a_prefix_that_not_all_keys_share_stays(tmp_path: Path) -> None:
    saved = {"model.weight": torch.ones(2), "criterion.weight": torch.ones(2)}
    opened = open_checkpoint(save(tmp_path / "a.pth", saved, "torch-zip"))
    assert list(opened.entries) == list(saved)


def test_the_average_is_taken_unless_the_trained_weights_are_asked_for(tmp_path: Path) -> None:
    averaged = {"n_averaged": torch.tensor(4)} | {
        f"module.{key}": value + 1 for key, value in small_state().items()
    }
    saved = {"model_ema": averaged, "model": small_state()}
    path = save(tmp_path / "a.pth", saved, "torch-zip")
    trained, average = open_checkpoint(path, weights="model"), open_checkpoint(path)
    assert (trained.weights, average.weights) == ("model", "model_ema")
    assert torch.equal(average.entries["1.bias"], trained.entries["1.bias"] + 1)
    assert open_checkpoint(path, weights="ema").weights == "model_ema"
    assert average.metadata.notes[-1].endswith("there are also model (--weights model)")
    average.write(tmp_path / "b.pth", {"1.bias": torch.full((4,), 9.0)})
    kept = open_checkpoint(tmp_path / "b.pth", weights="model").entries["1.bias"]
    assert torch.equal(kept, torch.zeros(4))
    with pytest.raises(UsageError, match="no weights named nothing"):
        open_checkpoint(path, weights="nothing")


def test_several_sets_of_unknown_names_are_not_chosen_from(tmp_path: Path) -> None:
    saved = {"student": small_state(), "teacher": small_state()}
    path = save(tmp_path / "a.pth", saved, "torch-zip")
    with pytest.raises(ModelError, match="several sets of weights: student, teacher"):
        open_checkpoint(path)
    assert open_checkpoint(path, weights="teacher").weights == "teacher"


def test_training_leftovers_do_not_need_trust(tmp_path: Path) -> None:
    import numpy as np

    saved = {
        "state_dict": small_state(),
        "args": Namespace(data=Path("data/train"), lr=0.1),
        "best_acc1": np.float64(0.75),
        "history": np.arange(3, dtype=np.float32),
    }
    for kind in ("torch-zip", "torch-legacy"):
        opened = open_checkpoint(save(tmp_path / kind, saved, kind))
        assert opened.root["best_acc1"] == 0.75
        assert opened.root["history"].tolist() == [0, 1, 2]
        assert opened.root["args"].lr == 0.1


def test_unusable_values_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    state = {key: value.half() for key, value in small_state().items()}
    opened = open_checkpoint(save(tmp_path / "a.pth", state, "torch-zip"))
    for changed, message in (
        ({"2.weight": torch.ones(4)}, "no such entry"),
        ({"1.running_var": torch.ones(5)}, "5 values are given for an entry of 4"),
        ({"1.running_var": torch.full((4,), 1e5)}, "too large for the float16"),
    ):
        with pytest.raises(ModelError, match=message):
            opened.write(tmp_path / "b.pth", changed)
    (tmp_path / "a.pth").write_bytes((tmp_path / "a.pth").read_bytes() + b"\0")
    with pytest.raises(ModelError, match="changed since it was opened"):
        opened.write(tmp_path / "b.pth", {"1.running_var": torch.ones(4)})
    assert [file.name for file in tmp_path.iterdir()] == ["a.pth"]


def test_writing_over_an_existing_file_replaces_it_whole(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", small_state(), "torch-zip")
    open_checkpoint(path).write(path, {"1.bias": torch.ones(4)})
    assert torch.equal(open_checkpoint(path).entries["1.bias"], torch.ones(4))
