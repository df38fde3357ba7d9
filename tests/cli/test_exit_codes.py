"""Every exit code of docs and `adabn report --help`, produced."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from adabn_cli.cli import app
from adabn_cli.record import Record


class _Malice:
    """A pickle of this creates a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def _told_in_three_lines(err):
    lines = err.strip().splitlines()
    return lines[0].startswith("error: ") and len(lines) <= 3 and "Traceback" not in err


def test_a_finished_adaptation_exits_with_0(command, sample_model, few_pictures):
    done = command("adapt", sample_model, "-t", few_pictures, "-o", "run", "-q")
    assert (done.code, done.out) == (0, "run\n")
    assert {file.name for file in Path("run").iterdir()} == {
        "run.json",
        "model.pt",
        "pack.safetensors",
        "predictions.csv",
    }


@pytest.mark.parametrize(
    ("gates", "code"),
    [
        ((), 0),
        (("accuracy_drop>0.5pp",), 0),
        (("accuracy_after<0.99",), 1),
        (("accuracy_after<0.99", "class_drop>100pp"), 1),
        (("collapse", "kl_after_p95<0"), 0),
    ],
)
def test_a_gate_that_fails_exits_with_1(command, sample_run, gates, code):
    options = [word for gate in gates for word in ("--fail-on", gate)]
    assert command("report", sample_run, *options).code == code
    assert command("report", sample_run, *options, "--json").code == code
    assert command("report", sample_run, *options, "-q").code == code


def test_a_gate_that_cannot_be_told_exits_with_4_and_a_failed_one_goes_before(
    command, sample_model, few_pictures
):
    command("adapt", sample_model, "-t", few_pictures, "-o", "run", "--labels", "none")
    assert command("report", "run", "--fail-on", "accuracy_drop>0.5pp").code == 4
    both = ("--fail-on", "accuracy_drop>0.5pp", "--fail-on", "kl_after_mean>0")
    assert command("report", "run", *both).code == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--no-such-option"], "No such option"),
        (["--bach-size", "2"], "--batch-size"),
        (["--batch-size", "0"], "--batch-size"),
        (["--batch-size", "many"], "--batch-size"),
        (["--workers", "-1"], "--workers"),
        (["--max-images", "0"], "--max-images"),
        (["--max-bad", "-3"], "--max-bad"),
        (["--max-bad", "200%"], "--max-bad"),
        (["--mean", "a,b"], "--mean"),
        (["--mean", "nan"], "finite"),
        (["--mean", "127"], "0 to 1"),
        (["--std", "0"], "positive"),
        (["--std", "0.1,0.2"], "--std has 2"),
        (["--img-size", "0"], "--img-size"),
        (["--img-size", "a"], "--img-size"),
        (["--crop-pct", "1.5"], "--crop-pct"),
        (["--interpolation", "magic"], "magic"),
        (["--engine", "magic"], "magic"),
        (["--layers", "nowhere.*"], "nowhere"),
        (["--prior", "-1"], "--prior"),
        (["--prior", "1,2"], "--prior"),
        (["--prior", "some"], "--prior"),
        (["--alpha", "1.5"], "--alpha"),
        (["--momentum", "0.1"], "--engine online"),
        (["--engine", "online", "--momentum", "0"], "--momentum"),
        (["--engine", "online", "--momentum", "0.1", "--prior", "9"], "--prior"),
        (["--alpha", "0.5", "--prior", "1"], "--prior"),
        (["--device", "abacus"], "abacus"),
        (["--arch", "torchvision:resnet18"], "--arch"),
        (["--weights", "ema"], "ema"),
    ],
)
def test_wrong_usage_exits_with_2_and_writes_nothing(
    command, sample_model, few_pictures, options, told
):
    done = command("adapt", sample_model, "-t", few_pictures, "-o", "run", *options)
    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert _told_in_three_lines(done.err)
    assert not list(Path().iterdir())


def test_missing_arguments_and_commands_exit_with_2(command, sample_model):
    assert command("adapt").code == 2
    assert command("adapt", sample_model).code == 2
    assert command("adapted").code == 2
    assert command("report").code == 2  # No run here.


def test_preprocessing_that_nobody_says_exits_with_2(command, shared_data, few_pictures):
    model = shared_data / "checkpoints/ccexam_usps.pth"
    arch = ("--arch", "ccexam.models:USPSNet", "--arch-args", "input_size=16")
    done = command("adapt", model, *arch, "-t", few_pictures)
    assert done.code == 2
    assert "--img-size --mean --std" in done.err


