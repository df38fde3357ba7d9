"""adabn beside its peers: time, error against a float64 oracle, and whole jobs. `make bench`.

Prints tables in Markdown and writes all figures to a JSON file. Times alternate in one process on
one thread; CPU time is what counts where a machine is shared. About 14 minutes on two free cores.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import torch
from float64_oracle import truth, worst_error
from photographs import large_jpegs, small_jpegs, tensors
from source_nets import source_net
from table import Cell, Table
from targets_met import targets_met
from torch import Tensor, nn
from ways import KEPT, PLAIN, WAYS, unavailable
from whole_jobs import Job, side_by_side

import adabn_cli  # noqa: F401  isort: skip  # Beside a torch without CUDA torchvision needs it.
import torchvision  # isort: skip

BATCHES = (8, 32, 128)
_SCORED = 64  # Whose logits are compared, spread over all.
_FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


def main() -> None:
    """Prints the tables as they are made, then which targets are met."""
    options = _options()
    absent = unavailable()
    found: dict[str, Any] = {
        "machine": {
            "processors": os.cpu_count(),
            "machine": platform.machine(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
        },
        "unavailable": absent,
        "times": {},
        "errors": {},
        "jobs": {},
    }
    for name in options.models.split(","):
        net = source_net(name).to(memory_format=torch.channels_last)
        ways = [way for way in WAYS if way not in absent]
        found["times"][name] = _times(net, ways, options)
        print(_times_table(name, found, options).text(), flush=True)
        if options.error_images:
            found["errors"][name] = _errors(net, ways, options)
            print(_errors_table(name, found, options).text(), flush=True)
    if options.jobs:
        found["jobs"] = _jobs(options)
        print(_jobs_table(found["jobs"]).text(), flush=True)
    found["targets"] = targets_met(found)
    print(Table("Targets", "", found["targets"]).text())
    options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="resnet18,resnet50,mobilenet_v2")
    parser.add_argument("--images", type=int, default=64, help="at 224 px, timed")
    parser.add_argument("--batch-size", type=int, default=32, help="of those timed")
    parser.add_argument("--rounds", type=int, default=3, help="of a net at least")
    parser.add_argument("--seconds", type=float, default=60, help="that a net's rounds go on for")
    parser.add_argument("--error-images", type=int, default=160, help="at 48 px; 0 for none")
    parser.add_argument("--jobs", type=int, default=1, help="rounds of whole jobs")
    parser.add_argument("--small", type=int, default=192, help="JPEGs of 500x400")
    parser.add_argument("--large", type=int, default=160, help="JPEGs of 12 megapixels")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "peers.json")
    return parser.parse_args()


def _times(net: nn.Module, ways: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of CPU and wall time a round by way, and the memory format that suits the way."""
    torch.set_num_threads(1)
    images = tensors(options.images, 224)
    formats = {way: _fastest_format(net, way, images[:8]) for way in ways}
    rounds: list[dict[str, tuple[float, float]]] = []
    start = time.perf_counter()
    while len(rounds) < options.rounds or time.perf_counter() - start < options.seconds:
        taken = {}
        for way in ways:
            of_way = _FORMATS[formats[way]]
            copied = copy.deepcopy(net).to(memory_format=of_way)
            batches = images.contiguous(memory_format=of_way).split(options.batch_size)
            taken[way] = _timed(lambda run=WAYS[way].run, a=copied, b=batches: run(a, b))
        rounds.append(taken)
    return {
        way: {
            "format": formats[way],
            "cpu_seconds": [taken[way][0] for taken in rounds],
            "wall_seconds": [taken[way][1] for taken in rounds],
            "cpu": median(taken[way][0] / taken[PLAIN][0] for taken in rounds),
            "wall": median(taken[way][1] / taken[PLAIN][1] for taken in rounds),
        }
        for way in ways
    }


def _fastest_format(net: nn.Module, way: str, images: Tensor) -> str:
    """The format with the least CPU time; the first of two turns is cold for whoever is first."""
    seconds: dict[str, list[float]] = {name: [] for name in _FORMATS}
    for _ in range(2):
        for name, of_way in _FORMATS.items():
            copied = copy.deepcopy(net).to(memory_format=of_way)
            batches = images.contiguous(memory_format=of_way).split(len(images))
            seconds[name].append(_timed(lambda a=copied, b=batches: WAYS[way].run(a, b))[0])
    return min(seconds, key=lambda name: min(seconds[name]))


