"""Several runs side by side: what makes them hard to compare, and one document of all. No torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from adabn_cli.gates.baseline import differences, varied
from adabn_cli.record import SCHEMA_VERSION, Record


def apart(records: Sequence[Record]) -> tuple[str, ...]:
    """How each run differs from the first: what they were run on, and every setting."""
    first, *others = records
    return tuple(
        f"run {number}, beside run 1: {difference}"
        for number, other in enumerate(others, start=2)
        for difference in (*differences(other, first), *varied(other, first))
    )


def as_document(records: Sequence[Record]) -> dict[str, Any]:
    """Every record, whole and in the order given, and how they differ."""
    return {
        "schema_version": SCHEMA_VERSION,
        "runs": [json.loads(record.as_json()) for record in records],
        "differences": list(apart(records)),
    }
