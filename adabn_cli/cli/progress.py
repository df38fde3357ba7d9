"""How work is shown while it goes on: a live bar on a terminal, plain lines everywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from adabn_cli.cli.consoles import console, shows_cursor

_WORDS = {
    "read": "reading pictures",
    "before": "scoring before",
    "search": "seeking how many",
    "adapt": "adapting",
    "verify": "verifying",
    "held out": "scoring held-out pictures",
    "score": "scoring",
}
_SHARE, _SECONDS, _QUIET_SECONDS = 0.1, 30.0, 2.0

Tell = Callable[[str, int, int], None]


@contextmanager
def shown_progress(*, quiet: bool) -> Iterator[Tell]:
    """Inside, the given function takes (stage, done, total). Nothing is shown where `quiet`."""
    if quiet:
        yield lambda stage, done, total: None
    elif shows_cursor(sys.stderr):
        with _bars() as tell:
            yield tell
    else:
        yield _PlainLines()


@contextmanager
def _bars() -> Iterator[Tell]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<26}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console(sys.stderr), transient=True) as bars:
        tasks = {}

        def tell(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(_WORDS.get(stage, stage), total=total, rate="")
            speed = bars.tasks[tasks[stage]].speed
            rate = f"{speed:.3g}/s" if speed else ""
            bars.update(tasks[stage], completed=done, total=total, rate=rate)

        yield tell


class _PlainLines:
    """A line every ten percent of a stage or thirty seconds, none within two seconds of another."""

    def __init__(self) -> None:
        self._stage = ""
        self._share, self._time = 0.0, time.monotonic()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage:
            self._stage, self._share, self._time = stage, 0.0, time.monotonic()
        share = done / max(total, 1)
        waited = time.monotonic() - self._time
        if waited < _QUIET_SECONDS or (share - self._share < _SHARE and waited < _SECONDS):
            return
        self._share, self._time = share, time.monotonic()
        print(f"{_WORDS.get(stage, stage)}: {done}/{total} ({share:.0%})", file=sys.stderr)
