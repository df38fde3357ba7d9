"""No command overwrites an input, by any option and under any name, with or without --force.

The table is made of lists: every command that writes x each of its output options x every input
that it names or learns of x the spellings of a path. What is refused is refused before the work:
exit 2, the input named, and no byte of any file changed.
"""

from __future__ import annotations

import shutil
import tarfile
import typing
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
import torch
from PIL import Image

from adabn_cli.cli.app import app
from adabn_cli.cli.boundary import run

_SHARDS = "shard-1-of-2.safetensors", "shard-2-of-2.safetensors"
# Input -> where it lies in the folder of inputs, which is called `in`.
_PLACES = {
    "model": "model.pt",
    "code": "nets.py",
    "data": "photos/0/a.png",
    "labels": "labels.csv",
    "classes": "classes.json",
    "masks": "masks/0/a.png",
    "eval": "held/0/a.png",
    "profile": "source.profile",
    "source": "clear/0/a.png",
    "reference": "unfolded.pth",
    "pack": "pack.safetensors",
    "first shard": _SHARDS[0],
    "second shard": _SHARDS[1],
}
# What is given for an input that is no single file.
_GIVEN = {
    "data": "photos",
    "masks": "masks",
    "eval": "held",
    "source": "clear",
    "code": "nets.py:N",
}
_OPENING = ("model", "code")
_SCORING = ("data", "labels", "classes")
_COMMANDS = {
    "profile": "profile {model} --source {data} --labels {labels} --class-map {classes} "
    "--arch {code} -o OUT",
    "collect": "collect {model} -t {data} --shard 1/1 --labels {labels} --class-map {classes} "
    "--arch {code} -o OUT",
    "merge": "merge {model} {first-shard} {second-shard} --arch {code} -o OUT",
    "apply": "apply {model} {pack} --arch {code} -o OUT",
    "convert": "convert {model} --arch {code} -o OUT",
    "adapt": "adapt {model} -t {data} --labels {labels} --class-map {classes} --masks {masks} "
    "--eval {eval} --profile {profile} --source {source} --reference {reference} --arch {code} "
    "-o OUT",
    "watch": "watch {model} {data} --arch {code} -o OUT",
}
_READ = {
    "profile": (*_OPENING, *_SCORING),
    "collect": (*_OPENING, *_SCORING),
    "merge": (*_OPENING, "first shard", "second shard"),
    "apply": (*_OPENING, "pack"),
    "convert": _OPENING,
    "adapt": (*_OPENING, *_SCORING, "masks", "eval", "profile", "source", "reference"),
    "watch": (*_OPENING, "data"),
}
_RENDERINGS = ("--html", "--md", "--junit", "--openmetrics", "--model-card")
# run.json itself is refused by its name, which tests/cli/test_report_command.py holds.
_OF_A_RUN = ("model.pt", "pack.safetensors", "predictions.csv")
_OTHERS = ("before/pack.safetensors", "own/real.pt")
_SPELLINGS = ("plain", "dotted", "absolute", "link", "hard link")
# Without --force a file that is there is refused anyway: that its being an input is told first is
# held for one spelling.
_WAYS = [("plain", []), *((spelling, ["--force"]) for spelling in _SPELLINGS)]
_BY_WAY = pytest.mark.parametrize(
    ("spelling", "force"), _WAYS, ids=[" ".join([way, *force]) for way, force in _WAYS]
)


_LINK = "another-name"


def _spelled(path: Path, spelling: str) -> Path:
    """The same file under another name; links are made anew."""
    if spelling == "dotted":
        return path.parent / ".." / path.parent.name / path.name
    if spelling == "absolute":
        return path.resolve()
    if spelling not in ("link", "hard link"):
        return path
    other = Path(_LINK + path.suffix)
    (other.symlink_to if spelling == "link" else other.hardlink_to)(path.resolve())
    return other


