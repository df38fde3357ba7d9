"""Accuracy, regret and verdict of every method over nets, shifts and kinds of targets.

Prints Markdown tables and, with --output, stores every case as JSON. Needs npm, scikit-learn and
Debian's apt-get for pictures and fonts. Nets and pictures are kept in the temporary folder: a
second run trains nothing.

Each net gets a profile of 256 of its own source pictures, without labels, neither trained on nor
scored. Nets are of two kinds: constants of adabn were chosen on some ("tuning"), nothing was on the
others ("untouched"). Regret is what a method lacks to the better of source model and AdaBN.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from shift_nets import RECIPES, Normalized, Recipe, trained
from shift_pictures import REGIMES, corrupted, draw, inputs, pictures
from table import Cell, Table
from torch import Tensor

import adabn_cli

PROFILE = 256
CHUNK = 128

#: Shifts of each net: a corruption and its strength, or other pictures after "@".
SHIFTS: dict[str, dict[str, Sequence[tuple[str, float]]]] = {
    "tuning": {
        "mnist resnet, heavy": (
            ("clean", 0),
            ("noise", 0.5),
            ("contrast", 0.2),
            ("rotate", 30),
            ("@optdigits", 0),
        ),
        "fashion vgg, crop": (("clean", 0), ("noise", 0.15), ("blur", 1.5), ("fog", 0.5)),
        "signs resnet, heavy": (
            ("clean", 0),
            ("noise", 0.4),
            ("contrast", 0.2),
            ("@free:110:5", 0),
        ),
        "mnist resnet, jitter": (("clean", 0), ("noise", 0.5), ("blur", 1.5), ("@optdigits", 0)),
        "sample bn": (("clean", 0), ("noise", 0.3), ("zoom", 0.6), ("@optdigits", 0)),
        "sample wn": (("clean", 0), ("noise", 0.3), ("zoom", 0.6), ("@optdigits", 0)),
    },
    "untouched": {
        "fashion preact, heavy": (
            ("clean", 0),
            ("impulse", 0.15),
            ("bright", 0.35),
            ("stripes", 0.5),
            ("shear", 0.4),
        ),
        "mnist mobile, shift": (
            ("clean", 0),
            ("@optdigits", 0),
            ("impulse", 0.3),
            ("gamma", 3),
            ("zoom", 0.6),
            ("erode", 3),
        ),
        "optdigits vgg, shift": (
            ("clean", 0),
            ("@mnist", 0),
            ("impulse", 0.2),
            ("dim", 0.3),
            ("speckle", 0.8),
        ),
        "signs mobile, crop": (
            ("clean", 0),
            ("@dejavu:60:5", 0),
            ("impulse", 0.2),
            ("speckle", 1),
        ),
        "fashion mobile, jitter": (
            ("clean", 0),
            ("impulse", 0.15),
            ("pixelate", 2.5),
            ("stripes", 0.5),
        ),
    },
}
METHODS: dict[str, dict[str, Any]] = {
    "adabn": {"method": "adabn"},
    "prior 16": {"method": "adabn", "prior": 16},
    "alpha 0.5": {"method": "adabn", "alpha": 0.5},
    "matched": {"method": "matched"},
    "auto": {"method": "auto"},
}
#: Methods that a verdict is asked for, and from how many images on.
JUDGED, JUDGED_IMAGES = ("adabn", "matched", "auto"), 50
#: A loss of this many points is one.
HARM = 1.0
GROUPS = {
    "balanced or 80/20, n >= 64": ("full", "n=256", "n=64", "80/20"),
    "n <= 16": ("n=16", "n=4"),
    "one class": ("one class", "one class, another"),
}


@dataclass
class Case:
    """One net, shift and regime: percent right by method, and what was said without labels.

    `gains` and `verdicts` are on the images adapted to, by method: (true, estimated) points, and
    the call.
    """

    kind: str
    net: str
    shift: str
    regime: str
    images: int
    percent: dict[str, float]
    gains: dict[str, tuple[float, float | None]]
    verdicts: dict[str, str]


def main() -> None:
    """Prints the tables of both kinds of nets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, metavar="FILE", help="store the cases as JSON")
    parser.add_argument("--kind", choices=list(SHIFTS), help="one kind of nets only")
    options = parser.parse_args()
    start, cases = time.perf_counter(), []
    torch.set_num_threads(1)
    for kind in [options.kind] if options.kind else SHIFTS:
        for net in SHIFTS[kind]:
            cases += list(cases_of(kind, net))
            print(f"{net}: {time.perf_counter() - start:.0f} s so far", file=sys.stderr)
        for table in (accuracies(cases, kind), unshifted(cases, kind), verdicts(cases, kind)):
            print(table.text(), flush=True)
    if options.output:
        stored = {"seconds": time.perf_counter() - start, "cases": [asdict(x) for x in cases]}
        options.output.write_text(json.dumps(stored, indent=1) + "\n")


def cases_of(kind: str, name: str) -> Iterator[Case]:
    """Every shift and regime of one net."""
    recipe, model = RECIPES[name], trained(name)
    images, labels = pictures(recipe.pictures)
    held, y_N = inputs(images[recipe.train :], recipe.size), labels[recipe.train :]
    profile = adabn_cli.profile(model, held[:PROFILE].split(CHUNK))
    for shift, strength in SHIFTS[kind][name]:
        x, labels_N = _shifted(recipe, held[PROFILE:], y_N[PROFILE:], (shift, strength))
        for regime in REGIMES:
            chosen = draw(labels_N, recipe.classes, regime)
            part = _Part(model, profile, x, torch.from_numpy(labels_N).long())
            case = Case(
                kind, name, f"{shift} {strength:g}".removesuffix(" 0"), regime, 0, {}, {}, {}
            )
            part.fill(case, torch.from_numpy(chosen.target), torch.from_numpy(chosen.scored))
            yield case


