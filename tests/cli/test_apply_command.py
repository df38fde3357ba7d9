"""A pack goes into its model and comes out again, to the byte; no other model takes it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from learned_statistics import learned
from safetensors.torch import save_file

from adabn_cli.model import statistics_of
from adabn_cli.models.open import ModelRequest, open_model

_ARCH = """
from torch import nn

def net(width=8):
    return nn.Sequential(
        nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(width, 10),
    )
"""
_GIVEN = ("--img-size", 16, "--mean", 0.5, "--std", 0.5)


def _model(kind: str, *, seed: int = 0, width: int = 8) -> tuple[Path, tuple[str, ...]]:
    Path("arch.py").write_text(_ARCH)
    names: dict[str, object] = {}
    exec(_ARCH, names)
    torch.manual_seed(seed)
    state = learned(names["net"](width)).state_dict()
    path = Path(f"{kind}-{seed}-{width}" + (".safetensors" if kind == "safetensors" else ".pth"))
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "torch-zip")
    return path, ("--arch", "arch.py:net", "--arch-args", f"width={width}")


@pytest.mark.parametrize("kind", ["torch-zip", "torch-legacy", "safetensors"])
def test_put_in_and_taken_out_is_the_input_to_the_byte(command, few_pictures, kind):
    model, arch = _model(kind)
    assert command("adapt", model, *arch, "-t", few_pictures, "-o", "run", *_GIVEN).code == 0
    pack, suffix = "run/pack.safetensors", model.suffix
    original = model.read_bytes()
    assert command("apply", model, pack, *arch, "-o", f"in{suffix}", "-q").out == f"in{suffix}\n"
    adapted = Path(f"in{suffix}")
    assert adapted.read_bytes() == Path(f"run/model{suffix}").read_bytes() != original
    out = command("apply", adapted, pack, *arch, "-o", f"out{suffix}", "--revert")
    assert out.code == 0
    assert Path(f"out{suffix}").read_bytes() == original == model.read_bytes()


def test_the_written_checkpoint_differs_in_its_statistics_only(sample_model, sample_run):
    before, after = (
        open_model(ModelRequest(path)).model for path in (sample_model, sample_run / "model.pt")
    )
    statistics = {site.name: site.keys for site in before.sites}
    keys = {key for places in statistics.values() for key in places.values()}
    assert len(statistics_of(before)) == 8
    for key, value in before.state().items():
        assert torch.equal(value, after.state()[key]) == (key not in keys), key


def test_a_pack_is_refused_by_any_other_model(command, few_pictures):
    model, arch = _model("torch-zip")
    command("adapt", model, *arch, "-t", few_pictures, "-o", "run", *_GIVEN)
    weights, _ = _model("torch-zip", seed=1)
    wider, wider_arch = _model("torch-zip", width=9)
    for other, its_arch, told in (
        (weights, arch, "other weights"),
        (wider, wider_arch, "another architecture"),
    ):
        done = command("apply", other, "run/pack.safetensors", *its_arch, "-o", "out.pth")
        assert done.code == 3
        assert told in done.err
    never = command("apply", model, "run/pack.safetensors", *arch, "-o", "out.pth", "--revert")
    assert never.code == 3
    assert "does not hold this pack" in never.err
    for no_pack in (model, "run/run.json", "run", "absent"):
        assert command("apply", model, no_pack, *arch, "-o", "out.pth").code == 3
    assert not Path("out.pth").exists()


def test_files_are_overwritten_only_where_asked_and_the_input_never(
    command, sample_model, sample_run
):
    model = Path("model.pt")
    model.write_bytes(sample_model.read_bytes())
    pack = sample_run / "pack.safetensors"
    Path("there.pt").write_text("")
    Path("folder").mkdir()
    for out, code in (("model.pt", 2), ("there.pt", 2), ("folder", 2), ("absent/out.pt", 2)):
        assert command("apply", model, pack, "-o", out).code == code, out
    assert command("apply", model, pack, "-o", "model.pt", "--force").code == 2
    assert command("apply", model, pack, "-o", "there.pt", "--force").code == 0
    assert model.read_bytes() == sample_model.read_bytes()


def test_a_pack_in_the_source_model_scores_like_the_adapted_one(
    command, sample_model, sample_run, few_pictures
):
    scored = command(
        *("evaluate", sample_model, "-d", few_pictures, "-q"),
        *("--pack", sample_run / "pack.safetensors"),
    )
    adapted = command("evaluate", sample_run / "model.pt", "-d", few_pictures, "-q")
    assert scored.out == adapted.out != ""
