"""Gates on a terminal: each with its value, its limit and its n."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from adabn_cli.record import GatePart
from adabn_cli.renderers.figures import number
from adabn_cli.renderers.tables import figures

_STYLES = {"passed": "green", "failed": "bold red", "cannot tell": "bold yellow"}


def render(gates: Sequence[GatePart]) -> RenderableType:
    """A row a gate."""
    table = figures("gate", "value", "limit", "n", "status")
    for gate in gates:
        status = gate.status if gate.reason is None else f"{gate.status}: {gate.reason}"
        table.add_row(
            Text(gate.expression),
            number(gate.value),
            number(gate.limit),
            str(gate.n) if gate.n is not None else "–",
            Text(status, _STYLES[gate.status]),
        )
    return table
