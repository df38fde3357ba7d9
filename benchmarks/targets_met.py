"""What adabn promises beside its peers, and whether a run of the benchmark shows it."""

from __future__ import annotations

from statistics import median
from typing import Any

from table import Cell
from ways import EXACT

_EXACT_AT_MOST = {"resnet18": 1.15, "resnet50": 1.15, "mobilenet_v2": 1.35}
_PEERS = ("torch update_bn", "fvcore update_bn_stats")
_HARDEST = "by class, 32"
_MORE_EXACT = 1000
# What is in the name of a job -> the largest share of the script's wall time.
_JOBS_AT_MOST = {"500x400": 0.60, "--fast-decode": 0.25}


def targets_met(found: dict[str, Any]) -> list[dict[str, Cell]]:
    """A row a target: what is promised, what was measured, met or missed."""
    rows = []
    for net, times in found["times"].items():
        cpu = times[EXACT]["cpu"]
        rows.append(
            _row(f"{net}: exact, CPU time of a plain pass", cpu, _EXACT_AT_MOST.get(net, 1))
        )
        for peer in _PEERS:
            if peer in times:
                rows.append(
                    _row(f"{net}: exact, CPU time of {peer}", cpu / times[peer]["cpu"], 1.0)
                )
    for net, errors in found["errors"].items():
        exact = errors[EXACT][_HARDEST]["statistics"]
        for peer in _PEERS:
            if peer in errors:
                share = exact / errors[peer][_HARDEST]["statistics"]
                rows.append(_row(f"{net}: exact, error of {peer}", share, 1 / _MORE_EXACT))
    for job, rounds in found["jobs"].items():
        for part, most in _JOBS_AT_MOST.items():
            if part in job:
                share = median(one["adabn"]["wall"] / one["script"]["wall"] for one in rounds)
                rows.append(_row(f"{job}: wall time of the script", share, most))
    return rows


def _row(what: str, value: float, most: float) -> dict[str, Cell]:
    told = "met" if value <= most else "missed"
    return {"share": what, "measured": f"{value:.3g}", "at most": f"{most:g}", "": told}
