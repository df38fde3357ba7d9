"""Trains the nets and writes all that lies here, with the adabn that is installed.

What is here now is of adabn 0.1.0 as it was before its rooms were rebuilt, and stays: newer
versions have to open it. Run again, this replaces it by what the installed version writes.

    OMP_NUM_THREADS=1 python tests/unchanged/given/make.py
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from nets import Maps, Net, every_kind, folded, no_statistics
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

GIVEN = Path(__file__).resolve().parent
sys.path.insert(0, str(GIVEN.parent))
from pictures import lay_out  # noqa: E402 - it lies in the folder above

BATCH = {0: torch.export.Dim("n")}
MEAN, STD = 0.13, 0.26
ARCH = ("--arch", "given/nets.py:Net", "--img-size", 16)
NET = (*ARCH, "--mean", MEAN, "--std", STD)
TARGET = ("-t", "target", "-b", 8)


def adabn(*arguments: object, code: int = 0, **environment: str) -> None:
    """Runs a command, which has to end with that exit code."""
    command = [sys.executable, "-m", "adabn_cli", *map(str, arguments)]
    done = subprocess.run(command, env=os.environ | environment, check=False)
    if done.returncode != code:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}")


def source_digits() -> tuple[Tensor, Tensor, Tensor]:
    """Inputs [n, 1, 16, 16], labels [n] and masks [n, 16, 16] of source/ of this folder."""
    paths = sorted(Path("source").rglob("*.png"))
    small = [Image.open(x).resize((16, 16), Image.Resampling.BILINEAR) for x in paths]
    values = torch.from_numpy(np.stack(small)).float() / 255
    labels = torch.tensor([int(x.parent.name) for x in paths])
    return (values.unsqueeze(1) - MEAN) / STD, labels, (values > 0.5).long()


def trained(net: nn.Module, inputs: Tensor, truth: Tensor) -> nn.Module:
    """The net after a few steps on all inputs, in eval mode."""
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(80):
        optimizer.zero_grad()
        cross_entropy(net(inputs), truth).backward()
        optimizer.step()
    for parameter in net.parameters():
        parameter.grad = None
    with torch.no_grad():
        net.eval()(inputs[:1])  # An older weight_norm keeps its last weight, here without gradient.
    return net


def write_models() -> None:
    """Writes the nets into given/, in the formats in which users have them."""
    folder = Path("given")
    inputs, labels, masks = source_digits()
    few = inputs[:2].clone()  # A view would bring all of them into the .pt2.
    net = trained(Net(), inputs, labels)
    torch.save(net.state_dict(), folder / "net.pt")
    save_file(net.state_dict(), folder / "net.safetensors")
    torch.jit.script(net).save(str(folder / "net.torchscript"))
    program = torch.export.export(net, (few,), dynamic_shapes=(BATCH,))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # It names files of this machine.
    torch.export.save(program, folder / "net.pt2")
    graph = torch.onnx.export(
        folded(net), (few,), dynamo=True, dynamic_shapes=(BATCH,), verbose=False
    )
    for step in graph.model.graph:
        step.metadata_props.clear()  # They do, too.
    graph.save(folder / "folded.onnx")
    torch.save(trained(Maps(), inputs, masks).state_dict(), folder / "maps.pt")
    preprocessing = {"size": [16, 16], "mean": [MEAN], "std": [STD]}
    preprocessing |= {"crop_pct": 1.0, "interpolation": "bilinear"}
    kinds = every_kind()
    kinds[0].fit([inputs])
    for name, module in (("every_kind", kinds), ("no_statistics", no_statistics())):
        content = {"model": trained(module, inputs, labels), "preprocessing": preprocessing}
        torch.save(content | {"classes": list("0123456789")}, folder / f"{name}.pt")


def write_what_adabn_makes() -> None:
    """Writes profiles, a run, shards, and what a stopped run had measured, into given/."""
    adabn("convert", "given/net.pt", *ARCH, "-o", "given/net.onnx")
    digits = ("--source", "source", "-o", "given/digits.profile")
    adabn("profile", "given/net.pt", *NET, *digits)
    for name in ("every_kind", "no_statistics"):
        adabn("profile", f"given/{name}.pt", "--source", "source")
    matched = ("--profile", "given/digits.profile", "--verify", "-o", "given/run")
    adabn("adapt", "given/net.pt", *NET, *TARGET, *matched)
    for index in (1, 2):
        shard = ("--shard", f"{index}/2", "-o", f"given/shard-{index}.safetensors")
        adabn("collect", "given/net.pt", *NET, *TARGET, *shard)
    stopped = ("--arch", "given/nets.py:Interrupted", "--verify", "-o", "given/stopped")
    adabn("adapt", "given/net.pt", *NET, *TARGET, *stopped, code=130, INTERRUPT_AFTER="21")
    Path("given/stopped.partial/lock").unlink()


def main() -> None:
    """Works in a folder laid out as the tests' is, so that paths are the same."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        lay_out(Path())
        Path("given").mkdir()
        shutil.copy(GIVEN / "nets.py", "given")
        write_models()
        write_what_adabn_makes()
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree("given", GIVEN, ignore=ignored, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
