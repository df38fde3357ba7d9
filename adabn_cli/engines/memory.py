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


def available_bytes() -> int | None:
    """Memory that can still be taken, in bytes; None where the system does not say."""
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines)
    available = int(fields["MemAvailable"].split()[0]) * 1024
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
    except OSError:
        return available
    return available if limit == "max" else min(available, int(limit) - used)


def require_memory(started: int, batches: int) -> None:
    """Raises MemoryShortError before the kernel would kill the process.

    `started` of `batches` batches wait side by side at this moment.
    """
    left = available_bytes()
    if left is not None and left < _RESERVE_BYTES:
        raise MemoryShortError(
            f"Memory runs out with {started} of {batches} batches waiting side by side.",
            hint="Draw fewer pictures with --max-images, or use --engine one-pass.",
        )
