"""`adapt --until-converged`: the pack of as many pictures as it settled on, and what it says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from adabn_cli.data import open as folder_module
from adabn_cli.jobs.adapt import converged, journal, memory_plan, writing


def files(folder: str) -> dict[str, bytes]:
    return {x.name: x.read_bytes() for x in Path(folder).iterdir() if x.name != "run.json"}


def record(folder: str) -> dict:
    return json.loads((Path(folder) / "run.json").read_text())


@pytest.mark.parametrize(
    "options", [("--until-converged", 0.06), ("--until-converged", 0.06, "--seed", 3, "-b", 50)]
)
def test_it_writes_what_max_images_writes(command, sample_model, sample_data, options):
    given = ("adapt", sample_model, "-t", sample_data / "target")
    done = command(*given, *options, "-o", "run")
    assert done.code == 0
    assert "Enough pictures: the worst site, 13, is at" in done.out
    found = record("run")
    drawn = found["target"]["subsample"]["drawn"]
    assert command(*given, "--max-images", drawn, *options[2:], "-o", "same").code == 0
    assert files("run") == files("same")
    size, same = found.pop("sample_size"), record("same")
    assert size["tolerance"] == 0.06
    assert [one["images"] for one in size["rounds"]] == [64, drawn]
    assert size["rounds"][0]["error"] > 0.06 >= size["rounds"][1]["error"]
    assert same.pop("sample_size")["rounds"] == []
    assert found.pop("run")["seconds_by_stage"]["search"] > 0
    same.pop("run")
    assert found == same


@pytest.mark.parametrize("kept", [1 << 30, 6400], ids=["in memory", "later on disk"])
def test_no_picture_is_decoded_twice_over_three_rounds(
    command, sample_model, sample_data, monkeypatch, kept
):
    decoded: list[str] = []
    decode = folder_module.decode

    def counted(opening, *asked):
        stream = opening()
        decoded.append(stream.name)
        return decode(lambda: stream, *asked)

    monkeypatch.setattr(folder_module, "decode", counted)
    monkeypatch.setattr(memory_plan, "MEMORY_BYTES", kept)
    monkeypatch.setattr(converged, "_MARGIN", 0.0)  # Half as many again each round: 64, 96, 144.
    shutil.copytree(sample_data / "target", "pictures")
    for broken in sorted(Path("pictures").rglob("*.png"))[::30]:
        broken.write_bytes(b"not a picture")
    given = ("adapt", sample_model, "-t", "pictures", "--max-bad", "20%", "--workers", 2)
    assert command(*given, "--until-converged", 0.09, "-o", "run").code == 0
    found = record("run")
    assert len(found["sample_size"]["rounds"]) == 3
    drawn = found["target"]["subsample"]["drawn"]
    assert len(decoded) == len(set(decoded)) == drawn
    assert found["target"]["skipped"]
    assert command(*given, "--max-images", drawn, "-o", "same").code == 0
    assert files("run") == files("same")
    assert found["target"] == record("same")["target"]


def test_all_pictures_are_taken_where_none_are_enough(command, sample_model, few_pictures):
    given = ("adapt", sample_model, "-t", few_pictures)
    done = command(*given, "--until-converged", 0.001, "-o", "run")
    assert done.code == 0
    told = " ".join(done.out.split())
    size = record("run")["sample_size"]
    assert f"About {size['enough'] - 40:,} more are needed." in told
    assert [one["images"] for one in size["rounds"]] == [40]
    assert command(*given, "-o", "all").code == 0
    assert files("run") == files("all")


@pytest.mark.parametrize("most", [20, 100])
def test_no_more_than_max_images_are_drawn(command, sample_model, sample_data, most):
    given = ("adapt", sample_model, "-t", sample_data / "target", "--max-images", most)
    assert command(*given, "--until-converged", 0.01, "-o", "run").code == 0
    assert command(*given, "-o", "plain").code == 0
    assert files("run") == files("plain")


def test_one_picture_tells_nothing_of_its_means(command, sample_model, few_pictures):
    given = ("adapt", sample_model, "-t", few_pictures, "--max-images", 1)
    done = command(*given, "--until-converged", 0.1, "-o", "run")
    assert done.code == 0
    assert "cannot be told from one picture" in " ".join((done.out + done.err).split())


@pytest.mark.parametrize("tolerance", ["0", "-0.1", "nan", "inf", "few"])
def test_what_is_no_tolerance_is_wrong_usage(command, sample_model, few_pictures, tolerance):
    done = command("adapt", sample_model, "-t", few_pictures, "--until-converged", tolerance)
    assert done.code == 2
    assert "--until-converged" in done.err
    assert not list(Path().iterdir())


def test_it_can_be_set_elsewhere_and_is_planned(command, sample_model, sample_data, monkeypatch):
    given = ("adapt", sample_model, "-t", sample_data / "target", "--dry-run", "--json")
    assert "until_converged" not in json.loads(command(*given).out)["plan"]
    Path("adabn.toml").write_text("until-converged = 0.07\n")
    planned = json.loads(command(*given).out)["plan"]
    assert (planned["until_converged"], planned["images"]) == (0.07, 64)
    monkeypatch.setenv("ADABN_UNTIL_CONVERGED", "0.08")
    assert json.loads(command(*given).out)["plan"]["until_converged"] == 0.08
    assert "plan of the first round" in command(*given[:-1]).out


def test_a_stopped_run_goes_on_to_the_same_bytes(command, sample_model, sample_data, monkeypatch):
    given = ("adapt", sample_model, "-t", sample_data / "target", "--until-converged", 0.08)
    assert command(*given, "-o", "whole").code == 0

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(journal, "_SHARE", 1e12)
        patched.setattr(writing, "_write_files", stopped)
        assert command(*given, "-o", "run").code == 130
    shutil.copytree("run.partial", "kept")
    assert command(*given, "--resume", "run").code == 0
    assert files("run") == files("whole")
    shutil.rmtree("run")
    shutil.move("kept", "run.partial")
    other = command(*given[:-1], 0.05, "--resume", "run")
    assert other.code == 2
    assert "another run: other pictures" in other.err
