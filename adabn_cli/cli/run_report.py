"""A run on stdout: for people, or as JSON. What `adapt`, `demo` and `report` share."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from json import dumps
from typing import Literal

from adabn_cli.cli.consoles import console, tell
from adabn_cli.record import Record


def show(record: Record, *, json: bool, quiet: bool, sites: Literal["few", "all"] = "few") -> None:
    """JSON as one document; quiet as the run's folder alone; otherwise the whole story."""
    if json:
        print(record.as_json(), end="")
    elif quiet:
        print(record.run.folder)
    else:
        from adabn_cli.renderers.terminal import render

        console(sys.stdout).print(render(record, sites=sites))
        return
    for warning in record.warnings:
        tell(f"warning: {warning}", style="yellow")


def show_plan(plan: Mapping[str, object], *, json: bool) -> None:
    """What would be done: JSON as one document, otherwise a line a fact."""
    if json:
        print(dumps({"plan": plan}, indent=2))
        return
    from adabn_cli.renderers.tables import facts

    texts = {
        name: ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in plan.items()
        if value not in (None, [])
    }
    console(sys.stdout).print(facts((name.replace("_", " "), text) for name, text in texts.items()))
