"""The tables of what a run comes to: gates, and what changed since a baseline."""

from __future__ import annotations

from markupsafe import Markup

from adabn_cli.record import Record
from adabn_cli.reports.html.tables import Row, Table
from adabn_cli.reports.terminal.baseline import told
from adabn_cli.reports.words.figures import number
from adabn_cli.reports.words.wording import gate_status


def gate_table(record: Record) -> Table:
    """Each gate with its value, its limit and its n."""
    rows = [
        Row(
            gate.expression,
            (
                number(gate.value),
                number(gate.limit),
                "–" if gate.n is None else f"{gate.n:,}",
                Markup('<b class="{}">{}</b>').format(
                    gate.status.replace(" ", "-"), gate_status(gate)
                ),
            ),
        )
        for gate in record.gates
    ]
    return Table(("gate", "value", "limit", "n", "status"), rows)


def baseline_table(record: Record) -> Table:
    """Each measure in the baseline and now."""
    changes = record.baseline.changes if record.baseline else ()
    rows = [Row(change.measure, told(change)) for change in changes]
    return Table(("since the baseline", "baseline", "now", "change"), rows)