def _contents() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def world(sample_data, tmp_path_factory) -> Path:
    """A folder with every kind of input, a run, and a graph with its data beside it."""
    folder = tmp_path_factory.mktemp("world")
    picture = next((sample_data / "target" / "3").iterdir())
    for place in (*_PLACES.values(), "named/a.png", "kept/b.png"):
        (folder / "in" / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / "in" / place).write_bytes(picture.read_bytes())
    (folder / "own").mkdir()
    shutil.copy(sample_data / "digits_bn.pt", folder / "own/real.pt")
    (folder / "in/list.txt").write_text("named/a.png\n")
    (folder / "in/list.csv").write_text("path,label\nnamed/a.png,3\n")
    with tarfile.open(folder / "in/shard.tar", "w") as tar:
        tar.add(picture, "a.png")
    _write_graph(folder / "in")
    return folder


def _write_graph(folder: Path) -> None:
    """A graph of one BatchNorm, whose tensors lie in `e_data.pth`."""
    values = np.linspace(0.5, 1.5, 4, dtype=np.float32)
    names = ("scale", "bias", "mean", "var")
    held = [onnx.numpy_helper.from_array(values[:1], name) for name in names]
    node = onnx.helper.make_node("BatchNormalization", ["x", *names], ["y"])
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 1, 8, 8])
        for name in "xy"
    ]
    graph = onnx.helper.make_graph([node], "g", ends[:1], ends[1:], held)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save_model(
        *(model, folder / "e.onnx"),
        save_as_external_data=True,
        location="e_data.pth",
        size_threshold=0,
    )


@pytest.fixture(scope="module")
def run_of_it(world, sample_data) -> Path:
    """A run of the model, with a picture that it broke."""
    few = world / "in/some"
    few.mkdir()
    for number, source in enumerate(sorted((sample_data / "target" / "3").iterdir())[:4]):
        shutil.copy(source, few / f"{number}.png")
    given = ["adapt", str(world / "own/real.pt"), "-t", str(few), "-o", str(world / "run"), "-q"]
    assert run(given) == 0
    shutil.copytree(world / "run", world / "before")
    return world / "run"


@pytest.fixture
def refused(world, command, monkeypatch):
    """Asserts that a command line is refused for an input, and that all files are as they were."""
    monkeypatch.chdir(world)

    def check(words: list[object], named: str) -> None:
        before = _contents()
        done = command(*words)
        assert done.code == 2, done.err
        assert "An input is never overwritten: " in done.err
        assert named in done.err
        assert "Give another path to -" in done.err
        assert _contents() == before

    yield check
    for link in world.glob(f"{_LINK}*"):
        link.unlink()
    for made in (*world.glob("box*"), *world.glob("stream*")):
        shutil.rmtree(made)


def _words(command: str, out: object, given: dict[str, str]) -> list[object]:
    fields = {name.replace(" ", "-"): path for name, path in given.items()}
    words = _COMMANDS[command].split()
    return [out if word == "OUT" else word.format(**fields) for word in words]


def _given() -> dict[str, str]:
    return {name: f"in/{_GIVEN.get(name, place)}" for name, place in _PLACES.items()}


_FILES = [command for command in _COMMANDS if command not in ("adapt", "watch")]


@_BY_WAY
@pytest.mark.parametrize(
    ("command_", "input_"), [(command, name) for command in _FILES for name in _READ[command]]
)
def test_a_file_that_is_named_is_never_overwritten(refused, command_, input_, spelling, force):
    if (input_, spelling) == ("data", "hard link"):  # Known when the folder is read: below.
        spelling = "link"
    out = _spelled(Path("in") / _PLACES[input_], spelling)
    named = _given()[input_].partition(":")[0]
    refused([*_words(command_, out, _given()), *force], named)


@pytest.mark.parametrize("spelling", ["plain", "dotted", "absolute", "link"])
@pytest.mark.parametrize("input_", _READ["adapt"])
def test_a_run_never_replaces_the_folder_of_an_input(refused, world, input_, spelling):
    shutil.copytree(world / "in", world / "box/deep")
    (world / "box/run.json").write_text("{}")
    given = _given() | {input_: f"box/deep/{_GIVEN.get(input_, _PLACES[input_])}"}
    out = Path("box/deep/..") if spelling == "dotted" else _spelled(Path("box"), spelling)
    refused([*_words("adapt", out, given), "--force"], given[input_].partition(":")[0])


