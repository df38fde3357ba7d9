"""A model gets what a plain PyTorch user would give it, found by running it on two pictures."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor, nn

import adabn_cli
from adabn_cli.cli.boundary import run
from adabn_cli.errors import ModelError, UsageError
from adabn_cli.model import by_image

NETS = '''
import torch
from torch import nn


class Tutorial(nn.Module):
    """Two BatchNorms and a view behind a convolution, as in the CIFAR tutorial."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.second, self.norm2 = nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)
        self.classes = nn.Linear(96, 3)

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x)))
        x = torch.relu(self.norm2(self.second(x)))
        return self.classes(x.view(x.size(0), -1))


class Plain(Tutorial):
    """The same, in any order in memory."""

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x)))
        x = torch.relu(self.norm2(self.second(x)))
        return self.classes(x.flatten(1))


class LastFirst(nn.Module):
    """The last block is defined first, and one is never used."""

    def __init__(self):
        super().__init__()
        self.unused = nn.BatchNorm2d(2)
        self.last = nn.Sequential(nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6))
        self.first = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6))
        self.classes = nn.Linear(6, 3)

    def forward(self, x):
        return self.classes(self.last(self.first(x)).mean((2, 3)))


class Anchors(nn.Module):
    """[N * 16, 2]: a row an anchor, as face detectors give them."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4)
        self.scores = nn.Conv2d(4, 2, 1)

    def forward(self, x):
        return self.scores(self.norm(self.first(x))).permute(0, 2, 3, 1).reshape(-1, 2)


class Pooled(Anchors):
    """[32, 2] for any number of pictures."""

    def forward(self, x):
        return super().forward(x).reshape(len(x), 16, 2).mean(0).repeat(2, 1)


class Squeezed(Plain):
    """[3] for a single picture."""

    def forward(self, x):
        return super().forward(x).squeeze()


class Unfolded(Plain):
    """Reads memory as it lies: silently wrong unless it is contiguous."""

    def forward(self, x):
        strides = (x[0].numel(), x[0, 0].numel(), x.shape[3], 1)
        return super().forward(x.as_strided(x.shape, strides))


class WithMeta(Plain):
    def forward(self, x, meta):
        return super().forward(x) + meta
'''
MEAN = ["--mean", "0.5,0.4,0.6", "--std", "0.2,0.3,0.25"]
PREPARED = ["--img-size", "8", *MEAN]


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nets.py and seven pictures in two classes; tests run inside."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "nets.py").write_text(NETS)
    pixels = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3), dtype=np.uint8)
    for index, picture in enumerate(pixels):
        place = folder / "pictures" / str(index % 2)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(place / f"{index}.png")
    return folder


@pytest.fixture(autouse=True)
def _inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.startswith("ADABN_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(folder)


def net(name: str) -> nn.Module:
    """A net of that name, the same each time, with learned statistics."""
    space: dict[str, type[nn.Module]] = {}
    exec(NETS, space)
    torch.manual_seed(0)
    made = space[name]()
    made.train()
    for _ in range(3):
        made(*[torch.randn(4, 3, 8, 8), 0][: 2 if name == "WithMeta" else 1])
    return made.eval()


def images() -> Tensor:
    """The pictures as torchvision's ToTensor and Normalize give them, contiguous."""
    paths = sorted(Path("pictures").rglob("*.png"), key=lambda path: path.as_posix())
    pixels = torch.stack([torch.from_numpy(np.array(Image.open(path))) for path in paths])
    mean, std = torch.tensor([0.5, 0.4, 0.6]), torch.tensor([0.2, 0.3, 0.25])
    return ((pixels.float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()


def script_module(made: nn.Module, path: Path) -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location("nets", "nets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    scripted = getattr(module, type(made).__name__)()
    scripted.load_state_dict(made.state_dict())
    torch.jit.script(scripted.eval()).save(str(path))


def write_program(made: nn.Module, path: Path) -> None:
    dynamic = ({0: torch.export.Dim.DYNAMIC},)
    torch.export.save(torch.export.export(made, (images()[:2],), dynamic_shapes=dynamic), path)


FORMATS: dict[str, Callable[[nn.Module, Path], None]] = {
    "weights.pth": lambda made, path: torch.save(made.state_dict(), path),
    "scripted.pt": script_module,
    "traced.pt": lambda made, path: torch.jit.trace(made, images()[:2]).save(str(path)),
    "program.pt2": write_program,
}


def written(name: str, file: str = "weights.pth") -> list[str]:
    """The arguments of a command that name such a file."""
    path = Path(f"{name}.{file}")
    if not path.exists():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch deprecates TorchScript; files stay.
            FORMATS[file](net(name), path)
    return [str(path), *(["--arch", f"nets.py:{name}"] if file == "weights.pth" else [])]


def plain_adabn(made: nn.Module, batch: Tensor) -> dict[str, Tensor]:
    """Statistics of a forward of all pictures in train mode: self-consistent, by torch alone."""
    for layer in made.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.train()
            layer.momentum = 1.0
    made.double()(batch.double())
    state = made.state_dict()
    n = len(batch)
    found = {}
    for key, value in state.items():
        if key.endswith("running_mean"):
            found[key] = value
        elif key.endswith("running_var"):  # Unbiased, of 7 pictures of 36 or 16 places.
            places = n * (36 if key.startswith("norm.") else 16)
            found[key] = value * (places - 1) / places
    return found


def adapted(name: str, file: str, *more: str) -> Path:
    """A run of `adabn adapt`."""
    out = Path(f"run_{name}_{file}")
    arguments = [*written(name, file), "-t", "pictures", "-o", str(out), "--force", "--quiet"]
    assert run(["adapt", *arguments, *PREPARED, *more]) == 0
    return out


def target_of(out: Path) -> dict[str, Tensor]:
    """The target's statistics in a run's pack, by entry."""
    with safe_open(out / "pack.safetensors", framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return {
        f"{name.split('/')[1]}.running_{name.split('/')[2]}": value
        for name, value in tensors.items()
        if name.startswith("target/")
    }


@pytest.mark.parametrize("file", FORMATS)
@pytest.mark.parametrize("more", [(), ("--batch-size", "3", "--memory", "1MiB")], ids=["", "disk"])
def test_a_view_behind_a_convolution_runs_on_colour(file: str, more: tuple[str, ...]) -> None:
    out = adapted("Tutorial", file, *more)
    record = json.loads((out / "run.json").read_text())
    expected = plain_adabn(net("Tutorial"), images())
    found = target_of(out)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key].double(), value, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        predicted = net("Tutorial")(images()).argmax(1)
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1])
    assert record["before"]["accuracy"] == pytest.approx(
        float((predicted == labels).double().mean())
    )


@pytest.mark.parametrize(
    ("name", "contiguous"), [("Tutorial", True), ("Plain", False), ("Unfolded", True)]
)
def test_the_order_in_memory_is_given_up_only_by_nets_that_need_it(
    name: str, contiguous: bool
) -> None:
    from adabn_cli.jobs.checks.probing import first_outputs
    from adabn_cli.models.live.module import EagerModel

    model = EagerModel(net(name))
    nhwc = images()[:2].contiguous(memory_format=torch.channels_last)
    found = first_outputs(model, nhwc)
    with torch.no_grad():
        torch.testing.assert_close(found, net(name)(images()[:1]))
    assert model.conduct.contiguous == contiguous


COMMANDS = {
    "evaluate": ["evaluate", "-d", "pictures"],
    "profile": ["profile", "--source", "pictures", "-o", "a.profile", "--force"],
    "collect": ["collect", "-t", "pictures", "--shard", "1/1", "-o", "a.shard", "--force"],
    "watch": ["watch", "pictures", "-o", "watched", "--once", "--force", "--interval", "0.01"],
    "eval": ["adapt", "-t", "pictures", "--eval", "pictures", "-o", "r", "--force", "--verify"],
}


def call(command: str, name: str, *more: str) -> int:
    first, *rest = COMMANDS[command]
    return run([first, *written(name), *rest, *PREPARED, *more])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_runs_such_a_net(command: str) -> None:
    assert call(command, "Tutorial") == 0


@pytest.mark.parametrize("file", FORMATS)
def test_channels_and_order_of_sites_are_those_of_use(file: str) -> None:
    out = adapted("LastFirst", file)
    sites = json.loads((out / "run.json").read_text())["sites"]
    names = [site["name"] for site in sites if site["name"] != "unused"]
    assert names == ["first.1", "last.1"]
    assert [site["name"] for site in sites][:2] == names
    assert all(site["adapted"] == (site["name"] != "unused") for site in sites)


def test_inspect_tells_channels_and_sites_in_order_of_use(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["inspect", *written("LastFirst"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["input_channels"] == 3
    assert [site["name"] for site in shown["sites"]] == ["first.1", "last.1", "unused"]


def test_a_single_mean_is_for_all_channels_of_a_net_that_is_defined_backwards() -> None:
    more = ["--img-size", "8", "--mean", "0.5", "--std", "0.25"]
    arguments = [*written("LastFirst"), "-t", "pictures", "-o", "one", "--force", *more]
    assert run(["adapt", *arguments]) == 0
    shown = json.loads(Path("one/run.json").read_text())["model"]["preprocessing"]
    assert shown["mean"] == [0.5, 0.5, 0.5]


def test_a_net_that_is_defined_backwards_is_converted(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["convert", *written("LastFirst"), "-o", "back.pt2", "--force", "--img-size"]
    assert run([*arguments, "8"]) == 0
    assert run([*arguments, "1"]) == 3
    assert "it does on one of 28 x 28 pixels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Anchors", "numbers of shape [16, 2] for each picture"),
        ("Pooled", "no entry of one shape for each picture"),
    ],
)
@pytest.mark.parametrize("command", COMMANDS)
def test_outputs_that_are_no_row_a_picture_are_not_scored_and_told(
    command: str, name: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(command, name) == (3 if command == "evaluate" else 0)
    shown = " ".join("".join(capsys.readouterr()).split())
    assert told in shown
    assert "nothing is scored" in shown


@pytest.mark.parametrize("file", FORMATS)
def test_rows_of_anchors_are_adapted_and_nothing_of_them_is_scored(file: str) -> None:
    out = adapted("Anchors", file, "--batch-size", "4")
    record = json.loads((out / "run.json").read_text())
    assert record["before"]["n"] == record["target"]["labeled_images"] == 0
    assert record["before"]["accuracy"] is None
    assert "[16, 2] for each picture" in record["warnings"][0]
    assert (out / "predictions.csv").read_text().count("\n") == 1


def test_labels_for_outputs_that_cannot_be_scored_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("labels.csv").write_text("path,label\n0/0.png,0\n")
    assert call("eval", "Anchors", "--labels", "labels.csv") == 2
    assert "Leave out --labels" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("size", ["1", "2", "3"])
def test_a_batch_of_one_that_is_squeezed_is_scored(size: str) -> None:
    with torch.no_grad():
        before = net("Plain")(images()).softmax(1).max(1).values.mean()
    for file in ("weights.pth", "traced.pt"):
        out = adapted("Squeezed", file, "--batch-size", size)
        record = json.loads((out / "run.json").read_text())
        assert record["before"]["n"] == 7
        assert record["before"]["confidence_mean"] == pytest.approx(float(before), rel=1e-5)


@pytest.mark.parametrize(
    ("shape", "images_n", "cut"),
    [
        ((6, 5), 6, (6, 5)),
        ((96, 2), 6, (6, 16, 2)),
        ((5,), 1, (1, 5)),
        ((), 1, (1,)),
        ((96,), 6, None),
        ((7, 2), 6, None),
        ((), 2, None),
    ],
)
def test_outputs_are_cut_by_images(
    shape: tuple[int, ...], images_n: int, cut: tuple[int, ...] | None
) -> None:
    values = torch.arange(max(1, int(np.prod(shape)))).float().reshape(shape)
    found = by_image(values, images_n)
    assert (None if found is None else tuple(found.shape)) == cut
    if found is not None:
        assert torch.equal(found.flatten(), values.flatten())


@pytest.mark.parametrize(
    ("name", "more", "told"),
    [
        ("Tutorial", ["--img-size", "9", *MEAN], "mat1 and mat2 shapes cannot be multiplied"),
        ("LastFirst", ["--img-size", "2", *MEAN], "it does on one of 28 x 28 pixels"),
        ("WithMeta", PREPARED, "its forward takes meta too"),
    ],
)
def test_a_forward_that_fails_says_why(
    name: str, more: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*written(name), "-t", "pictures", "-o", "failed", *more]
    assert run(["adapt", *arguments]) == 3
    shown = " ".join(capsys.readouterr().err.split())
    assert "The model cannot run on a picture of shape" in shown
    assert told in shown
    assert not Path("failed").exists()


def test_wrong_channels_are_told_by_number() -> None:
    gray = [images()[:, :1]]
    with pytest.raises(ModelError, match="it takes 3 channels") as raised:
        adabn_cli.adapt(net("Plain"), gray)
    assert raised.value.hint == "Give images [n, 3, H, W]."


BYTES = torch.randint(256, (6, 3, 8, 8), generator=torch.Generator().manual_seed(1)).byte()


def test_integers_are_not_cast() -> None:
    with pytest.raises(UsageError, match="uint8, and the model takes floats") as raised:
        adabn_cli.adapt(net("Plain"), [images(), BYTES])
    assert "images.float() / 255" in raised.value.hint


class Scaling(nn.Module):
    """Takes bytes: plain PyTorch runs it on them."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net("Plain")

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.float() / 255 if x.dtype == torch.uint8 else x)


def test_a_model_of_integers_gets_them() -> None:
    given, floats = Scaling().eval(), net("Plain")
    adabn_cli.adapt(given, [BYTES])
    adabn_cli.adapt(floats, [BYTES.float() / 255])
    assert torch.equal(given.net.norm2.running_mean, floats.norm2.running_mean)


CLASSES = torch.tensor([0, 1, 2, 0, 1, 2, 1])
ROWS = nn.functional.one_hot(CLASSES, 3)


@pytest.mark.parametrize("labels", [CLASSES, CLASSES[:, None], ROWS, ROWS.float()])
def test_one_hot_labels_are_class_indices(labels: Tensor) -> None:
    with torch.no_grad():
        right = (net("Plain")(images()).argmax(1) == CLASSES).double().mean()
    record = adabn_cli.adapt(net("Plain"), [(images(), labels)])
    assert record.before.accuracy == pytest.approx(float(right))
    assert record.before.labeled == 7


@pytest.mark.parametrize("labels", [ROWS * 0.9 + 0.1 / 3, ROWS.clamp(max=1) | ROWS.roll(1, 1)])
def test_rows_that_are_not_one_hot_are_refused(labels: Tensor) -> None:
    with pytest.raises(UsageError, match=r"shape \[n, 3\] are not one-hot: 7 of 7"):
        adabn_cli.adapt(net("Plain"), [(images(), labels)])


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (torch.zeros(7, 4, 2), "shape [7, 4, 2]"),
        (["a caption"] * 7, "type list"),
        (torch.zeros(3, dtype=torch.int64), "shape [3]"),
    ],
)
def test_labels_that_are_no_classes_are_told(labels: object, told: str) -> None:
    record = adabn_cli.adapt(net("Plain"), [(images(), labels)])
    assert record.before.accuracy is None
    assert any(told in warning and "not used" in warning for warning in record.warnings)
    with pytest.warns(UserWarning, match="not used"):
        adabn_cli.profile(net("Plain"), [(images(), labels)])


def trained_on(batch: Tensor) -> nn.Module:
    """A net that has learned the statistics of these images."""
    made = net("Plain")
    for key, value in plain_adabn(net("Plain"), batch).items():
        made.state_dict()[key].copy_(value)
    return made


@pytest.mark.parametrize(
    ("trained", "given", "told"),
    [
        (images, images, None),
        (lambda: BYTES.float() / 255, BYTES.float, "values in 0 to 1"),
        (lambda: BYTES.float() / 127.5 - 1, lambda: BYTES.float() / 255, "(x - 0.5) / 0.5"),
        (lambda: BYTES.float() / 255, lambda: BYTES.float() / 127.5 - 1, "values in 0 to 1"),
    ],
    ids=["right", "0 to 255", "not normalized", "normalized"],
)
def test_a_wrong_normalization_of_tensors_is_told(
    trained: Callable[[], Tensor], given: Callable[[], Tensor], told: str | None
) -> None:
    record = adabn_cli.adapt(trained_on(trained()), [given()])
    doubts = [warning for warning in record.warnings if "Check the preprocessing" in warning]
    assert bool(doubts) == bool(told)
    if told:
        assert told in doubts[0]


@pytest.mark.parametrize("name", ["Anchors", "Pooled"])
def test_outputs_that_are_no_row_an_image_are_told_by_the_api(name: str) -> None:
    record = adabn_cli.adapt(net(name), [(images(), CLASSES)])
    assert (record.before.n, record.before.accuracy) == (0, None)
    assert any("nothing is scored" in warning for warning in record.warnings)
    assert any("were not used" in warning for warning in record.warnings)


def test_a_loader_of_several_inputs_is_told_how_to_wrap() -> None:
    with pytest.raises(UsageError, match="holds 2 inputs") as raised:
        adabn_cli.adapt(net("Plain"), [((images(), torch.zeros(7)), CLASSES)])
    assert "for (x, *_), y in loader" in raised.value.hint
    with pytest.raises(ModelError, match="its forward takes meta too"):
        adabn_cli.adapt(net("WithMeta"), [images()])
