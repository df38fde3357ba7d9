"""What changes the result is said where people look: in every rendering, with its count."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

_INPUT = ("--img-size", 8, "--mean", "0,0,0", "--std", "1,1,1")
_EXIF_ORIENTATION = 0x0112


def net() -> nn.Module:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3)
    norm.running_mean.fill_(0.45)
    norm.running_var.fill_(0.07)
    norm.num_batches_tracked.fill_(9)
    return nn.Sequential(norm, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4)).eval()


def pixels(seed: int = 0) -> Image.Image:
    drawn = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(drawn)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.jit.script(net()).save(str(tmp_path / "net.pt"))
    return tmp_path / "net.pt"


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """40 pictures in four classes, each oddity in a number of its own, and files left out."""
    folder = tmp_path / "odd"
    for index in range(40):
        place = folder / str(index % 4)
        place.mkdir(parents=True, exist_ok=True)
        pixels(index).save(place / f"{index:03}.png")
    for index in range(3):
        pixels(100 + index).convert("RGBA").save(folder / "0" / f"alpha{index}.png")
    for index in range(5):
        exif = Image.Exif()
        exif[_EXIF_ORIENTATION] = 6
        pixels(200 + index).save(folder / "1" / f"turned{index}.jpg", exif=exif)
    for index in range(2):
        pages = [pixels(300 + page) for page in range(4)]
        pages[0].save(folder / "2" / f"pages{index}.tif", save_all=True, append_images=pages[1:])
    for name in [f"{index}.HEIC" for index in range(7)] + ["notes.txt", "a.xmp"]:
        (folder / "3" / name).write_bytes(b"no picture")
    (folder / "3" / "broken.png").write_bytes(b"no picture")
    return folder


#: Each fact of `odd` as it is told, with its count.
_FACTS = (
    "9 files: 7 .heic, 1 .txt, 1 .xmp; 6 pages or frames",
    "5 EXIF rotation",
    "3 alpha dropped",
    "2 first frame of several",
)
_SENTENCES = (
    "9 files were left out, by suffix: 7 .heic, 1 .txt, 1 .xmp. .heic cannot be read: convert "
    "them, for example to .png.",
    "6 pages or frames were left out: of a file that holds several the first is taken.",
    "1 picture could not be read",
)


def flat(text: str) -> str:
    """Without line breaks and markup, which cut a sentence into several."""
    if text.startswith("<?xml"):
        elements = [*ElementTree.fromstring(text).iter()]
        text = " ".join(word for one in elements for word in [*one.attrib.values(), one.text or ""])
    text = re.sub(r"</?[a-z][^<>]*>|[\\`]", "", html.unescape(text))
    return re.sub(r"\s+", " ", text)


def test_every_rendering_tells_what_became_of_the_files(command, model, odd, tmp_path):
    run = command("adapt", model, "-t", odd, "-o", "run", *_INPUT, "--max-bad", 1)
    assert run.code == 0, run.err
    files = [f"--{kind}={kind}" for kind in ("md", "junit", "html")]
    shown = command("report", "run", *files)
    told = {"adapt": run.out, "report": shown.out} | {
        kind: (tmp_path / kind).read_text(encoding="utf-8") for kind in ("md", "junit", "html")
    }
    missing = [
        (where, sentence)
        for where, text in told.items()
        for sentence in (*_FACTS, *_SENTENCES)
        if sentence not in flat(text)
    ]
    assert not missing
    target = json.loads((tmp_path / "run" / "run.json").read_text())["target"]
    assert target["left_out"] == {".heic": 7, ".txt": 1, ".xmp": 1}
    assert (target["other_files"], target["frames_left_out"]) == (9, 6)


@pytest.mark.parametrize("job", ["evaluate", "profile", "collect", "plan"])
def test_other_commands_tell_the_same(command, model, odd, job):
    arguments = {
        "evaluate": ("evaluate", model, "--data", odd),
        "profile": ("profile", model, "--source", odd, "-o", "p.profile"),
        "collect": ("collect", model, "--target", odd, "--shard", "1/1", "-o", "s.safetensors"),
        "plan": ("adapt", model, "--target", odd, "--dry-run", "-o", "run"),
    }[job]
    done = command(*arguments, *_INPUT, "--max-bad", 1)
    assert done.code == 0, done.err
    text = flat(done.out + done.err)
    for told in ("7 .heic, 1 .txt, 1 .xmp", "5 EXIF rotation", *_SENTENCES[:2]):
        assert told in text


@pytest.mark.parametrize(
    ("option", "whose"), [("--eval", "Of the held-out pictures"), ("--source", "Of the source")]
)
def test_other_pictures_of_a_run_are_told_of_too(command, model, odd, tmp_path, option, whose):
    folder = tmp_path / "plain"
    folder.mkdir()
    for index in range(8):
        pixels(index).save(folder / f"{index}.png")
    arguments = ("--target", folder, option, odd, "--max-bad", 1, "-o", "run")
    done = command("adapt", model, *arguments, *_INPUT)
    assert done.code == 0, done.err
    assert f"{whose}: {_SENTENCES[0]}" in flat(done.out)


def test_a_watched_folder_counts_them_at_the_end(command, model, odd):
    done = command("watch", model, odd, "-o", "packs", "--once", "--interval", 0.01, *_INPUT)
    (stopped,) = [
        event for event in map(json.loads, done.out.splitlines()) if event["event"] == "stopped"
    ]
    assert stopped["left_out"] == {".heic": 7, ".txt": 1, ".xmp": 1}
    assert stopped["converted"]["EXIF rotation"] == 5


@pytest.mark.parametrize(
    ("others", "warns"),
    [
        pytest.param(["a.txt", "b.json", "c.csv", "README"], False, id="sidecars-and-one-more"),
        pytest.param([f"{n}.txt" for n in range(40)], False, id="a-sidecar-for-each-picture"),
        pytest.param(["a.heic"], True, id="one-picture-that-cannot-be-read"),
        pytest.param(["a.wmv"], True, id="one-video-that-cannot-be-read"),
        pytest.param([f"{n}.xyz" for n in range(10)], True, id="many-of-an-unknown-kind"),
    ],
)
def test_a_warning_is_for_what_may_be_pictures(command, model, tmp_path, others, warns):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(40):
        pixels(index).save(folder / f"{index}.png")
    for name in others:
        (folder / name).write_bytes(b"")
    done = command("adapt", model, "-t", folder, "--dry-run", "--json", *_INPUT)
    plan = json.loads(done.out)["plan"]
    assert any("left out" in warning for warning in plan["warnings"]) is warns
    assert sum(int(text.split()[0]) for text in plan["left_out"]) == len(others)


def test_dicom_files_without_a_suffix_are_missed(command, model, tmp_path):
    from adabn_cli.data.intake_warnings import left_out_warning

    told = left_out_warning({"": 3}, {".dcm": 90, ".dicom": 0}, 90)
    assert told is not None
    assert "3 files were left out, by suffix: 3 without suffix." in told
    assert "name them .dcm" in told
    assert left_out_warning({"": 3}, {".dcm": 0, ".dicom": 0, ".png": 90}, 90) is None


@pytest.mark.parametrize(
    ("folders", "each", "pooled"),
    [
        pytest.param([f"cam{n}" for n in range(1, 9)], 8, True, id="eight-cameras"),
        pytest.param(["cam1/0", "cam1/1", "cam2/0", "cam2/1"], 1, True, id="cameras-of-classes"),
        pytest.param(["0", "1", "2", "3"], 8, False, id="classes"),
        pytest.param(["a", "b", "c", "d"], 8, False, id="as-many-as-classes"),
        pytest.param(["a", "b"], 3, False, id="few-pictures-each"),
        pytest.param(["a"], 30, False, id="one-folder"),
    ],
)
def test_a_folder_of_cameras_is_told_from_classes(command, model, tmp_path, folders, each, pooled):
    for place, folder in enumerate(folders):
        (tmp_path / "cams" / folder).mkdir(parents=True)
        for index in range(each):
            pixels(100 * place + index).save(tmp_path / "cams" / folder / f"{index}.png")
    done = command("adapt", model, "-t", tmp_path / "cams", "--dry-run", "--json", *_INPUT)
    told = json.loads(done.out)["plan"]["warnings"]
    found = [text for text in told if "look like separate targets" in text]
    assert bool(found) is pooled
    if pooled and len(folders) == 8:
        assert found[0].startswith(
            "cams holds 8 folders that look like separate targets (cam1, cam2, cam3, cam4 and 4 "
            "more); they were pooled into one run."
        )


def test_junit_has_the_time_of_the_run(command, model, odd, tmp_path):
    command("adapt", model, "-t", odd, "-o", "run", *_INPUT, "--max-bad", 1)
    command("report", "run", "--junit=gates.xml", "--fail-on=collapse", "--fail-on=images<1")
    suite = ElementTree.parse(tmp_path / "gates.xml").getroot()[0]
    seconds = json.loads((tmp_path / "run" / "run.json").read_text())["run"]["seconds"]
    assert float(suite.get("time")) == pytest.approx(seconds, abs=1e-3)
    assert sum(float(case.get("time")) for case in suite.iter("testcase")) == pytest.approx(
        seconds, abs=2e-3
    )


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        pytest.param(("--prior", 16), "prior 16, and none in the other run", id="prior"),
        pytest.param(("--alpha", 0.5), "alpha 0.5, and none in the other run", id="alpha"),
        pytest.param(("--engine", "one-pass"), "engine one-pass, and exact", id="engine"),
        pytest.param(("--batch-size", 7), "batch size 7, and 32", id="batch-size"),
        pytest.param(("--labels", "none"), "labels none, and folder names", id="labels"),
        pytest.param(("--interpolation", "bicubic"), "interpolation bicubic, and", id="resizing"),
    ],
)
def test_runs_side_by_side_name_the_setting_that_differs(command, model, odd, asked, told):
    for run, more in (("one", ()), ("two", asked)):
        done = command("adapt", model, "-t", odd, "-o", run, *_INPUT, "--max-bad", 1, *more)
        assert done.code == 0, done.err
    (difference,) = [
        text
        for text in json.loads(command("report", "one", "two", "--json").out)["differences"]
        if told in text
    ]
    assert difference.startswith("run 2, beside run 1: ")
    command("report", "one", "two", "--md=both.md")
    assert told in flat(command("report", "one", "two").out)
    assert told in flat(Path("both.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        pytest.param(("labels", "Too close to tell: accuracy +0.1 points."), 0, id="close"),
        pytest.param(("profile", "Too close to tell: an estimated +0.1."), 0, id="estimated"),
        pytest.param(("profile", "7 images are too few to tell."), 4, id="too-few"),
        pytest.param(("none", "No labels: cannot be told."), 4, id="no-labels"),
    ],
)
def test_a_close_verdict_has_a_setting_of_its_own(command, tmp_path, verdict, code):
    record = json.loads((Path(__file__).parents[1] / "records" / "schema_1.json").read_text())
    basis, sentence = verdict
    record["verdict"] = {"outcome": "cannot tell", "basis": basis, "sentence": sentence}
    (tmp_path / "run.json").write_text(json.dumps(record))
    gate = ("report", "run.json", "--fail-on", "verdict==harm")
    assert command(*gate).code == 4
    allowed = command(*gate, "--allow-close-verdict")
    assert allowed.code == code
    assert ("--allow-close-verdict lets pass" in flat(allowed.out)) is (code == 0)
    (tmp_path / "adabn.toml").write_text("[gates]\nallow-close-verdict = true\n")
    assert command(*gate).code == code


def test_files_of_a_report_name_no_place_on_this_machine(command, model, odd, tmp_path):
    """The same work in two folders gives the same text, but for what differs in time."""
    command("adapt", model, "-t", odd, "-o", tmp_path / "run", *_INPUT, "--max-bad", 1)
    kinds = ("md", "junit", "html", "model-card", "openmetrics")
    for paths, told in (("relative", False), ("absolute", True)):
        files = [f"--{kind}={paths}.{kind}" for kind in kinds]
        assert command("report", tmp_path / "run", *files, "--paths", paths).code == 0
        texts = {kind: Path(f"{paths}.{kind}").read_text(encoding="utf-8") for kind in kinds}
        named = {kind for kind in kinds if str(tmp_path) in texts[kind]}
        assert (named >= {"md", "junit", "html", "model-card"}) if told else not named
        assert ("../net.pt" in texts["md"]) is not told


def test_paths_of_a_run_whose_folder_is_not_known_in_full_leave_their_names():
    from adabn_cli.record import Record
    from adabn_cli.reports.portable_paths import portable

    text = (Path(__file__).parents[1] / "records" / "schema_1.json").read_text(encoding="utf-8")
    record = Record.model_validate_json(text)
    absolute = record.model_copy(
        update={
            "model": record.model.model_copy(update={"path": "/a/b/net.pt"}),
            "target": record.target.model_copy(update={"path": "/a/b"}),
            "warnings": ("/a/b/net.pt and /a/b and /a/bc are three.",),
        }
    )
    shown = portable(absolute)
    assert (shown.model.path, shown.target.path) == ("…/net.pt", "…/b")
    assert shown.warnings == ("…/net.pt and …/b and /a/bc are three.",)
    assert portable(record) == record


@pytest.mark.parametrize(
    ("images", "enough", "told"),
    [
        pytest.param(31, 12, None, id="maps-of-31-pictures-are-enough"),
        pytest.param(31, 400, "Give 400 or more", id="it-takes-more"),
        pytest.param(2, 2, "Give 3 or more", id="two-pictures-tell-nothing-of-their-spread"),
        pytest.param(31, None, "Give 32 or more", id="not-known"),
        pytest.param(32, 400, None, id="not-few"),
    ],
)
def test_few_pictures_and_enough_pictures_are_one_rule(images, enough, told):
    from adabn_cli.jobs.results.notices import Seen, notice_parts
    from adabn_cli.record import SampleSizePart, ScoresPart

    size = enough and SampleSizePart(
        site="1", tolerance=0.1, images=(images,), errors=(0.1,), enough=enough
    )
    seen = Seen(
        images=images,
        before=ScoresPart(),
        after=ScoresPart(),
        labels_N=None,
        names=None,
        sample_size=size or None,
        sample_nCHW=None,
    )
    found = notice_parts(seen)
    assert [part.kind for part in found] == (["few pictures"] if told else [])
    assert told is None or told in found[0].sentence
