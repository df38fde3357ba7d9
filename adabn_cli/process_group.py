"""The processes that `torchrun` has started for one job, on one machine or several: `Ranks`.

Imported only where there are several. gloo carries what they exchange, nccl where they run on GPUs.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from adabn_cli.errors import AdabnError

_Item = TypeVar("_Item")

# The longest that others wait for the one that reads or computes longest, or hangs.
_PATIENCE = timedelta(hours=1)


class RankError(AdabnError):
    """Another process of the job has failed, with this error and exit code."""

    def __init__(self, error: AdabnError) -> None:
        super().__init__(error.what, where=error.where, hint=error.hint)
        self.exit_code = error.exit_code


class ProcessGroup:
    """This process among those of the job. `device` is the one it computes on."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        on_gpu = self.device.type == "cuda"
        if on_gpu:
            torch.cuda.set_device(self.device)
        with _stdout_closed():
            dist.init_process_group("nccl" if on_gpu else "gloo", timeout=_PATIENCE)
        self.index, self.size = dist.get_rank(), dist.get_world_size()

    def gather(self, item: _Item) -> list[_Item]:
        """What every process gave, by index. Raises RankError where one of them has failed."""
        found = self._exchange((_packed(item), None))
        failed = next((error for _, error in found if error is not None), None)
        if failed is not None:
            raise RankError(failed)
        return [self._unpacked(content) for content, _ in found]

    def fail(self, error: Exception) -> None:
        """Tells the others, who wait for what this process cannot give any more."""
        if isinstance(error, RankError):
            return
        told = AdabnError(f"{type(error).__name__}: {error}".splitlines()[0])
        if isinstance(error, AdabnError):
            told = AdabnError(error.what, where=error.where, hint=error.hint)
            told.exit_code = error.exit_code
        self._exchange((b"", told))

    def close(self) -> None:
        """Leaves the others."""
        dist.destroy_process_group()

    def _exchange(self, item: Any) -> list[Any]:
        found: list[Any] = [None] * self.size
        try:
            dist.all_gather_object(found, item)
        except RuntimeError as error:
            raise RankError(
                AdabnError(
                    "Another process of this job has gone.",
                    where=f"{error}".strip().splitlines()[0],
                    hint="See what torchrun tells of it, and start the job again.",
                )
            ) from error
        return found

    def _unpacked(self, content: bytes) -> Any:
        def here(storage: Any, place: str) -> Any:
            return storage.cuda(self.device) if place.startswith("cuda") else storage

        # What was packed by the same program in another process of this job, and by nobody else.
        return torch.load(io.BytesIO(content), map_location=here, weights_only=False)


@contextmanager
def _stdout_closed() -> Iterator[None]:
    """gloo of torch 2.10 prints to stdout, past Python, that the processes are connected."""
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _packed(item: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(item, buffer)
    return buffer.getvalue()


def own_device(asked: str) -> str:
    """The device of this process: of several GPUs each process takes one."""
    if asked in ("auto", "cuda") and torch.cuda.is_available():
        return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
    return "cpu" if asked == "auto" else asked
