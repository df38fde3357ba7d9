"""What a script saved, while it trained and by its own names, and scripts that are programs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

SCRIPT = """
import torch
from torch import nn


def activation(x):
    return x.relu()


class Net(nn.Module):
    class Head(nn.Linear):
        pass

    def __init__(self, classes):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.act, self.fc = activation, self.Head(4, classes)

    def forward(self, x):
        return self.fc(self.act(self.bn(self.conv(x))).mean((2, 3)))


if __name__ == "__main__":
    torch.manual_seed(0)
    net = Net(3)
    for _ in range(3):
        net(torch.rand(8, 3, 8, 8))
    torch.save(net, "zip.pth")
    torch.save({"model": net, "epoch": 3}, "inside.pth")
    torch.save(net, "legacy.pth", _use_new_zipfile_serialization=False)
    how = {"input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}, "dynamo": False}
    torch.onnx.export(net.eval(), (torch.rand(1, 3, 8, 8),), "folded.onnx", **how)
"""
READ = """
import sys

loaded = torch.load(sys.argv[1], weights_only=False)
net = loaded["model"] if isinstance(loaded, dict) else loaded
assert type(net) is Net and type(net.fc) is Net.Head and net.act is activation
assert not net.training
torch.save(net.state_dict(), "read.pth")
"""
GIVEN = ("--img-size", "8", "--mean", "0.5", "--std", "0.5", "--labels", "none")
NET = ("--trust-pickle", "--arch", "script.py:Net")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with script.py and the files that it saved, its network in train mode."""
    folder = tmp_path_factory.mktemp("saved")
    (folder / "script.py").write_text(SCRIPT)
    subprocess.run([sys.executable, "-W", "ignore", "script.py"], cwd=folder, check=True)
    return folder


@pytest.fixture
def here(saved: Path, tmp_path: Path) -> Path:
    """The current folder, with what the script saved and twelve pictures."""
    for path in saved.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "pictures").mkdir()
    draw = np.random.default_rng(0)
    for number in range(12):
        values = draw.integers(0, 160, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(values).save(tmp_path / "pictures" / f"{number:02}.png")
    return tmp_path


@pytest.mark.parametrize("name", ["zip", "legacy", "inside"])
def test_a_script_reads_what_it_saved_in_train_mode_once_it_is_adapted(
    name: str, here: Path, command: Callable[..., Any]
) -> None:
    done = command("adapt", f"{name}.pth", "-t", "pictures", "-o", "run", *NET, *GIVEN)
    assert done.code == 0, done.err
    # As the script itself does: its classes are those of __main__.
    program = SCRIPT.partition("if __name__")[0] + READ
    subprocess.run([sys.executable, "-c", program, "run/model.pth"], cwd=here, check=True)
    state = torch.load(here / "read.pth", weights_only=True)

    pictures = [np.asarray(Image.open(p), np.float64) for p in sorted(Path("pictures").iterdir())]
    images = (torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    weight, bias = state["conv.weight"].double(), state["conv.bias"].double()
    seen = torch.nn.functional.conv2d(images, weight, bias)
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(state["bn.running_mean"].double(), seen.mean((0, 2, 3)), **close)
    variance = seen.var((0, 2, 3), correction=0)
    torch.testing.assert_close(state["bn.running_var"].double(), variance, **close)
    again = command("inspect", "run/model.pth", *NET)
    assert (again.code, "script.py:Net" in again.out) == (0, True), again.err


def test_a_class_that_takes_arguments_is_converted(here: Path, command: Callable[..., Any]) -> None:
    done = command("convert", "zip.pth", "-o", "net.safetensors", *NET)
    assert (done.code, Path("net.safetensors").is_file()) == (0, True), done.err


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("import argparse; argparse.ArgumentParser().parse_args()", 'if __name__ == "__main__":'),
        ("raise SystemExit('bye')", 'if __name__ == "__main__":'),
        ("raise SystemExit(0)", 'if __name__ == "__main__":'),
        ("def Net(): raise SystemExit(0)", "The architecture cannot be built: SystemExit"),
    ],
    ids=["argparse", "message", "success", "builder"],
)
def test_a_script_that_ends_the_program_is_told(
    text: str, hint: str, here: Path, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["adabn", "inspect"])
    Path("program.py").write_text(text)
    torch.save({"bn.weight": torch.ones(4)}, "state.pth")
    done = command("inspect", "state.pth", "--arch", "program.py:Net")
    assert (done.code, hint in " ".join(done.err.split())) == (2, True), done.err


def test_arch_args_of_no_value_are_told(here: Path, command: Callable[..., Any]) -> None:
    given = ("--arch", "script.py:Net", "--arch-args", "opts={[1]: 2}")
    done = command("inspect", "zip.pth", *given)
    assert (done.code, "neither a Python literal nor JSON" in done.err) == (2, True), done.err


@pytest.mark.parametrize(
    ("file", "code", "said"),
    [("zip.pth", 0, "trusted pickle"), ("state.pth", 2, "Leave out --arch.")],
    ids=["whole-network", "state-dict"],
)
def test_a_reference_of_a_script_is_opened_with_the_script(
    file: str, code: int, said: str, here: Path, command: Callable[..., Any]
) -> None:
    torch.save({"bn.running_mean": torch.zeros(4), "bn.running_var": torch.ones(4)}, "state.pth")
    how = ("-t", "pictures", "-o", "run", "--reference", file)
    done = command("adapt", "folded.onnx", *how, *NET, *GIVEN)
    assert (done.code, said in done.out + done.err) == (code, True), done.out + done.err
