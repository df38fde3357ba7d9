"""A guess is checked against the run: labels that count from 1, orders of classes, sizes."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tarfile
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import adabn_cli
from adabn_cli.errors import TargetError, UsageError

_COLOURS = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200], [200, 200, 60]])
# What a camera makes of them. The source model is right on 67% of the first; of the second it says
# one class.
_SHIFTED, _DARK = (0.2, 1.0, 1.2), (1.0, 0.1, 0.1)
_INPUT = ("--img-size", 8, "--mean", "0,0,0", "--std", "1,1,1")


def pictures(classes: Sequence[int], gain: Sequence[float] = (1, 1, 1)) -> np.ndarray:
    """Pictures [N, 8, 8, 3] of one colour a class, in another light each."""
    generator = np.random.default_rng(len(classes))
    light_N1 = generator.uniform(0.7, 1.15, (len(classes), 1))
    colours_NC = _COLOURS[classes] * light_N1 + generator.normal(0, 8, (len(classes), 3))
    pixels = colours_NC[:, None, None] + generator.normal(0, 6, (len(classes), 8, 8, 3))
    return np.clip(pixels * gain, 0, 255).round().astype(np.uint8)


def as_input(pixels_NHWC: np.ndarray) -> Tensor:
    return torch.tensor(pixels_NHWC).permute(0, 3, 1, 2).float() / 255


def network(outputs: Sequence[int | None]) -> nn.Module:
    """The nearest colour after a BatchNorm; each output is for a colour, or for none."""
    shown = np.arange(60) % 3
    seen = as_input(pictures(shown))
    net = nn.Sequential(
        nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, len(outputs))
    ).eval()
    with torch.no_grad():
        settle(net, seen)
        points = net[:3](seen)
        centres = [
            points[shown == colour].mean(0) if colour in shown else torch.full((3,), 9.0)
            for colour in outputs
        ]
        net[3].weight.copy_(4 * torch.stack(centres))
        net[3].bias.copy_(-2 * torch.stack(centres).square().sum(1))
    return net


def settle(net: nn.Module, images: Tensor) -> None:
    net[0].running_mean.copy_(images.mean((0, 2, 3)))
    net[0].running_var.copy_(images.var((0, 2, 3), unbiased=False))


def right(net: nn.Module, pixels: np.ndarray, labels_N: np.ndarray) -> tuple[float, float]:
    """Accuracy before and after by plain PyTorch: the statistics of all pictures put in."""
    images, adapted = as_input(pixels), deepcopy(net)
    settle(adapted, images)
    with torch.no_grad():
        before, after = (model(images).argmax(1).numpy() for model in (net, adapted))
    return (before == labels_N).mean().item(), (after == labels_N).mean().item()


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


class Case:
    """A net of four outputs and 60 pictures of the first three classes, labelled from `first`."""

    def __init__(
        self, folder: Path, layout: str, *, first: int, gain: Sequence[float] = _SHIFTED
    ) -> None:
        self.labels_N = np.arange(60) % 3
        self.net = network([None, 0, 1, 2] if first == 0 else [0, 1, 2, 3])
        self.index_N = self.labels_N + (1 if first == 0 else 0)
        self.pixels, self.written = pictures(self.labels_N, gain), self.labels_N + first
        self.model = folder / "net.pt"
        torch.save(self.net, self.model)
        self.target, self.options = getattr(self, layout)(folder / "target")

    def csv(self, root: Path) -> tuple[Path, tuple[object, ...]]:
        return self._files(root), ("--labels", self._table(root.parent / "labels.csv", ""))

    def manifest(self, root: Path) -> tuple[Path, tuple[object, ...]]:
        self._files(root)
        return self._table(root.parent / "manifest.csv", "target/"), ()

    def parquet(self, root: Path) -> tuple[Path, tuple[object, ...]]:
        arrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        self._files(root)
        paths = [f"target/{n:02}.png" for n in range(60)]
        file = root.parent / "manifest.parquet"
        parquet.write_table(arrow.table({"path": paths, "label": self.written.tolist()}), file)
        return file, ()

    def folders(self, root: Path) -> tuple[Path, tuple[object, ...]]:
        for n, (pixels, label) in enumerate(zip(self.pixels, self.written, strict=True)):
            (root / str(label)).mkdir(parents=True, exist_ok=True)
            (root / str(label) / f"{n:02}.png").write_bytes(png(pixels))
        return root, ()

    def tar(self, root: Path) -> tuple[Path, tuple[object, ...]]:
        with tarfile.open(root.with_suffix(".tar"), "w") as archive:
            for n, (pixels, label) in enumerate(zip(self.pixels, self.written, strict=True)):
                for name, content in ((f"{n:02}.png", png(pixels)), (f"{n:02}.cls", b"%d" % label)):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
        return root.with_suffix(".tar"), ()

    def _files(self, root: Path) -> Path:
        root.mkdir()
        for n, pixels in enumerate(self.pixels):
            (root / f"{n:02}.png").write_bytes(png(pixels))
        return root

    def _table(self, file: Path, prefix: str) -> Path:
        with file.open("w", newline="") as stream:
            rows = [(f"{prefix}{n:02}.png", label) for n, label in enumerate(self.written)]
            csv.writer(stream).writerows([("path", "label"), *rows])
        return file


_LAYOUTS = ["csv", "manifest", "parquet", "folders", "tar"]


@pytest.mark.parametrize("layout", _LAYOUTS)
@pytest.mark.parametrize("first", [1, 0], ids=["counted from 1", "background first"])
def test_labels_that_are_off_by_one_are_told_and_scored_with_the_offset(
    tmp_path, command, layout, first
):
    case, offset = Case(tmp_path, layout, first=first), first or -1
    asked = ("adapt", case.model, "-t", case.target, *case.options, *_INPUT, "-o", "run")
    refused = command(*asked)
    assert refused.code == 3
    assert "The labels seem to count from" in refused.err
    assert f"Give --label-offset {offset}, or --label-offset 0" in refused.err
    assert not Path("run").exists()
    assert command(*asked, "--label-offset", offset).code == 0
    record = json.loads(Path("run/run.json").read_text())
    before, after = right(case.net, case.pixels, case.index_N)
    assert 0.5 < before < 0.9
    assert after == 1.0
    assert record["before"]["accuracy"] == pytest.approx(before)
    assert record["after"]["accuracy"] == pytest.approx(after)
    assert f"counted from {offset}" in record["target"]["labels"]


@pytest.mark.parametrize("name", ["evaluate", "profile", "collect"])
def test_every_command_that_scores_refuses_them(tmp_path, command, name):
    case = Case(tmp_path, "csv", first=1)
    pictures_option = {"evaluate": "-d", "profile": "-s", "collect": "-t"}[name]
    asked = [name, case.model, pictures_option, case.target, *case.options, *_INPUT, "--json"]
    asked += {"profile": ["-o", "p"], "collect": ["--shard", "1/1"]}.get(name, [])
    refused = command(*asked)
    assert refused.code == 3
    assert "--label-offset 1" in refused.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.csv", "net.pt", "target"]
    done = command(*asked, "--label-offset", 1)
    assert done.code == 0
    before, _ = right(case.net, case.pixels, case.index_N)
    assert json.loads(done.out)["scores"]["accuracy"] == pytest.approx(before)


@pytest.mark.parametrize("layout", ["csv", "folders"])
def test_names_that_are_their_own_numbers_are_no_proof(tmp_path, command, layout):
    case = Case(tmp_path, layout, first=1)
    (tmp_path / "digits.txt").write_text("0\n1\n2\n3\n")
    asked = ("evaluate", case.model, "-d", case.target, *case.options, *_INPUT, "-q")
    asked += ("--class-map", tmp_path / "digits.txt")
    assert "seem to count from 1" in command(*asked).err
    done = command(*asked, "--label-offset", 1)
    assert float(done.out) == pytest.approx(right(case.net, case.pixels, case.index_N)[0])


def test_labels_that_are_meant_so_are_scored_as_they_are(tmp_path, command):
    case = Case(tmp_path, "csv", first=1)
    asked = ("evaluate", case.model, "-d", case.target, *case.options, *_INPUT, "-q")
    done = command(*asked, "--label-offset", 0)
    before, _ = right(case.net, case.pixels, case.written)
    assert done.code == 0
    assert float(done.out) == pytest.approx(before)


def test_what_the_adapted_model_alone_shows_is_not_scored_and_nothing_is_lost(tmp_path, command):
    case = Case(tmp_path, "csv", first=1, gain=_DARK)
    before, after = right(case.net, case.pixels, case.index_N)
    assert (before, after) == (pytest.approx(1 / 3), 1.0)
    done = command(
        *("adapt", case.model, "-t", case.target, *case.options, *_INPUT, "-o", "run"),
    )
    assert done.code == 0
    record = json.loads(Path("run/run.json").read_text())
    assert record["before"]["accuracy"] is record["after"]["accuracy"] is None
    assert record["target"]["labels"] is None
    told = [text for text in record["warnings"] if "seem to count from 1" in text]
    assert len(told) == 1
    assert "agrees with 0.0% as they are, and with 100.0% read so. They are not scored." in told[0]


@pytest.mark.parametrize("gain", [_SHIFTED, _DARK, (1, 1, 1)])
def test_right_labels_without_the_first_class_raise_no_doubt(tmp_path, command, gain):
    case = Case(tmp_path, "csv", first=0, gain=gain)
    net = network([3, 0, 1, 2])
    torch.save(net, case.model)
    labels = case._table
    case.written = case.index_N
    labels(tmp_path / "labels.csv", "")
    done = command("evaluate", case.model, "-d", case.target, *case.options, *_INPUT, "-q")
    assert done.code == 0
    assert float(done.out) == pytest.approx(right(net, case.pixels, case.index_N)[0])


def test_python_labels_are_checked_too(tmp_path):
    case = Case(tmp_path, "csv", first=1)
    labelled = [(as_input(case.pixels), torch.tensor(case.written))]
    with pytest.raises(TargetError, match="seem to count from 1") as caught:
        adabn_cli.adapt(deepcopy(case.net), labelled)
    assert "label_offset=1" in caught.value.hint
    with pytest.raises(TargetError, match="seem to count from 1"):
        adabn_cli.profile(deepcopy(case.net), labelled)
    record = adabn_cli.adapt(deepcopy(case.net), labelled, label_offset=1)
    before, after = right(case.net, case.pixels, case.index_N)
    assert record.before.accuracy == pytest.approx(before)
    assert record.after.accuracy == pytest.approx(after)
    with pytest.raises(UsageError, match="below label_offset=2"):
        adabn_cli.adapt(deepcopy(case.net), labelled, label_offset=2)
    with pytest.raises(UsageError, match="label_offset is for class indices"):
        adabn_cli.adapt(deepcopy(case.net), [as_input(case.pixels)], label_offset=1)


def test_python_labels_that_the_adapted_model_contradicts_are_not_scored(tmp_path):
    case = Case(tmp_path, "csv", first=1, gain=_DARK)
    net = deepcopy(case.net)
    halves = [slice(0, 25), slice(25, 60)]
    record = adabn_cli.adapt(
        net, [(as_input(case.pixels[part]), torch.tensor(case.written[part])) for part in halves]
    )
    assert record.after.accuracy is None
    assert record.target.labels is None
    assert any("label_offset=1" in text for text in record.warnings)


@pytest.mark.parametrize("layout", _LAYOUTS)
def test_a_label_beyond_the_classes_is_an_error_in_every_source(tmp_path, command, layout):
    case = Case.__new__(Case)
    case.labels_N = np.arange(60) % 4
    case.net, case.pixels = network([0, 1, 2, 3]), pictures(case.labels_N)
    case.written, case.model = case.labels_N + 1, tmp_path / "net.pt"
    torch.save(case.net, case.model)
    target, options = getattr(case, layout)(tmp_path / "target")
    for name, option in (("adapt", "-t"), ("evaluate", "-d")):
        done = command(name, case.model, option, target, *options, *_INPUT)
        assert done.code == 3
        assert "4" in done.err.splitlines()[0]
        assert str(target if layout != "csv" else "labels.csv") in done.err
        assert "--label-offset 1" in done.err


@pytest.mark.parametrize("option", [("--label-offset", 1), ("--class-order", "text")])
def test_an_option_that_reads_no_label_is_an_error(tmp_path, command, option):
    case = Case(tmp_path, "csv", first=1)
    for name, flag in (("adapt", "-t"), ("evaluate", "-d")):
        done = command(name, case.model, flag, case.target, *_INPUT, *option)
        assert done.code == 2
        assert f"Leave out {option[0]}." in done.err
    assert command("adapt", case.model, "-t", case.target, "--class-order", "size").code == 2


_NAMES = ["Al", "Bo", "Ca", "Do", "Em", "Fi", "Gu", "He", "Ib", "Ja", "Ki", "La"]
_TWELVE = [f"{number}.{name}" for number, name in enumerate(_NAMES, start=1)]
# Each as timm sorts them.
_SPELLINGS = {
    "1.Al": _TWELVE,
    "class_1": [f"class_{number}" for number in range(12)],
    "c2": [f"c{number}" for number in range(12)],
    "10-foo": [f"{number}-{'foo' if number % 2 else 'bar'}" for number in range(12)],
    "capitals": [*"abcdefghijkZ"],
}


def in_twelve_folders(root: Path, names: Sequence[str], order: str) -> tuple[nn.Module, Path]:
    """A net whose outputs are 12 levels of gray in an order of the folders, and two of each."""
    ordered = names if order == "natural" else sorted(names)
    levels = torch.tensor([sorted(names).index(name) for name in ordered])
    net = nn.Sequential(
        nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 12)
    ).eval()
    grays = (20 + 20 * levels).float() / 255
    with torch.no_grad():
        net[0].running_mean.fill_(1e-6)  # Learned, though near what it was made with.
        net[3].weight.copy_(grays[:, None].expand(12, 3))
        net[3].bias.copy_(-1.5 * grays.square())
    for level, name in enumerate(sorted(names)):
        (root / "photos" / name).mkdir(parents=True)
        for n in range(2):
            pixels = np.full((8, 8, 3), 20 + 20 * level + n, np.uint8)
            (root / "photos" / name / f"{n}.png").write_bytes(png(pixels))
    torch.save(net, root / "net.pt")
    return net, root / "photos"


@pytest.mark.parametrize("order", ["natural", "text"])
@pytest.mark.parametrize("names", _SPELLINGS.values(), ids=_SPELLINGS)
def test_of_two_orders_of_folders_the_run_tells_which(tmp_path, command, names, order):
    _, photos = in_twelve_folders(tmp_path, names, order)
    asked = ("evaluate", tmp_path / "net.pt", "-d", photos, *_INPUT, "--json")
    found = json.loads(command(*asked).out)
    assert found["scores"]["accuracy"] == 1.0
    assert found["data"]["labels"].startswith(f"folder names in {order}".replace("text", "alpha"))
    told = [text for text in found["warnings"] if "order of the classes was told" in text]
    assert len(told) == 1
    assert "100.0%" in told[0]
    other = {"natural": "text", "text": "natural"}[order]
    said = json.loads(command(*asked, "--class-order", other).out)
    # All are in another place, or all but those that both orders have in the same one.
    assert said["scores"]["accuracy"] < 0.5


def test_twelve_folders_of_a_net_in_natural_order_scored_a_twelfth_in_that_of_the_text(
    tmp_path, command
):
    _, photos = in_twelve_folders(tmp_path, _TWELVE, "natural")
    asked = ("evaluate", tmp_path / "net.pt", "-d", photos, *_INPUT, "-q")
    assert float(command(*asked, "--class-order", "text").out) == pytest.approx(1 / 12)
    assert float(command(*asked, "--class-order", "natural").out) == 1.0


def test_an_order_that_the_run_does_not_tell_is_asked_for(tmp_path, command):
    net, photos = in_twelve_folders(tmp_path, _TWELVE, "natural")
    with torch.no_grad():
        net[3].bias[3] += 100  # It says one class of everything.
    torch.save(net, tmp_path / "net.pt")
    for name, flag in (("adapt", "-t"), ("evaluate", "-d"), ("profile", "-s")):
        done = command(name, tmp_path / "net.pt", flag, photos, *_INPUT)
        assert done.code == 3
        assert "The order of the classes is ambiguous" in done.err
        assert "--class-order natural (timm), --class-order text (ImageFolder)" in done.err
    assert command(*("evaluate", tmp_path / "net.pt", "-d", photos, *_INPUT), "-q",
                   "--class-order", "text").out.strip() == str(1 / 12)  # fmt: skip


@pytest.mark.parametrize(
    ("file", "content", "folders"),
    [
        ("m.json", '{"1": "circle"}', ["1"]),
        ("m.json", '{"1": "circle"}', ["circle"]),
        ("m.json", '{"a": 1, "b": 0}', ["a", "b"]),
        ("m.csv", "folder,index,name\na,1,circle\nb,0,square\n", ["a", "b"]),
    ],
)
def test_a_class_map_works_where_the_models_names_are_unknown(
    tmp_path, command, file, content, folders
):
    (tmp_path / file).write_text(content)
    torch.save(network([1, 0, 2]), tmp_path / "net.pt")  # The second output is for red.
    for folder, colour in zip(folders, (0, 1), strict=False):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        (tmp_path / "photos" / folder / "x.png").write_bytes(png(pictures([colour])[0]))
    asked = ("evaluate", tmp_path / "net.pt", "-d", tmp_path / "photos", *_INPUT, "-q")
    assert command(*asked, "--class-map", tmp_path / file).out.strip() == "1.0"


def masked(folder: Path, first: int, gain: Sequence[float] = _SHIFTED) -> list[object]:
    """Pictures of three stripes, one a class, their masks, and a net of maps of four classes."""
    net = network([0, 1, 2, 3])
    conv = nn.Conv2d(3, 4, 1)
    conv.weight.data, conv.bias.data = net[3].weight.data[:, :, None, None], net[3].bias.data
    torch.save(nn.Sequential(net[0], conv).eval(), folder / "maps.pt")
    for name in ("photos", "masks"):
        (folder / name).mkdir()
    for n in range(12):
        stripes = pictures([0, 1, 2] + [0] * n, gain)[:3]
        (folder / "photos" / f"{n}.png").write_bytes(png(np.concatenate(list(stripes))))
        mask = np.repeat(np.arange(3, dtype=np.uint8) + first, 8)[:, None].repeat(8, 1)
        Image.fromarray(mask).save(folder / "masks" / f"{n}.png")
    size = ("--img-size", "24,8", *_INPUT[2:])
    return [folder / "maps.pt", "-t", folder / "photos", "--masks", folder / "masks", *size]


def test_masks_that_count_from_1_are_told_and_scored_with_the_offset(tmp_path, command):
    asked = ["adapt", *masked(tmp_path, first=1), "-o", "run"]
    refused = command(*asked)
    assert refused.code == 3
    assert "The labels seem to count from 1: of 36 areas of one class" in refused.err
    assert command(*asked, "--label-offset", 1).code == 0
    moved = json.loads(Path("run/run.json").read_text())["task"]["figures"]
    (tmp_path / "other").mkdir()
    right_ones = ["adapt", *masked(tmp_path / "other", first=0), "-o", "right"]
    assert command(*right_ones).code == 0
    assert moved == json.loads(Path("right/run.json").read_text())["task"]["figures"]
    assert moved[0]["after"] > 0.9


def test_python_masks_are_checked_too(tmp_path):
    masked(tmp_path, first=1)
    net = torch.load(tmp_path / "maps.pt", weights_only=False)
    stripes = [np.array(Image.open(tmp_path / "photos" / f"{n}.png")) for n in range(12)]
    masks = torch.arange(1, 4).repeat_interleave(8)[None, :, None].expand(12, 24, 8)
    given = [(as_input(np.stack(stripes)), masks)]
    with pytest.raises(TargetError, match="seem to count from 1: of 36 areas") as caught:
        adabn_cli.adapt(deepcopy(net), given)
    assert "label_offset=1" in caught.value.hint
    moved = adabn_cli.adapt(deepcopy(net), given, label_offset=1)
    right_ones = adabn_cli.adapt(deepcopy(net), [(given[0][0], masks - 1)])
    assert moved.task.figures == right_ones.task.figures
    assert moved.task.figures[0].after > 0.9
    with pytest.raises(UsageError, match="The masks hold class 4, and the model has 4 classes"):
        adabn_cli.adapt(deepcopy(net), [(given[0][0], masks + 1)])


def test_what_masks_hold_below_the_first_class_counts_for_nothing(tmp_path, command):
    asked = ["adapt", *masked(tmp_path, first=1, gain=(1, 1, 1)), "-o", "run", "--label-offset", 1]
    for file in (tmp_path / "masks").iterdir():
        pixels = np.array(Image.open(file))
        pixels[:4] = 0
        Image.fromarray(pixels).save(file)
    refused = command(*asked[:-2])
    assert refused.code == 3
    assert "count from 1" in refused.err
    assert command(*asked).code == 0
    record = json.loads(Path("run/run.json").read_text())
    assert record["task"]["figures"][0]["before"] == 1.0
    assert any("The masks hold 0, below the first class, 1" in text for text in record["warnings"])


ONE_BY_ONE = """
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4)
        self.last = torch.nn.Linear(4, 10)

    def forward(self, x):
        x = self.bn(self.conv(x)).relu().mean((2, 3))
        return self.last(x.view(1, 4))
