"""Where words go: results to stdout, everything else to stderr. Colour only on a terminal."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TextIO

from adabn_cli.errors import AdabnError

if TYPE_CHECKING:
    from rich.console import Console


def shows_cursor(stream: TextIO) -> bool:
    """True where a stream is a terminal that can be drawn on, and no CI log."""
    return (
        stream.isatty()
        and os.environ.get("TERM") != "dumb"
        and os.environ.get("CI", "").lower() not in ("1", "true")
    )


def console(stream: TextIO) -> Console:
    """A console on `stream`. Decided by `isatty()`: Rich's own guess trusts FORCE_COLOR."""
    from rich.console import Console

    terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
    return Console(
        file=stream,
        force_terminal=terminal,
        no_color=not terminal or "NO_COLOR" in os.environ,
        width=None if terminal else int(os.environ.get("COLUMNS", "100")),
        highlight=False,
        soft_wrap=False,
    )


def tell(text: str, *, style: str = "") -> None:
    """One plain line for the user, on stderr."""
    from rich.text import Text

    console(sys.stderr).print(Text(text, style=style), soft_wrap=True)


def print_error(error: AdabnError) -> None:
    """An error on stderr: what, where, what to do next."""
    tell(f"error: {error.what}", style="bold red")
    for line in (error.where, error.hint):
        if line:
            tell(f"  {line}")
