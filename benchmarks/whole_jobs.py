"""Whole jobs from a folder of JPEG files, `adabn adapt` against a user's script, as processes."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from photographs import MEAN, STD
from source_nets import source_net

_SCRIPT = Path(__file__).parent / "users_script.py"


@dataclass(frozen=True)
class Job:
    """A net to adapt to a folder; `options` are adabn's, beside those that the script has too."""

    architecture: str
    folder: Path
    name: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Taken:
    """Seconds of wall and CPU time that a process and its children took."""

    wall: float
    cpu: float


def side_by_side(jobs: list[Job], rounds: int) -> dict[str, list[dict[str, Taken]]]:
    """What every job took, by name: one a round, the script's and adabn's turn by turn.

    The script has no options: jobs that differ in those alone share its turn of the round.
    """
    taken: dict[str, list[dict[str, Taken]]] = {job.name: [] for job in jobs}
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(rounds):
            scripts: dict[tuple[str, Path], Taken] = {}
            for job in jobs:
                script, adabn = _commands(job, Path(scratch))
                subject = job.architecture, job.folder
                scripts[subject] = scripts.get(subject) or _take(script)
                taken[job.name].append({"script": scripts[subject], "adabn": _take(adabn)})
    return taken


def _commands(job: Job, scratch: Path) -> tuple[list[str], list[str]]:
    """The script's and adabn's."""
    classes = sum(1 for _ in job.folder.iterdir())
    state = scratch / f"{job.architecture}-{classes}.pth"
    if not state.exists():
        torch.save(source_net(job.architecture, classes).state_dict(), state)
    workers = str(os.cpu_count() or 1)
    script = [str(_SCRIPT), job.architecture, str(state), str(job.folder)]
    adabn = ["-m", "adabn_cli", "adapt", str(state), "--target", str(job.folder)]
    adabn += ["--arch", f"torchvision:{job.architecture}", "--arch-args", f"num_classes={classes}"]
    adabn += ["--img-size", "224", "--crop-pct", "0.875", "--interpolation", "bilinear"]
    adabn += ["--mean", ",".join(map(str, MEAN)), "--std", ",".join(map(str, STD))]
    adabn += ["--workers", workers, "--out", str(scratch / "run"), "--force", "--quiet"]
    return (
        [sys.executable, *script, str(scratch / "adapted.pth"), workers],
        [sys.executable, *adabn, *job.options],
    )


def _take(command: list[str]) -> Taken:
    """Runs it; exits with what it said where it fails."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Taken(wall, cpu)
