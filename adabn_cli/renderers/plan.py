"""What a run would do, on a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import RenderableType

from adabn_cli.renderers.tables import facts


def render(plan: Mapping[str, object]) -> RenderableType:
    """A line a fact; facts without a value are left out."""
    return facts(
        (name.replace("_", " "), _text(value))
        for name, value in plan.items()
        if value not in (None, [])
    )


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