@pytest.mark.parametrize("spelling", ["link", "hard link"])
@pytest.mark.parametrize("input_", _READ["watch"])
def test_a_pack_that_is_a_link_to_an_input_is_not_replaced(refused, input_, spelling):
    place = Path("in") / _PLACES[input_]
    Path("stream").mkdir()
    pack = Path("stream/pack.safetensors")
    (pack.symlink_to if spelling == "link" else pack.hardlink_to)(place.resolve())
    refused([*_words("watch", "stream", _given()), "--force"], place.name)


@pytest.mark.parametrize("spelling", ["plain", *_SPELLINGS])
@pytest.mark.parametrize("file", [*(f"run/{name}" for name in _OF_A_RUN), *_OTHERS])
@pytest.mark.parametrize("option", _RENDERINGS)
def test_a_report_never_replaces_what_it_is_made_from(refused, run_of_it, option, file, spelling):
    out = _spelled(Path(file), spelling)
    refused(["report", "run", option, out, "--baseline", "before"], Path(file).name)


# What is learnt by opening: (command line, the file that is learnt of).
_MODEL, _GRAPH = "own/real.pt", "in/e.onnx"
_LEARNT = {
    **{
        f"{command} of {kind}": (f"{command} {_MODEL} {option} {place}", file)
        for command, option in (("profile", "--source"), ("collect", "--shard 1/1 -t"))
        for kind, place, file in (
            ("a list", "in/list.txt", "in/named/a.png"),
            ("a manifest", "in/list.csv", "in/named/a.png"),
            ("a pattern", "in/named/*.png", "in/named/a.png"),
            ("a shard", "in/shard.tar", "in/shard.tar"),
        )
    },
    **{
        f"{words} of a graph": (f"{words} {_GRAPH} {more}", "in/e_data.pth")
        for words, more in (
            ("profile", "--source in/photos"),
            ("collect", "--shard 1/1 -t in/photos"),
            ("apply", "run/pack.safetensors"),
            ("convert", ""),
        )
    },
}


@pytest.mark.parametrize("spelling", _SPELLINGS)
@pytest.mark.parametrize("case", _LEARNT)
def test_a_file_that_is_learnt_of_is_never_overwritten(refused, run_of_it, case, spelling):
    words, file = _LEARNT[case]
    if file == "in/e_data.pth" and spelling == "hard link":  # onnx opens no data with two names.
        spelling = "link"
    out = _spelled(Path(file), spelling)
    refused([*words.split(), "-o", out, "--force"], Path(file).name)


def test_a_picture_under_another_name_is_known_when_the_folder_is_read(refused):
    out = _spelled(Path("in/photos/0/a.png"), "hard link")
    refused(["profile", _MODEL, "--source", "in/photos", "-o", out, "--force"], "0/a.png")


@pytest.mark.parametrize(
    "learnt",
    [
        ("-t", "list.txt"),
        ("-t", "list.csv"),
        ("-t", "**/named/*.png"),
        ("-t", "in/photos", "--eval", "list.txt"),
        ("-t", "in/photos", "--source", "list.txt"),
    ],
    ids=" ".join,
)
def test_a_run_never_replaces_the_folder_of_a_picture_that_a_list_names(refused, world, learnt):
    box = world / "box/named"
    box.mkdir(parents=True, exist_ok=True)
    (box.parent / "run.json").write_text("{}")
    shutil.copy(world / "in/named/a.png", box)
    (world / "list.txt").write_text("box/named/a.png\n")
    (world / "list.csv").write_text("path,label\nbox/named/a.png,3\n")
    refused(["adapt", _MODEL, *learnt, "-o", "box", "--force"], "box/named/a.png")


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_labels_that_lie_elsewhere_by_a_link_are_an_input(refused, name):
    shutil.copytree("in/named", "box-of-pictures")
    Path("box").mkdir()
    Path("box/run.json").write_text("{}")
    rows = {"metadata.csv": "file_name,label\na.png,3\n", "metadata.jsonl": '{"file_name":"a.png"}'}
    Path("box", name).write_text(rows[name])
    Path("box-of-pictures", name).symlink_to(Path("box", name).resolve())
    refused(["adapt", _MODEL, "-t", "box-of-pictures", "-o", "box", "--force"], name)
    refused(
        ["profile", _MODEL, "--source", "box-of-pictures", "-o", f"box/{name}", "--force"], name
    )


