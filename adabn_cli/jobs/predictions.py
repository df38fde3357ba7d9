"""`predictions.csv`: one row an image, before and after, label where known."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adabn_cli.measures.heads import Head
from adabn_cli.measures.scores import Scores

_COLUMNS = (
    *("path", "label", "before", "before_confidence", "before_entropy_nats"),
    *("after", "after_confidence", "after_entropy_nats"),
)


def write_predictions(
    path: Path,
    pictures: Sequence[str],
    before: Scores,
    after: Scores,
    labels_N: NDArray[np.int64] | None,
    classes: Sequence[str] | None,
) -> None:
    """Writes the rows in the order of `pictures`; no row where the outputs cannot be scored.

    Outputs that are no class scores have columns of their own, before and after.
    """
    if before.head is not None and after.head is not None:
        _write_numbers(path, pictures, before.head, after.head)
        return

    def name(index: int) -> str:
        if index < 0:
            return ""
        return classes[index] if classes and index < len(classes) else str(index)

    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        if not (before.scorable and after.scorable):
            return
        labels = labels_N if labels_N is not None else np.full(len(pictures), -1)
        sides = [
            zip(scores.predicted_N, scores.confidence_N, scores.entropy_N, strict=True)
            for scores in (before, after)
        ]
        for picture, label, *both in zip(pictures, labels, *sides, strict=True):
            values: list[str] = []
            for predicted, confidence, entropy in both:
                values += [name(predicted), f"{confidence:.6f}", f"{entropy:.6f}"]
            writer.writerow([picture, name(label), *values])


def _write_numbers(path: Path, pictures: Sequence[str], before: Head, after: Head) -> None:
    sides = {
        f"{side}_{name}": column_N
        for side, head in (("before", before), ("after", after))
        for name, column_N in head.by_image().items()
    }
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", *sides])
        for picture, *numbers in zip(pictures, *sides.values(), strict=True):
            writer.writerow([picture, *("" if np.isnan(x) else f"{x:.6g}" for x in numbers)])
