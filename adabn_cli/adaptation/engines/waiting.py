"""Where the exact engine's batches wait for each other: in memory, on disk, or nowhere.

A batch that waits nowhere is run again from its start up to every site. The result is the same to
the bit. Chosen from what a probe of a few images measured; knows no file of the target.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from adabn_cli.adaptation.engines.shelf import Arrays, Shelf, Tray
from adabn_cli.model import Model
from adabn_cli.moments import measure

# Measured on resnet50: allocator, and the copies that convolutions and moments make on the side.
_MARGIN = 1.25
# Disks differ and the kernel helps; an estimate of time takes this many bytes a second each way.
_DISK_SPEED = 500e6
# Above so many forwards a seeded draw is offered instead: 27 would be a resnet50's.
MOST_FORWARDS = 10


@dataclass(frozen=True)
class Probe:
    """What one image costs. `live_bytes` is the most that waits at a site, `peak_bytes` the most
    that is alive while it runs; `moved_bytes` goes to disk in one forward where it waits there.

    `seconds` is a forward, `seconds_again` running to each site from the start. `spills` tells
    whether its tensors can be put away, `reruns` whether it comes by every site once.
    """

    live_bytes: int
    peak_bytes: int
    moved_bytes: int
    seconds: float
    seconds_again: float
    spills: bool
    reruns: bool


def probe(model: Model, images: Tensor, folder: Path) -> Probe:
    """Measures a forward of a few images. Raises SpillError where `folder` takes no file."""
    shelf, tray, names = Shelf(folder), Tray(), list[str]()
    live = peak = moved = 0
    spills, n = True, len(images)
    seconds, again = timed(model, images)

    def on_operator() -> None:
        nonlocal peak
        peak = max(peak, tray.live_bytes())

    with closing(shelf), closing(model.suspended(images)) as forward:
        before = 0
        while True:
            with shelf.watched(tray, on_operator):
                signal = next(forward, None)
            if signal is None:
                break
            names.append(signal.site.name)
            size = signal.activation.untyped_storage().nbytes()
            measure(signal.activation)
            arrays = sum(_array_bytes(held) for held in signal.held)
            waits = tray.live_bytes() + arrays
            live, peak = max(live, waits), max(peak, waits + size)
            spills = spills and (shelf.holds(tray, signal.activation) or arrays >= size)
            moved += max(size, waits - before)
            before = waits
            del signal
        shelf.take_down(tray)
    # What nobody saw is guessed: twice the largest activation waits beside it in a resnet.
    return Probe(
        live_bytes=-(-max(live, 3 * moved // max(len(names), 1) if not spills else 0) // n),
        peak_bytes=-(-peak // n),
        moved_bytes=-(-moved // n),
        seconds=seconds,
        seconds_again=again,
        spills=spills,
        reruns=len(set(names)) == len(names),
    )


def timed(model: Model, images: Tensor) -> tuple[float, float]:
    """Seconds an image of a forward that is measured at every site, and of running to each anew.

    Of its own: watching operators takes 2 s before the first, 300 times a small net's forward.
    """
    again, start = 0.0, _now()
    with closing(model.suspended(images)) as forward:
        while (signal := next(forward, None)) is not None:
            measure(signal.activation)
            again += _now() - start
            del signal
    seconds = _now() - start
    return seconds / len(images), (again + seconds) / len(images)


def _now() -> float:
    """Seconds, once a GPU has done all that it was given."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
    return time.perf_counter()


def _array_bytes(arrays: Arrays) -> int:
    return sum(getattr(value, "nbytes", 0) for value in arrays.values())


@dataclass(frozen=True)
class Waiting:
    """How many batches wait in memory, on disk and nowhere, in the order rerun, on disk, in memory.

    Bytes and seconds are estimates: of what is needed in memory with this plan, of the space on
    disk, of one forward of all batches.
    """

    in_memory: int
    on_disk: int = 0
    rerun: int = 0
    folder: Path | None = None
    memory_bytes: int = 0
    disk_bytes: int = 0
    seconds: float = 0.0

    @property
    def tight(self) -> bool:
        """Whether memory does not hold all that waits."""
        return bool(self.on_disk or self.rerun)


@dataclass(frozen=True)
class Room:
    """What there is, in bytes: `memory` beside what is held already, `disk` in `folder`.

    `memory` is None where it is not known.
    """

    memory: int | None
    disk: int
    folder: Path


def plan_waiting(found: Probe, batches: int, batch_size: int, room: Room) -> Waiting:
    """In memory what fits there, on disk what fits there, the rest is run again."""
    live = max(found.live_bytes * batch_size, 1)
    working = int(_MARGIN * found.peak_bytes * batch_size)
    space = None if room.memory is None else max(0, room.memory - working)
    held = batches if space is None else min(batches, int(space / (_MARGIN * live)))
    # Nothing is gained by a shelf for the only batch that runs.
    held = batches if batches == 1 else held
    left = batches - held
    spilled = min(left, int(room.disk / (_MARGIN * live))) if found.spills else 0
    rerun = left - spilled
    images = batches * batch_size
    seconds = found.seconds * images
    seconds += 2 * found.moved_bytes * spilled * batch_size / _DISK_SPEED
    seconds += (found.seconds_again - found.seconds) * rerun * batch_size
    return Waiting(
        held,
        spilled,
        rerun,
        room.folder,
        working + int(_MARGIN * live * max(0, held - 1)),
        spilled * live,
        seconds,
    )