def test_a_model_folder_whose_weights_are_a_link_loses_none(command, tmp_path):
    timm = pytest.importorskip("timm")
    net = timm.create_model("resnet10t", num_classes=10)
    (tmp_path / "hub/blobs").mkdir(parents=True)
    timm.models.save_for_hf(net, tmp_path / "hub/snapshot", safe_serialization=True)
    weights = tmp_path / "hub/snapshot/model.safetensors"
    blob = shutil.move(weights, tmp_path / "hub/blobs/abc.safetensors")
    weights.symlink_to(blob)
    before = blob.read_bytes()
    done = command("convert", weights.parent, "-o", blob, "--force")
    assert (done.code, "An input is never overwritten" in done.err) == (2, True), done.err
    assert blob.read_bytes() == before


def test_masks_that_lie_elsewhere_by_a_link_are_an_input(command, tmp_path):
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.BatchNorm2d(4), torch.nn.Conv2d(4, 3, 1)
    )
    net[1].running_mean.normal_()
    torch.jit.script(net.eval()).save(tmp_path / "maps.pt")
    for folder in ("photos", "masks", "box/kept"):
        Path(folder).mkdir(parents=True)
    Path("box/run.json").write_text("{}")
    pixels = np.random.default_rng(0).integers(0, 255, (2, 12, 12, 3), np.uint8)
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(f"photos/{number}.png")
        Image.fromarray(picture[..., 0] % 3).save(f"box/kept/{number}.png")
        Path(f"masks/{number}.png").symlink_to(Path(f"box/kept/{number}.png").resolve())
    given = ("--img-size", 12, "--mean", 0.5, "--std", 0.5, "--masks", "masks")
    done = command("adapt", "maps.pt", "-t", "photos", *given, "-o", "box", "--force")
    assert (done.code, "An input is never overwritten" in done.err) == (2, True), done.err
    assert Path("box/kept/0.png").is_file()


def test_what_a_run_keeps_meanwhile_never_takes_an_input_with_it(refused, command):
    Path("box.partial").mkdir()
    model = shutil.copy(_MODEL, "box.partial/model.pt")
    refused(["adapt", model, "-t", "in/photos", "-o", "box"], "model.pt")
    done = command("adapt", _MODEL, "-t", "in/photos", "-o", "box")
    assert (done.code, "other files: model.pt" in done.err) == (2, True)
    assert Path(model).is_file()


def test_the_table_knows_every_option_that_takes_a_path():
    options = {
        (command.callback.__name__, name): hint.__metadata__[0].metavar or ""
        for command in app.registered_commands
        for name, hint in typing.get_type_hints(command.callback, include_extras=True).items()
        if hasattr(hint, "__metadata__")
    }
    words = ("FILE", "DIR", "DATA", "MODEL", "RUN", "SHARD", "PACK")
    found = {key for key, metavar in options.items() if any(word in metavar for word in words)}
    other = {"out", "spill_dir", "resume"}  # Written, or a run that is gone on with.
    known = {
        "profile": {"model", "source", "labels", "class_map"},
        "collect": {"model", "target", "labels", "class_map"},
        "merge": {"model", "shards"},
        "apply": {"model", "pack"},
        "convert": {"model"},
        "watch": {"model", "folder"},
        "adapt": {"model", "target", "labels", "class_map", "masks", "held_out", "profile"}
        | {"source", "reference"},
        "report": {"runs", "baseline", "html", "md", "junit", "openmetrics", "model_card"},
        # They write nothing.
        "evaluate": {"model", "data", "pack", "labels", "class_map", "masks"},
        "inspect": {"model"},
    }
    assert found == {(name, one) for name, all_ in known.items() for one in all_} | {
        key for key in found if key[1] in other
    }
