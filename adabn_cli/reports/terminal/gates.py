"""Gates on a terminal: each with its value, its limit and its n."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from adabn_cli.record import GatePart
from adabn_cli.reports.terminal.tables import figures, note, plain
from adabn_cli.reports.words.figures import number
from adabn_cli.reports.words.wording import gate_status

_STYLES = {"passed": "green", "failed": "bold red", "cannot tell": "bold yellow"}
_WARNING = "yellow"


def render(gates: Sequence[GatePart]) -> RenderableType:
    """A row a gate, and below what there is to say of each."""
    table = figures("gate", "value", "limit", "n", "status")
    for gate in gates:
        table.add_row(
            plain(gate.expression),
            number(gate.value),
            number(gate.limit),
            f"{gate.n:,}" if gate.n is not None else "–",
            status(gate),
        )
    reasons = [note(f"{gate.expression}: {gate.reason}") for gate in gates if gate.reason]
    return Group(Text(), table, *reasons)


def status(gate: GatePart) -> Text:
    """The status in its colour: that of a warning where it is one."""
    told = gate_status(gate)
    return plain(told, _WARNING if told != gate.status else _STYLES[gate.status])
