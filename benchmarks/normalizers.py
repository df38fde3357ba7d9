"""Five normalizers trained on the sample's source domain, and what their papers claim, measured.

Prints Markdown tables and, with --output, stores their figures as JSON. `make bench-normalizers`,
about twelve minutes on one core; needs npm and scikit-learn, as sample_data/build.py does. Seeds
are fixed; cells of several seeds show their mean, and their range where it says so.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean

import adabn_cli

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "sample_data"))

from paper_claims import hard_batches, initial_features, layer_moments, singular_values
from reference_nets import BATCH, make_repeatable, trained
from scored_digits import Digits
from table import Cell, Table

TITLES = {
    "bn": "BatchNorm",
    "renorm": "Batch Renorm",
    "wn": "Weight Norm",
    "mean_only": "Weight Norm, mean-only BatchNorm",
    "normprop": "Norm Prop",
}
FIXED_LOSS, FIXED_LOSS_STEPS = 0.1, 20


def main() -> None:
    """Prints one table after the other, each as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, metavar="FILE", help="store the figures as JSON")
    options = parser.parse_args()
    start = time.perf_counter()
    make_repeatable()
    digits = Digits.read()
    tables = []
    for table in (adapted_nets, hard_batches, initial_features, layer_moments, singular_values):
        tables.append(table(digits))
        print(tables[-1].text(), flush=True)
        print(f"{time.perf_counter() - start:.0f} s so far", file=sys.stderr)
    if options.output:
        stored = {table.title: asdict(table) for table in tables}
        options.output.write_text(json.dumps(stored, indent=1) + "\n")


def adapted_nets(digits: Digits) -> Table:
    """The five reference nets of the sample data, trained anew and adapted to the target."""
    rows: list[dict[str, Cell]] = []
    for name, title in TITLES.items():
        net, losses = trained(name, digits.training)
        profile = adabn_cli.profile(net, digits.source)
        adabn, matched = (
            adabn_cli.adapt(copy.deepcopy(net), digits.target, method=method, profile=profile)
            for method in ("adabn", "matched")
        )
        before, after = adabn.kl.before, adabn.kl.after
        rows.append(
            {
                "net": title,
                "source %": digits.source_percent(net),
                "target %": _percent(adabn.before.accuracy),
                "AdaBN %": _percent(adabn.after.accuracy),
                "matched %": _percent(matched.after.accuracy),
                "KL before": before and before.mean,
                "KL after AdaBN": after and after.mean,
                "steps to loss": steps_to_loss(losses),
            }
        )
    notes = (
        "One training each, seed 0, the nets of sample_data/. Source: 500 images never trained on. "
        "AdaBN and matched (--method): adapted to the 1,797 target images that are scored. "
        "Mean symmetric KL in nats over neurons, against the stored statistics, or a profile of "
        "the 500 source images where none are stored; each net has sites of its own, so compare "
        "along a row. Norm Prop's only site is its input, which "
        f"nothing can change. Steps (batches of {BATCH}) until the mean training loss of "
        f"{FIXED_LOSS_STEPS} steps is under {FIXED_LOSS}."
    )
    return Table("Reference nets", notes, rows)


def _percent(accuracy: float | None) -> float | None:
    return None if accuracy is None else 100 * accuracy


def steps_to_loss(losses: Sequence[float]) -> int | None:
    """The first step that ends FIXED_LOSS_STEPS steps with a mean loss under FIXED_LOSS."""
    ends = range(FIXED_LOSS_STEPS, len(losses) + 1)
    return next((n for n in ends if mean(losses[n - FIXED_LOSS_STEPS : n]) < FIXED_LOSS), None)


if __name__ == "__main__":
    main()
