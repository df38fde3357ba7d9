"""adabn beside a plain pass and update_bn on a GPU: time, error, and NCCL. `make bench-gpu`.

ResNet-50 at 224 px in batches of 256. Prints a table in Markdown and writes the figures to a JSON
file. `--device cpu --images 8 --batch-size 4` tries it where there is no GPU, with gloo.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from float64_oracle import truth, worst_error
from photographs import tensors
from source_nets import source_net
from table import Cell, Table
from torch import Tensor, nn
from ways import EXACT, PLAIN, WAYS

from adabn_cli.adaptation.engines.exact import estimate
from adabn_cli.adaptation.engines.passes import Passes
from adabn_cli.adaptation.installer import Installer
from adabn_cli.adaptation.methods import Adaptation
from adabn_cli.model import no_output, no_progress
from adabn_cli.models.live.module import EagerModel
from adabn_cli.process_group import ProcessGroup
from adabn_cli.ranks import ALONE, Ranks

_BF16 = "adabn exact, --bf16"
_DISTINCT = 256


def main() -> None:
    """Prints the table, and whether one rank gives the bits of none."""
    options = _options()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("There is no GPU here. Try the benchmark itself with --device cpu --images 8.")
    # Both sides in the precision that torch takes by itself: TF32 for convolutions.
    net = source_net("resnet50").to(device, memory_format=torch.channels_last)
    some = tensors(min(options.images, _DISTINCT), 224).to(device)
    images = some.repeat(-(-options.images // len(some)), 1, 1, 1)[: options.images]
    batches = images.contiguous(memory_format=torch.channels_last).split(options.batch_size)
    small = tensors(min(options.images, _DISTINCT), 64).to(device)
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "images": len(images),
        "batch_size": options.batch_size,
        "ways": _times(net, batches, options.rounds),
        "one rank gives the bits of none": _one_rank(net, batches, options.device),
    }
    true = truth(net, small)
    for way in found["ways"]:
        if way != PLAIN:
            adapted = copy.deepcopy(net)
            _ways()[way](adapted, small.split(32))
            found["ways"][way]["error"] = worst_error(adapted, small, true).statistics
    print(_table(found).text())
    print(f"One rank gives the bits of none: {found['one rank gives the bits of none']}.")
    options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "gpu.json")
    return parser.parse_args()


def _ways() -> dict[str, Callable[[nn.Module, tuple[Tensor, ...]], None]]:
    return {
        PLAIN: WAYS[PLAIN].run,
        "torch update_bn": WAYS["torch update_bn"].run,
        EXACT: WAYS[EXACT].run,
        _BF16: _in_bfloat16,
    }


def _in_bfloat16(module: nn.Module, batches: tuple[Tensor, ...]) -> None:
    _exact(EagerModel(module, bf16=True), batches, ALONE)
    module.eval()


def _exact(model: EagerModel, batches: tuple[Tensor, ...], ranks: Ranks) -> dict[str, Tensor]:
    installer = Installer.of(model, Adaptation(), sum(map(len, batches)))
    passes = replace(Passes.over(batches), ranks=ranks)
    estimate(installer, passes, no_output, no_progress)
    return {name: value.clone() for name, value in model.state().items()}


def _times(net: nn.Module, batches: tuple[Tensor, ...], rounds: int) -> dict[str, Any]:
    """Wall seconds by way and round, after one round that is not counted, turn by turn."""
    taken: dict[str, list[float]] = {way: [] for way in _ways()}
    for number in range(rounds + 1):
        for way, run in _ways().items():
            copied = copy.deepcopy(net)
            _wait_for(batches[0].device)
            start = time.perf_counter()
            run(copied, batches)
            _wait_for(batches[0].device)
            if number:
                taken[way].append(time.perf_counter() - start)
    plain = taken[PLAIN]
    return {
        way: {
            "wall_seconds": seconds,
            "wall": median(a / b for a, b in zip(seconds, plain, strict=True)),
        }
        for way, seconds in taken.items()
    }


def _wait_for(device: torch.device) -> None:
    """Comes back once the GPU has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _one_rank(net: nn.Module, batches: tuple[Tensor, ...], device: str) -> bool:
    """Whether a job of one process in a group, NCCL's on a GPU, gives what a lone process does."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29577", "RANK": "0"}
    os.environ["WORLD_SIZE"] = "1"
    group = ProcessGroup(device)
    try:
        together = _exact(EagerModel(copy.deepcopy(net)), batches, group)
    finally:
        group.close()
    alone = _exact(EagerModel(copy.deepcopy(net)), batches, ALONE)
    return all(torch.equal(value, alone[name]) for name, value in together.items())


def _table(found: dict[str, Any]) -> Table:
    rows: list[dict[str, Cell]] = [
        {
            "way": way,
            "wall time": f"{one['wall']:.2f}x",
            "images a second": f"{found['images'] / median(one['wall_seconds']):,.0f}",
            "worst error": f"{one['error']:.2g}" if "error" in one else None,
        }
        for way, one in found["ways"].items()
    ]
    notes = (
        f"resnet50, {found['images']:,} images of 224 px in batches of {found['batch_size']}, on "
        f"{found['device']}; time against the plain pass of the same round, the median of all. "
        "Errors of a statistic at 64 px in batches of 32, against float64."
    )
    return Table("On a GPU", notes, rows)


if __name__ == "__main__":
    main()
