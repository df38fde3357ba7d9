"""A table of figures, some of them one a seed, in Markdown. Knows nothing of what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

#: A text, a count, a figure, one figure a seed; None is none.
Cell = str | int | float | list[float] | None


@dataclass(frozen=True)
class Table:
    """One table; `decimals` of its figures, and whether the range over seeds is shown."""

    title: str
    notes: str
    rows: Sequence[dict[str, Cell]]
    decimals: int = 2
    ranges: bool = True

    def text(self) -> str:
        """The table in Markdown."""
        lines = [list(self.rows[0]), ["---"] * len(self.rows[0])]
        lines += [[self._shown(cell) for cell in row.values()] for row in self.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"\n### {self.title}\n\n{table}\n\n{self.notes}"

    def _shown(self, cell: Cell) -> str:
        if isinstance(cell, list):
            spread = [f"{x:.{self.decimals}f}" for x in (mean(cell), min(cell), max(cell))]
            return f"{spread[0]} ({spread[1]} to {spread[2]})" if self.ranges else spread[0]
        if isinstance(cell, float):
            return f"{cell:.{self.decimals}f}"
        return "–" if cell is None else str(cell)
