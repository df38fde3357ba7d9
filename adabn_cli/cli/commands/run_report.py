"""A run on stdout: for people, or as JSON. What `adapt`, `demo` and `report` share."""

from __future__ import annotations

from collections.abc import Mapping
from json import loads
from typing import TYPE_CHECKING, Literal

from adabn_cli.cli import consoles

if TYPE_CHECKING:
    from adabn_cli.record import Record


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