@pytest.mark.parametrize("make", [None, b"", b"not a model", b"PK\x03\x04cut off"])
def test_a_model_that_cannot_be_opened_exits_with_3(command, few_pictures, make):
    if make is not None:
        Path("model.pt").write_bytes(make)
    for done in (command("adapt", "model.pt", "-t", few_pictures), command("inspect", "model.pt")):
        assert done.code == 3
        assert "model.pt" in done.err
        assert _told_in_three_lines(done.err)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_exits_with_3_and_creates_no_file(command, few_pictures, zipped):
    content = {"state_dict": _Malice(Path("made").absolute())}
    torch.save(content, "model.pt", _use_new_zipfile_serialization=zipped)
    for done in (
        command("adapt", "model.pt", "-t", few_pictures, "--json"),
        command("inspect", "model.pt"),
        command("evaluate", "model.pt", "-d", few_pictures),
    ):
        assert done.code == 3
        assert "open" in done.out + done.err, "it names what would be used"
    assert [path.name for path in Path().iterdir()] == ["model.pt"]


def test_a_model_without_normalizers_exits_with_3_and_is_explained(
    command, shared_data, few_pictures
):
    model = shared_data / "checkpoints/ccexam_mnist_no_bn.pth"
    arch = ("--arch", "ccexam.models:MNISTNet", "--arch-args", "input_size=28")
    given = ("--img-size", 28, "--mean", 0.5, "--std", 0.5)
    done = command("adapt", model, *arch, "-t", few_pictures, *given)
    assert done.code == 3
    assert "nothing to adapt" in done.err


def test_a_folder_without_a_readable_picture_exits_with_3(command, sample_model):
    Path("empty").mkdir()
    Path("broken/7").mkdir(parents=True)
    Path("broken/7/a.png").write_bytes(b"no picture")
    for folder in ("empty", "broken", "absent"):
        done = command("adapt", sample_model, "-t", folder, "-o", "run")
        assert done.code == 3, folder
        assert _told_in_three_lines(done.err)
    assert not Path("run").exists()


def test_folders_that_are_no_classes_of_the_model_exit_with_3(command, sample_model, few_pictures):
    shutil.copytree(few_pictures, "target")
    Path("target/7").rename("target/seven")
    done = command("adapt", sample_model, "-t", "target")
    assert done.code == 3
    assert "seven" in done.err
    assert "--class-map" in done.err


def test_a_folder_that_cannot_be_written_exits_with_3_before_the_work(
    command, sample_model, few_pictures, monkeypatch
):
    Path("file").write_text("")
    monkeypatch.setattr("adabn_cli.jobs.adapt.prepare.open_model", lambda request: 1 / 0)
    for out in ("file/run", "/proc/version/run"):
        done = command("adapt", sample_model, "-t", few_pictures, "-o", out)
        assert (done.code, done.out) == (3, "")


def test_evaluate_without_labels_exits_with_4(command, sample_model, few_pictures):
    done = command("evaluate", sample_model, "-d", few_pictures, "--labels", "none")
    assert (done.code, done.out) == (4, "")
    assert "--labels" in done.err


def test_a_bug_exits_with_70(command, sample_run, monkeypatch):
    def broken(path: Path) -> Record:
        raise RuntimeError("a screw is loose\nand another")

    monkeypatch.setattr("adabn_cli.record.run_folder.read_record", broken)
    done = command("report", sample_run)
    assert (done.code, done.out) == (70, "")
    assert "RuntimeError: a screw is loose" in done.err
    assert _told_in_three_lines(done.err)
    assert "Traceback" in command("report", sample_run, "--debug").err


def test_an_interrupt_exits_with_130(command, sample_run, monkeypatch):
    def interrupted(path: Path) -> Record:
        raise KeyboardInterrupt

    monkeypatch.setattr("adabn_cli.record.run_folder.read_record", interrupted)
    assert command("report", sample_run).code == 130


def test_exit_codes_are_in_the_help_of_report(command):
    told = command("report", "--help").out
    for code in ("0", "1", "2", "3", "4", "70", "130, 143"):
        assert f" {code}  " in told, code


def test_every_command_is_known_to_these_tests():
    assert {command.callback.__name__ for command in app.app.registered_commands} == {
        *("adapt", "report", "inspect", "evaluate", "profile", "apply", "convert", "watch", "demo"),
        *("collect", "merge"),
    }
