"""How much memory is left, from the kernel. Knows no model."""

from __future__ import annotations

from pathlib import Path

from adabn_cli.errors import InputError

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")

# Left for the interpreter and for one more convolution's workspace.
_RESERVE_BYTES = 256 << 20


class MemoryShortError(InputError):
    """The batches that wait side by side do not fit into memory."""

    @classmethod
    def with_batches(cls, started: int, batches: int) -> MemoryShortError:
        """The error where `started` of `batches` batches are under way."""
        return cls(
            f"Memory runs out with {started} of {batches} batches waiting side by side.",
            hint="Draw fewer pictures with --max-images, or use --engine one-pass.",
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
