"""Whether two results are the same but for the last bits of floating sums.

A sum that is a bit off may turn one prediction, and with it any count, share or sentence of a
record. So tensors are held to their values, records and tables to what they are made of.
"""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import numpy as np
from safetensors.numpy import load

#: Of the largest value of a tensor.
TOLERANCE = 1e-5


def alike(name: str, found: bytes, before: bytes) -> bool:
    """Whether the file of that name is like what it was before."""
    if name.endswith((".safetensors", ".profile")):
        return _near(load(found), load(before))
    if name.endswith(".csv"):
        return _first_of_rows(found) == _first_of_rows(before)
    if name.endswith(".json"):
        return _made_alike(json.loads(found), json.loads(before))
    return True


def _near(found: dict[str, np.ndarray], before: dict[str, np.ndarray]) -> bool:
    return found.keys() == before.keys() and all(
        found[name].shape == values.shape
        and _within(found[name].astype(float), values.astype(float))
        for name, values in before.items()
    )


def _within(found: np.ndarray, before: np.ndarray) -> bool:
    largest = np.abs(before).max(initial=0)
    return bool(np.abs(found - before).max(initial=0) <= TOLERANCE * largest)


def _first_of_rows(table: bytes) -> list[tuple[int, str]]:
    rows = csv.reader(io.StringIO(table.decode()))
    return [(len(row), row[0]) for row in rows]


def _made_alike(found: Any, before: Any) -> bool:
    if isinstance(before, dict) and isinstance(found, dict):
        return found.keys() == before.keys() and all(
            _made_alike(found[name], value) for name, value in before.items()
        )
    if isinstance(before, list) and isinstance(found, list):
        return all(_made_alike(*pair) for pair in zip(found, before, strict=False))
    return found is None or before is None or type(found) is type(before)
