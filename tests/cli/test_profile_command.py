"""`adabn profile`, and `adapt` with what it wrote, given or found."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

SAMPLES = Path(__file__).resolve().parents[2] / "sample_data"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A weight-normalized net, alone in its folder."""
    return Path(shutil.copy(SAMPLES / "digits_wn.pt", tmp_path / "net.pt"))


def test_without_a_profile_the_error_has_the_command_that_makes_one(command, model):
    done = command("adapt", model, "-t", SAMPLES / "target")
    assert (done.code, done.out) == (3, "")
    assert f"adabn profile {model} --source DIR" in done.err.replace("\n", " ")


def test_a_profile_beside_the_model_is_found(command, model):
    made = command("profile", model, "--source", SAMPLES / "source", "--json")
    assert made.code == 0
    about = json.loads(made.out)
    assert about["path"] == str(model.with_suffix(".profile"))
    assert about["bytes"] == model.with_suffix(".profile").stat().st_size < 400_000
    assert (about["sites"], about["classes"], about["source"]["images"]) == (4, 10, 256)
    done = command("adapt", model, "-t", SAMPLES / "target", "--max-images", "64", "--json")
    assert done.code == 0
    record = json.loads(done.out)
    assert record["method"]["name"] == "matched"
    assert record["method"]["profile"]["found"] == "beside the model"
    assert record["kl"]["before"]["mean"] > record["kl"]["after"]["mean"] > 0
    assert record["kl"]["histogram_before"]["mean"] > 0


def test_source_pictures_will_do_instead_of_a_profile(command, model):
    options = ("--source", SAMPLES / "source", "--max-images", "64", "--json")
    done = command("adapt", model, "-t", SAMPLES / "target", *options)
    assert json.loads(done.out)["method"]["profile"]["found"] == "--source"
    assert not model.with_suffix(".profile").exists()
    both = command("adapt", model, "-t", SAMPLES / "target", *options, "--profile", "x")
    assert both.code == 2


def test_a_profile_that_is_there_is_not_replaced_unasked(command, model):
    out = model.with_suffix(".profile")
    out.write_text("precious")
    options = ("profile", model, "--source", SAMPLES / "source", "--max-images", "16")
    assert command(*options).code == 2
    assert out.read_text() == "precious"
    assert command(*options, "--force", "-q").out.strip() == str(out)
    assert command(*options, "-o", "missing/net.profile").code == 2


def test_the_profile_of_another_model_is_refused(command, model):
    command("profile", model, "--source", SAMPLES / "source", "-o", "wn.profile", "-q")
    target = ("-t", SAMPLES / "target", "--profile", "wn.profile")
    done = command("adapt", SAMPLES / "digits_bn.pt", *target)
    assert done.code == 3
    assert "another architecture" in done.err


def test_a_profile_of_few_classes_is_warned_of(command, model, tmp_path):
    for name in ("0", "1"):
        shutil.copytree(SAMPLES / "source" / name, tmp_path / "two" / name)
    done = command("profile", model, "--source", tmp_path / "two", "--labels", "none")
    assert "profile pictures of all classes" in done.out.replace("\n", " ")
    options = ("--max-images", "32", "--json")
    done = command("adapt", model, "-t", SAMPLES / "target", *options)
    assert any("unevenly" in warning for warning in json.loads(done.out)["warnings"])


def test_inspect_names_the_kind_and_its_rule(command, model):
    told = command("inspect", model).out
    assert "weight_norm: matches the output's mean and variance to a source profile" in told
