"""What a run would do, on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType

from adabn_cli.reports.terminal.tables import facts


def render(plan: Mapping[str, object]) -> RenderableType:
    """A line a fact; facts without a value are left out."""
    return facts(
        (_name(name), _text(name, value)) for name, value in plan.items() if value not in (None, [])
    )


def resources_line(plan: Mapping[str, Any]) -> str:
    """Where batches wait and what that takes, as one sentence."""
    places = {
        "in memory": plan["batches_in_memory"],
        "on disk": plan["batches_on_disk"],
        "nowhere, and run again up to every site": plan["batches_run_again"],
    }
    told = ", ".join(f"{count:,} {place}" for place, count in places.items() if count)
    disk = f", {_size(plan['disk_bytes'])} in {plan['spill_dir']}" if plan["disk_bytes"] else ""
    return (
        f"Plan: batches wait for each other: {told}; about {_size(plan['memory_bytes'])} of "
        f"memory{disk}, {_time(plan['seconds'])}."
    )


def _name(name: str) -> str:
    return name.removesuffix("_bytes").replace("_", " ")


def _text(name: str, value: object) -> str:
    if isinstance(value, int) and name.endswith("_bytes"):
        return _size(value)
    if name == "until_converged":
        return f"{value:g} standard deviations; this is the plan of the first round"
    if isinstance(value, float) and name == "seconds":
        return f"about {_time(value)}"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.0f} MiB"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
