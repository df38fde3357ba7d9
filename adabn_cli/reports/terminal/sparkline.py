"""A row of figures as a line of bars, in ASCII where the terminal has no Unicode."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

from rich.console import Console, ConsoleOptions
from rich.measure import Measurement
from rich.text import Text

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII = "_.:-=+*#"


class Sparkline:
    """A letter a figure, as high as its share of `most`; a figure that is None is a blank."""

    def __init__(self, figures: Sequence[float | None], most: float) -> None:
        self._figures = figures
        self._most = most

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        levels = _ASCII if options.ascii_only else _BLOCKS
        yield Text("".join(self._letter(figure, levels) for figure in self._figures))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(len(self._figures), len(self._figures))

    def _letter(self, figure: float | None, levels: str) -> str:
        if figure is None:
            return " "
        share = figure / self._most if self._most > 0 else 0.0
        return levels[min(round(share * len(levels)), len(levels) - 1)]


def pooled(
    figures: Sequence[float | None], width: int, pool: Callable[[Iterable[float]], float]
) -> list[float | None]:
    """At most `width` figures, each made by `pool` of neighbours; None where none is known."""
    width = min(width, len(figures))
    edges = [place * len(figures) // width for place in range(width + 1)] if width else []
    groups = [
        [figure for figure in figures[start:end] if figure is not None]
        for start, end in pairwise(edges)
    ]
    return [pool(group) if group else None for group in groups]