def _timed(run: Callable[[], None]) -> tuple[float, float]:
    """Seconds of CPU and of wall time."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.process_time() - cpu, time.perf_counter() - wall


def _errors(net: nn.Module, ways: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """Worst errors by way, order and batch size. On all processors: no time is taken here."""
    torch.set_num_threads(os.cpu_count() or 1)
    by_class = tensors(options.error_images, 48)
    true = truth(net, by_class)
    lots = torch.randperm(len(by_class), generator=torch.Generator().manual_seed(0))
    orders = {"shuffled": by_class[lots], "by class": by_class}
    scored = slice(None, None, max(1, len(by_class) // _SCORED))
    found: dict[str, Any] = {}
    for way in ways:
        if way in (PLAIN, KEPT):
            continue
        found[way] = {}
        for order, images in orders.items():
            for size in BATCHES:
                adapted = copy.deepcopy(net)
                WAYS[way].run(adapted, images.split(size))
                error = worst_error(adapted, by_class[scored], true.of(scored))
                found[way][f"{order}, {size}"] = asdict(error)
    return found


def _jobs(options: argparse.Namespace) -> dict[str, Any]:
    small, large = small_jpegs(options.small), large_jpegs(options.large)
    of_small, of_large = f"{options.small} of 500x400", f"{options.large} of 12 megapixels"
    jobs = [
        Job("resnet18", small, f"{of_small}, resnet18"),
        Job("resnet18", large, f"{of_large}, resnet18"),
        Job("resnet18", large, f"{of_large}, resnet18, --fast-decode", ("--fast-decode",)),
    ]
    return {
        name: [{who: asdict(taken) for who, taken in one.items()} for one in rounds]
        for name, rounds in side_by_side(jobs, options.jobs).items()
    }


def _times_table(name: str, found: dict[str, Any], options: argparse.Namespace) -> Table:
    rows: list[dict[str, Cell]] = []
    for way, about in WAYS.items():
        row: dict[str, Cell] = {"way": way}
        times = found["times"][name].get(way)
        if times:
            row |= {"CPU time": f"{times['cpu']:.2f}x", "wall time": f"{times['wall']:.2f}x"}
            row |= {"ms an image": 1000 * median(times["cpu_seconds"]) / options.images}
            row |= {"memory format": times["format"], "note": about.note}
        else:
            why = found["unavailable"][way]
            row |= {"CPU time": None, "wall time": None, "ms an image": None}
            row |= {"memory format": None, "note": f"does not run here: {why}"}
        rows.append(row)
    rounds = len(found["times"][name][PLAIN]["cpu_seconds"])
    notes = (
        f"{options.images} images of 224 px in batches of {options.batch_size}, one thread, median "
        f"of {rounds} alternating rounds; times against the plain pass of the same round."
    )
    return Table(f"{name}: time", notes, rows, decimals=1)


def _errors_table(name: str, found: dict[str, Any], options: argparse.Namespace) -> Table:
    rows: list[dict[str, Cell]] = [
        {"way": way}
        | {case: f"{error['statistics']:.2g} / {error['logits']:.2g}" for case, error in of.items()}
        for way, of in found["errors"][name].items()
    ]
    notes = (
        f"Worst error of a statistic / of a logit, in standard deviations (a variance: as a share "
        f"of it), against float64. {options.error_images} images of 48 px; order and batch size."
    )
    return Table(f"{name}: error", notes, rows)


def _jobs_table(jobs: dict[str, Any]) -> Table:
    rows: list[dict[str, Cell]] = [
        {
            "pictures": name,
            "script, s": median(one["script"]["wall"] for one in rounds),
            "adabn adapt, s": median(one["adabn"]["wall"] for one in rounds),
            "wall time": f"{_ratio(rounds, 'wall'):.2f}x",
            "CPU time": f"{_ratio(rounds, 'cpu'):.2f}x",
        }
        for name, rounds in jobs.items()
    ]
    notes = (
        "From a folder of JPEGs to the adapted model on disk, imports and all, as processes that "
        "take turns: evaluate, adapt, evaluate."
    )
    return Table("Whole jobs", notes, rows, decimals=1)


def _ratio(rounds: list[dict[str, Any]], what: str) -> float:
    return median(one["adabn"][what] / one["script"][what] for one in rounds)


if __name__ == "__main__":
    main()
