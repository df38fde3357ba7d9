"""How much memory is left, from the kernel or the GPU's driver. Knows no model."""

from __future__ import annotations

import ctypes
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from adabn_cli.errors import InputError

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
_STATM = Path("/proc/self/statm")

# The C library of this process; only glibc's has malloc_trim and mallopt.
_LIBC = ctypes.CDLL(None)

# Of glibc's malloc.h: how much may lie free, and from which size on how many blocks have a mapping
# of their own.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4

# The rest is for other programs, and for the files that the kernel keeps in memory.
_SHARE = 0.75

# Left for the interpreter and for one more convolution's workspace.
_RESERVE_BYTES = 256 << 20


class MemoryShortError(InputError):
    """The batches that wait side by side do not fit into memory."""

    @classmethod
    def with_batches(cls, started: int, batches: int) -> MemoryShortError:
        """The error where `started` of `batches` batches are under way."""
        return cls(
            f"Memory runs out with {started} of {batches} batches waiting side by side.",
            hint="Give a smaller --memory, so that more waits on disk, or draw fewer pictures with "
            "--max-images.",
        )


def available_bytes() -> int | None:
    """Memory that can still be taken, in bytes; None where the system does not say."""
    try:
        machine = _fields(_MEMINFO)["MemAvailable:"] * 1024
    except OSError:
        return None
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
        stat = _fields(_CGROUP / "memory.stat")
    except OSError:
        return machine
    if limit == "max":
        return machine
    # The kernel drops cached file pages before it ends a process; pictures just read fill them.
    cached = stat["inactive_file"] + stat["active_file"]
    return min(machine, int(limit) - used + cached)


def resident_bytes(device: str = "cpu") -> int:
    """What this process holds in memory now; its most so far where the system says no more.

    Of a GPU, what torch has taken there.
    """
    if device.startswith("cuda"):
        return torch.cuda.memory_reserved(device)
    try:
        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB.


def give_back_freed() -> None:
    """Gives the system what was freed. glibc keeps holes: 230 of 975 MiB of a resnet50."""
    trim = getattr(_LIBC, "malloc_trim", None)
    if trim is not None:
        trim(0)


@contextmanager
def keeping_freed() -> Iterator[None]:
    """Inside, what is freed is kept for what is needed next; afterwards it is given back.

    glibc gives blocks over 32 MiB back at once, and the kernel clears their pages each time they
    come again: a tenth of the time of a resnet18 with 32 images of 224 px, half a mobilenet_v2's.
    """
    option = getattr(_LIBC, "mallopt", None)
    if option is None:
        yield
        return
    option(_M_MMAP_MAX, 0)
    option(_M_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        # What glibc comes to by itself once a block of 32 MiB was freed, and starts with.
        option(_M_MMAP_THRESHOLD, 32 << 20)
        option(_M_TRIM_THRESHOLD, 64 << 20)
        option(_M_MMAP_MAX, 65536)
        give_back_freed()


def default_limit(device: str = "cpu") -> int | None:
    """The share of what there is that a run may take, in bytes; None where that is not known."""
    on_gpu = device.startswith("cuda")
    left = torch.cuda.mem_get_info(device)[0] if on_gpu else available_bytes()
    return None if left is None else int(_SHARE * (left + resident_bytes(device)))


def _fields(file: Path) -> dict[str, int]:
    """The first number behind each name in one of the kernel's tables."""
    return {name: int(value) for name, value, *_ in map(str.split, file.read_text().splitlines())}


def require_memory(started: int, batches: int) -> None:
    """Raises MemoryShortError before the kernel would kill the process.

    `started` of `batches` batches wait side by side at this moment.
    """
    left = available_bytes()
    if left is not None and left < _RESERVE_BYTES:
        raise MemoryShortError.with_batches(started, batches)
