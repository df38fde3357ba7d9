"""Where words go: results to stdout, everything else to stderr. Colour only on a terminal."""

from __future__ import annotations

import codecs
import io
import json
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

from adabn_cli.errors import AdabnError
from adabn_cli.text import one_line

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_PIPE_COLUMNS = 100
_IN_ASCII = str.maketrans({"–": "-", "−": "-", "…": "...", "×": "x", "─": "-"})


def speak_any_encoding() -> None:
    """Lets stdout and stderr write what their encoding lacks, by likeness or escaped."""
    codecs.register_error("adabn", _alike)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="adabn")


def _alike(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_IN_ASCII)
    return text.encode("ascii", "backslashreplace").decode(), error.end


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
    known_width = stream.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return Console(
        file=stream,
        force_terminal=terminal,
        no_color=not terminal or "NO_COLOR" in os.environ,
        width=None if known_width else _PIPE_COLUMNS,
        highlight=False,
        soft_wrap=False,
    )


def write(text: str) -> None:
    """Writes a result to stdout. A reader that has left (`| head`) does not change what follows."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def write_json(document: Any) -> None:
    """Writes one JSON document to stdout, in ASCII whatever the stream's encoding."""
    write(json.dumps(document, indent=2))


def show(rendering: RenderableType) -> None:
    """Writes a rendering to stdout, without blanks at the ends of its lines."""
    drawn = console(sys.stdout)
    with drawn.capture() as captured:
        drawn.print(rendering)
    write("\n".join(line.rstrip() for line in captured.get().rstrip().split("\n")))


def tell(text: str, *, style: str = "") -> None:
    """One plain line for the user, on stderr."""
    from rich.text import Text

    console(sys.stderr).print(Text(one_line(text), style=style), soft_wrap=True)


def print_error(error: AdabnError) -> None:
    """An error on stderr: what, where, what to do next."""
    tell(f"error: {error.what}", style="bold red")
    for line in (error.where, error.hint):
        if line:
            tell(f"  {line}")
