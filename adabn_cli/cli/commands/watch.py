"""`adabn watch`: adapts to what arrives in a folder, and tells it as JSON lines."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from adabn_cli.cli import values
from adabn_cli.cli.option_groups.method import AdaptInitial
from adabn_cli.cli.option_groups.model import ModelPath, RunningModelOptions
from adabn_cli.cli.option_groups.option import Option
from adabn_cli.cli.option_groups.output import Debug
from adabn_cli.cli.option_groups.pictures import MaxPixels, ValueRange
from adabn_cli.cli.option_groups.preprocessing import InputOptions
from adabn_cli.cli.option_groups.spread import Without

if TYPE_CHECKING:
    from adabn_cli.jobs.watch.stream import Event

_STREAM = "Stream"
# How long Ctrl-C may go unnoticed, in seconds.
_NAP = 0.1


def watch(
    *,
    model: ModelPath,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder in which pictures arrive.")
    ],
    out: Annotated[
        Path,
        Option(
            "--out",
            "-o",
            said="line",
            metavar="DIR",
            help="Where pack.safetensors is written and replaced.",
        ),
    ],
    momentum: Annotated[
        float,
        Option(
            "--momentum",
            said="line",
            metavar="M",
            rich_help_panel=_STREAM,
            help="The weight in 0 to 1 of each new batch, from the source on.",
        ),
    ] = 0.1,
    every: Annotated[
        int,
        Option(
            "--every",
            said="settings",
            metavar="N",
            min=1,
            rich_help_panel=_STREAM,
            help="Pictures per batch.",
        ),
    ] = 32,
    interval: Annotated[
        float,
        Option(
            "--interval",
            said="settings",
            metavar="SECONDS",
            min=0,
            rich_help_panel=_STREAM,
            help="Time between two looks. A file counts once it was the same in two.",
        ),
    ] = 2.0,
    patience: Annotated[
        float | None,
        Option(
            "--patience",
            said="settings",
            metavar="SECONDS",
            min=0,
            rich_help_panel=_STREAM,
            help="Adapt to fewer pictures than --every if none has come for so long.",
        ),
    ] = None,
    max_images: Annotated[
        int | None,
        Option(
            "--max-images",
            said="line",
            metavar="N",
            min=1,
            rich_help_panel=_STREAM,
            help="End after N pictures.",
        ),
    ] = None,
    once: Annotated[
        bool,
        Option("--once", said="line", rich_help_panel=_STREAM, help="Take what is there, and end."),
    ] = False,
    adapt_initial: AdaptInitial = False,
    force: Annotated[
        bool, Option("--force", said="line", help="Replace the pack that is there.")
    ] = False,
    loading: Annotated[RunningModelOptions, Without("bf16")],
    preprocessing: InputOptions,
    value_range: ValueRange = None,
    max_pixels: MaxPixels = None,
    quiet: Annotated[
        bool,
        Option(
            "--quiet",
            "-q",
            said="settings",
            rich_help_panel="Output",
            help="Print drift alone.",
        ),
    ] = False,
    debug: Debug = False,
) -> int:
    """Adapt to the pictures that arrive in a folder; ends at Ctrl-C or SIGTERM.

    Prints one JSON object a line: started, adapted, drift, skipped, stopped. Which statistics come
    out depends on the order of the pictures. Restarted, it begins at the source model again.
    """
    from adabn_cli.jobs.watch.request import WatchRequest
    from adabn_cli.jobs.watch.stream import watch as watch_folder

    request = WatchRequest(
        model=loading.request(model),
        folder=folder,
        out=out,
        preprocessing=preprocessing.request(),
        value_range=values.value_range(value_range),
        max_pixels=values.pixels(max_pixels),
        momentum=momentum,
        every=every,
        interval=interval,
        patience=patience,
        max_images=max_images,
        once=once,
        adapt_initial=adapt_initial,
        force=force,
    )
    clock = _Clock()

    def tell(event: Event) -> None:
        if event["event"] == "drift" or not quiet:
            _print_line(event, clock)

    with _stopped_by_signals(clock):
        watch_folder(request, clock, tell)
    return 0


class _Clock:
    """The system's, until it is stopped."""

    def __init__(self) -> None:
        self.stopped = False

    def now(self) -> datetime:
        return datetime.now(UTC)

    def wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        # In naps: a sleep goes on after the signal, and a lock could be held when it comes.
        while not self.stopped and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _NAP))


@contextmanager
def _stopped_by_signals(clock: _Clock) -> Iterator[None]:
    """Inside, the first SIGINT or SIGTERM stops the clock; a second one does what it always did."""
    signals = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.getsignal(number) for number in signals}

    def give_back() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def stop(number: int, frame: FrameType | None) -> None:
        clock.stopped = True
        give_back()

    for number in signals:
        signal.signal(number, stop)
    try:
        yield
    finally:
        give_back()


def _print_line(event: Event, clock: _Clock) -> None:
    """One line on stdout; nobody is left to adapt for where its reader has gone."""
    try:
        print(json.dumps(event, allow_nan=False), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        clock.stopped = True
