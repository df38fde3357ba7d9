"""How a run keeps within its memory: what is kept where, and what that will take.

Knows how many pictures there are and what one costs; not how tensors get to disk.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from adabn_cli.adaptation.engines.spill_file import free_bytes
from adabn_cli.adaptation.engines.waiting import (
    MOST_FORWARDS,
    Probe,
    Room,
    Waiting,
    plan_waiting,
    probe,
    timed,
)
from adabn_cli.data.store import MEMORY_BYTES, Keeping
from adabn_cli.errors import UsageError
from adabn_cli.jobs.scored_data import PicturesRequest, ScoredPictures
from adabn_cli.machine import default_limit, resident_bytes
from adabn_cli.models.format import FileModel

# Enough to see what an image costs; a sixtieth of the forwards over 250 pictures.
_PROBED_IMAGES = 4
# A batch under so many seconds is timed whole: a few images of a small net take as long as many.
_QUICK = 0.3
# Decoded pictures beyond that go to disk. They are read in order, which costs hardly anything.
_SHARE_OF_PICTURES = 1 / 8
# A draw of fewer would know the means worse than a profile's source pictures do.
_FEWEST_DRAWN = 256
# Disk that is left to others.
_SHARE_OF_DISK = 0.9


@dataclass(frozen=True)
class Limits:
    """Memory that a run may take, in bytes, and the folder for what does not fit.

    By default three quarters of what the machine or container has to give, and the folder for
    temporary files.
    """

    memory_bytes: int | None = None
    spill_dir: Path | None = None

    @property
    def folder(self) -> Path:
        """Where what does not fit is put."""
        return self.spill_dir or Path(tempfile.gettempdir())

    def most_bytes(self, device: str = "cpu") -> int | None:
        """The limit in bytes; None where neither the user nor the system says one."""
        return self.memory_bytes if self.memory_bytes is not None else default_limit(device)

    def kept(self, pictures: PicturesRequest) -> PicturesRequest:
        """The request with a limit on the memory of decoded pictures.

        Raises UsageError where the folder cannot be used, before anything is read.
        """
        free_bytes(self.folder)
        most = self.most_bytes()
        kept = MEMORY_BYTES if most is None else min(MEMORY_BYTES, int(most * _SHARE_OF_PICTURES))
        return replace(pictures, keeping=Keeping(kept, self.folder))


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """Where batches wait, and `seconds` that all forwards take; estimates from a probe.

    `draw` pictures, with a seed, are all that fits; None where all of them do.
    """

    waiting: Waiting
    probe: Probe
    limit_bytes: int | None
    draw: int | None = None
    warning: str | None = None


def plan_memory(
    model: FileModel, pictures: ScoredPictures, limits: Limits, *, side_by_side: bool
) -> MemoryPlan:
    """The cheapest plan that keeps within the limits: memory, disk, run again, or a draw.

    Not `side_by_side`, one batch runs after the other and none waits.

    A draw changes the result: it is for where neither memory nor disk will do and running again
    would take more than ten forwards, and it is always told.
    """
    images = pictures.images
    size = min(pictures.target.request.batch_size, images)
    own = len(pictures.target.batches())
    found = probe(model, pictures.target.few(min(_PROBED_IMAGES, images)), limits.folder)
    # All ranks or none: they gather the pictures that are timed.
    ranks = pictures.target.request.ranks
    if all(ranks.gather(found.seconds * size < _QUICK)):
        seconds, again = timed(model, pictures.target.spread(size))
        found = replace(found, seconds=seconds, seconds_again=again)
    # Batches wait where the model computes.
    most, held = limits.most_bytes(model.device), resident_bytes(model.device)
    room = Room(
        None if most is None else max(0, most - held),
        int(_SHARE_OF_DISK * free_bytes(limits.folder)),
        limits.folder,
    )
    waiting = plan_waiting(found, max(own, 1) if side_by_side else 1, size, room)
    waiting = replace(waiting, memory_bytes=waiting.memory_bytes + held)
    plan = MemoryPlan(waiting=waiting, probe=found, limit_bytes=most)
    if waiting.rerun:
        return _with_fewer(plan, images, size, limits.folder)
    if most is not None and waiting.memory_bytes > most:
        return replace(plan, warning=_too_small(waiting, most, size))
    return plan


def _with_fewer(plan: MemoryPlan, images: int, size: int, folder: Path) -> MemoryPlan:
    """A draw of the pictures that fit, where running the others again is too dear."""
    waiting, found = plan.waiting, plan.probe
    fit = (waiting.in_memory + waiting.on_disk) * size
    dear = found.seconds_again > MOST_FORWARDS * found.seconds
    if found.reruns and not (dear and fit >= _FEWEST_DRAWN):
        return plan
    if fit < 1:
        raise UsageError(
            "The pictures fit neither in memory nor on disk, and cannot be run again: the model "
            "uses a layer several times.",
            where=str(folder),
            hint="Give a larger --memory, --spill-dir on a larger disk, or a smaller --batch-size.",
        )
    drawn = replace(
        waiting,
        rerun=0,
        seconds=waiting.seconds * fit / images,
    )
    return replace(
        plan,
        waiting=drawn,
        draw=fit,
        warning=f"Only {fit:,} of {images:,} pictures fit into memory and on disk, and were drawn "
        "with --seed. A larger --memory, or --spill-dir on a larger disk, takes all.",
    )


def _too_small(waiting: Waiting, most: int, size: int) -> str:
    return (
        f"One batch of {size} takes about {waiting.memory_bytes / 2**20:,.0f} MiB, more than the "
        f"{most / 2**20:,.0f} MiB of --memory. A smaller --batch-size takes less."
    )
