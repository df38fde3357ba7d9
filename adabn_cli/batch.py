"""Batches of images, the only thing an engine is fed. Knows no file, no label and no model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from torch import Tensor

from adabn_cli.outputs import Outputs


class Batches(Protocol):
    """Re-iterable batches: every pass yields the same [n, C, H, W] tensors in the same order."""

    def __iter__(self) -> Iterator[Tensor]: ...

    def __len__(self) -> int:
        """Number of batches."""


#: Called with (done, total) as work goes on.
Progress = Callable[[int, int], None]


class OutputSink(Protocol):
    """Takes the outputs of a batch as soon as they are there."""

    def __call__(self, index: int, outputs: Outputs) -> None:
        """The outputs of batch `index`; a second call with the same index replaces the first."""


def no_progress(done: int, total: int) -> None:
    """Tells nobody."""


def no_output(index: int, outputs: Outputs) -> None:
    """Drops the outputs."""
