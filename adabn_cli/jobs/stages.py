"""The stages of a job: which one is under way, and how long each took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from adabn_cli.model import Progress


class Stages:
    """Tells which stage is under way, and how long each took in seconds."""

    def __init__(self, tell: Callable[[str, int, int], None] | None = None) -> None:
        self._tell = tell
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[Progress]:
        """Inside, the given function takes (done, total) of this stage."""
        start = time.perf_counter()
        yield lambda done, total: self._tell(name, done, total) if self._tell else None
        self.seconds[name] = time.perf_counter() - start
