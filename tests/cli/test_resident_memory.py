"""Peak resident memory under `--memory` does not grow with the pictures. Takes half an hour."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn

_MEMORY = "1GiB"


def photographs(folder: Path, count: int) -> Path:
    """Smooth random JPEGs."""
    folder.mkdir()
    for number in range(count):
        coarse = np.random.default_rng(number).integers(0, 255, (8, 10, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((320, 256), Image.Resampling.BICUBIC)
        picture.save(folder / f"{number:05}.jpg", quality=85)
    return folder


def checkpoint(file: Path) -> Path:
    """A resnet50 with random weights and statistics."""
    torch.manual_seed(0)
    net = torchvision.models.resnet50(weights=None)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.2)
            layer.running_var.uniform_(0.5, 2)
    torch.save(net.state_dict(), file)
    return file


def adapted(model: Path, pictures: Path, out: Path, *options: str) -> tuple[int, bytes]:
    """Peak resident bytes of a run in a process of its own, and its pack."""
    command = [sys.executable, "-m", "adabn_cli", "adapt", str(model), "-t", str(pictures)]
    command += ["--arch", "torchvision:resnet50", "-o", str(out), "-q", *options]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    return record["run"]["peak_memory_bytes"], (out / "pack.safetensors").read_bytes()


@pytest.mark.slow
def test_peak_memory_is_the_same_for_250_and_for_1500_pictures(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "resnet50.pt")
    spill = tmp_path / "spill"
    spill.mkdir()
    limited = ("--memory", _MEMORY, "--spill-dir", str(spill))
    few = photographs(tmp_path / "few", 250)
    many = photographs(tmp_path / "many", 1500)
    peak_of_few, pack = adapted(model, few, tmp_path / "run-few", *limited)
    peak_of_many, _ = adapted(model, many, tmp_path / "run-many", *limited)
    _, pack_in_memory = adapted(model, few, tmp_path / "run-memory", "--memory", "64GiB")
    assert peak_of_many == pytest.approx(peak_of_few, rel=0.15)
    assert pack == pack_in_memory
    assert not list(spill.iterdir())