"""


@pytest.mark.parametrize(
    "words",
    [
        "evaluate net.pth --data DATA",
        "profile net.pth --source DATA -o p",
        "adapt net.pth -t DATA -o run",
        "adapt net.pth -t DATA --labels numbers.csv -o run",
    ],
)
def test_a_network_of_one_picture_at_a_time_runs_with_such_batches(
    command: Any, sample_data: Path, words: str
) -> None:
    Path("nets.py").write_text(ONE_BY_ONE)
    scope: dict[str, Any] = {}
    exec(ONE_BY_ONE, scope)
    net = scope["Net"]()
    net.bn.running_mean.normal_()
    torch.save(net.state_dict(), "net.pth")
    Path("few/3").mkdir(parents=True)
    for number, file in enumerate(sorted((sample_data / "target/3").iterdir())[:9]):
        shutil.copy(file, f"few/3/{number}.png")
    rows = [f"3/{number}.png,{number}" for number in range(9)]
    Path("numbers.csv").write_text("\n".join(["path,label", *rows]))
    given = [word.replace("DATA", "few") for word in words.split()]
    more = ("--arch", "nets.py:Net", "--img-size", 16, "--mean", 0.5, "--std", 0.5)
    done = command(*given, *more, "--batch-size", 1)
    assert done.code in (0, 3), done.err
    assert "bug" not in done.err