def _shifted(
    recipe: Recipe, held: Tensor, y_N: Any, shift: tuple[str, float]
) -> tuple[Tensor, Any]:
    """Up to 1500 images of the shift and their labels."""
    name, strength = shift
    if not name.startswith("@"):
        return corrupted(held[:1500], name, strength), y_N[:1500]
    images, labels_N = pictures(name[1:])
    return inputs(images[-1500:], recipe.size), labels_N[-1500:]


@dataclass(frozen=True)
class _Part:
    """A net with its profile, and the images of one shift with their labels."""

    model: Normalized
    profile: adabn_cli.Profile
    x: Tensor
    y_N: Tensor

    def fill(self, case: Case, target_n: Tensor, scored_n: Tensor) -> None:
        """Adapts by every method to the images `target_n`, and scores on `scored_n`."""
        case.images = len(target_n)
        before = self._percent(self.model, target_n)
        case.percent["source"] = self._percent(self.model, scored_n)
        for name, options in METHODS.items():
            adapted = copy.deepcopy(self.model)
            record = adabn_cli.adapt(
                adapted, self.x[target_n].split(CHUNK), profile=self.profile, **options
            )
            case.percent[name] = self._percent(adapted, scored_n)
            estimate = getattr(record.verdict, "estimate", None)
            if name in JUDGED and estimate is not None and len(target_n) >= JUDGED_IMAGES:
                true = self._percent(adapted, target_n) - before
                case.gains[name] = (true, 100 * estimate.gain)
                case.verdicts[name] = record.verdict.outcome

    @torch.no_grad()
    def _percent(self, model: Normalized, chosen_n: Tensor) -> float:
        parts = chosen_n.split(CHUNK)
        right = sum(int((model(self.x[i]).argmax(1) == self.y_N[i]).sum()) for i in parts)
        return 100 * right / len(chosen_n)


def accuracies(cases: Sequence[Case], kind: str) -> Table:
    """Percent right, mean and worst regret of every method in every group of regimes."""
    rows: list[dict[str, Cell]] = []
    for method in ("source", *METHODS):
        row: dict[str, Cell] = {"method": method}
        for group, regimes in GROUPS.items():
            found = [x.percent for x in cases if x.kind == kind and x.regime in regimes]
            lacks = [max(0.0, max(p["source"], p["adabn"]) - p[method]) for p in found]
            right = mean(p[method] for p in found)
            row[group] = f"{right:.1f} / {mean(lacks):.1f} / {max(lacks):.1f}"
        rows.append(row)
    best: dict[str, Cell] = {"method": "better of source and adabn"}
    for group, regimes in GROUPS.items():
        found = [x.percent for x in cases if x.kind == kind and x.regime in regimes]
        best[group] = f"{mean(max(p['source'], p['adabn']) for p in found):.1f} / 0 / 0"
    title = f"{kind.capitalize()} nets: percent right / mean regret / worst regret"
    notes = f"{sum(x.kind == kind for x in cases)} cases; a profile of {PROFILE} pictures."
    return Table(title, notes, [*rows, best])


def unshifted(cases: Sequence[Case], kind: str) -> Table:
    """What the methods do to a net where nothing is shifted: worst points lost, 64 images on."""
    rows: list[dict[str, Cell]] = []
    for net in SHIFTS[kind]:
        clean = [
            x.percent
            for x in cases
            if x.net == net and x.shift == "clean" and x.regime in ("full", "n=256", "n=64")
        ]
        lost = {m: max(p["source"] - p[m] for p in clean) for m in METHODS}
        rows.append({"net": net, "source": mean(p["source"] for p in clean), **lost})
    notes = "Worst of 500, 256 and 64 images; negative is a gain."
    return Table(f"{kind.capitalize()} nets on unshifted pictures: points lost", notes, rows, 1)


def verdicts(cases: Sequence[Case], kind: str) -> Table:
    """How often harm is called where it is (recall) and where nothing is lost (false alarms)."""
    rows: list[dict[str, Cell]] = []
    for method in JUDGED:
        called = [x for x in cases if x.kind == kind and method in x.verdicts]
        harmed = [x.verdicts[method] == "harm" for x in called if x.gains[method][0] < -HARM]
        spared = [x.verdicts[method] == "harm" for x in called if x.gains[method][0] >= -HARM]
        errors = [abs(t - e) for t, e in (x.gains[method] for x in called) if e is not None]
        row: dict[str, Cell] = {"method": method, "harmed": len(harmed), "not harmed": len(spared)}
        row["recall"] = mean(harmed) if harmed else None
        row["false alarms"] = mean(spared) if spared else None
        rows.append({**row, "error of the gain, points": mean(errors) if errors else None})
    notes = f"Harm is a loss of more than {HARM:g} point, from {JUDGED_IMAGES} images on."
    return Table(f"{kind.capitalize()} nets: the verdict", notes, rows)


if __name__ == "__main__":
    main()
