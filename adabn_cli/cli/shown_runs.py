"""Runs on stdout: one as its story or as JSON, several side by side, a plan, gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from json import loads
from typing import TYPE_CHECKING, Literal

from adabn_cli.cli import consoles

if TYPE_CHECKING:
    from adabn_cli.record import GatePart, Record


def show(record: Record, *, json: bool, quiet: bool, sites: Literal["few", "all"] = "few") -> None:
    """JSON as one document; quiet as the run's folder alone; otherwise the whole story."""
    if json:
        consoles.write_json(loads(record.as_json()))
    elif quiet:
        consoles.write(record.run.folder or "")
    else:
        from adabn_cli.reports.terminal.run import render

        consoles.show(render(record, sites=sites))
        return
    for warning in record.warnings:
        consoles.tell(f"warning: {warning}", style="yellow")


def show_plan(plan: Mapping[str, object], *, json: bool) -> None:
    """What would be done: JSON as one document, otherwise a line a fact."""
    if json:
        consoles.write_json({"plan": plan})
        return
    from adabn_cli.reports.terminal.plan import render

    consoles.show(render(plan))


def show_runs(
    records: Sequence[Record], *, json: bool, quiet: bool, sites: Literal["few", "all"]
) -> None:
    """One run as its story, several side by side; as one JSON document, or a folder a line."""
    if len(records) > 1:
        _show_several(records, json=json, quiet=quiet)
        return
    (record,) = records
    show(record, json=json, quiet=quiet, sites=sites)
    if json or quiet:
        return
    if record.baseline is not None:
        from adabn_cli.reports.terminal.baseline import render as render_baseline

        consoles.show(render_baseline(record.baseline))
    if record.gates:
        from adabn_cli.reports.terminal.gates import render as render_gates

        consoles.show(render_gates(record.gates))


def _show_several(records: Sequence[Record], *, json: bool, quiet: bool) -> None:
    from adabn_cli.gates.comparison import apart, as_document

    if json:
        consoles.write_json(as_document(records))
    elif quiet:
        for record in records:
            consoles.write(record.run.folder or "")
    else:
        from adabn_cli.reports.terminal.comparison import render

        consoles.show(render(records, apart(records)))


def tell_gates(gates: Sequence[GatePart]) -> None:
    """Gates that did not pass, on stderr, where stdout holds something else than their table."""
    from adabn_cli.reports.words.wording import gate_told

    for gate in gates:
        if gate.status != "passed":
            style = "yellow" if gate.level == "warn" else "bold red"
            consoles.tell(f"{gate.expression} {gate_told(gate)}", style=style)
