"""The sections of a record on outputs that are no class scores: maps, labels, numbers, boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from adabn_cli.jobs.results.truth import Truth
from adabn_cli.measures.confidence import confidence_histogram
from adabn_cli.measures.counts import effective_classes
from adabn_cli.measures.heads import ERRORS, Head, Surveyed, compared, measured
from adabn_cli.measures.scores import Scores
from adabn_cli.record import ClassFigurePart, FigureName, FigurePart, ScoresPart, TaskPart


def surveyed_part(found: Surveyed) -> ScoresPart:
    """What outputs of another kind than class scores say without truth."""
    histogram = tuple(found.predicted_K.tolist())
    known_n = found.confidence_N[~np.isnan(found.confidence_N)]
    entropy_n = found.entropy_N[~np.isnan(found.entropy_N)]
    return ScoresPart(
        confidence_mean=float(known_n.mean()) if len(known_n) else None,
        entropy_mean=float(entropy_n.mean()) if len(entropy_n) else None,
        predicted_histogram=histogram,
        confidence_histogram=confidence_histogram(known_n) if len(known_n) else (),
        effective_classes=effective_classes(histogram) or None,
        not_finite=found.not_finite,
        n=len(found.confidence_N),
    )


#: Of fewer images the draws of a bootstrap differ too little: of one not at all.
FEWEST_WITH_TRUTH = 10

#: What figures are called for people.
_FIGURES: dict[str, FigureName] = {
    "mean_iou": "mean IoU",
    "pixel_accuracy": "pixel accuracy",
    "mean_average_precision": "mean average precision",
    "mean_absolute_error": "mean absolute error",
    "root_mean_square_error": "root mean square error",
}


def task_part(before: Scores, after: Scores, truth: Truth) -> TaskPart:
    """Before and after of outputs that are no class scores."""
    if before.head is None or after.head is None:
        raise ValueError("scores of a task have a head")
    figures = [
        FigurePart(
            name=_FIGURES[one.name],
            unit=_unit(one.name),
            before=one.before,
            after=one.after,
            interval=one.interval if truth.images >= FEWEST_WITH_TRUTH else None,
        )
        for one in compared(before.head, after.head)
    ]
    counts = [_boxes_a_picture(head) for head in (before.head, after.head)]
    if counts[0] is not None:
        figures.append(
            FigurePart(name="boxes a picture", unit="count", before=counts[0], after=counts[1])
        )
    n_K, before_K = before.head.by_class()
    _, after_K = after.head.by_class()
    return TaskPart(
        task=before.head.task,
        truth=truth.source,
        n=truth.images,
        figures=tuple(figures),
        classes=tuple(
            ClassFigurePart(name=_name(truth.names, k), n=n, before=b, after=a)
            for k, (n, b, a) in enumerate(
                zip(n_K.tolist(), before_K.tolist(), after_K.tolist(), strict=True)
            )
            if n
        ),
    )


def scored_task_part(scores: Scores, truth: Truth) -> TaskPart:
    """One scoring of outputs that are no class scores."""
    if scores.head is None:
        raise ValueError("scores of a task have a head")
    n_K, found_K = scores.head.by_class()
    return TaskPart(
        task=scores.head.task,
        truth=truth.source,
        n=truth.images,
        figures=tuple(
            FigurePart(name=_FIGURES[name], unit=_unit(name), after=value)
            for name, value in measured(scores.head).items()
        ),
        classes=tuple(
            ClassFigurePart(name=_name(truth.names, k), n=n, after=value)
            for k, (n, value) in enumerate(zip(n_K.tolist(), found_K.tolist(), strict=True))
            if n
        ),
    )


def _unit(figure: str) -> Literal["share", "error"]:
    return "error" if figure in ERRORS else "share"


def _boxes_a_picture(head: Head) -> float | None:
    boxes_N = head.by_image().get("boxes")
    return None if boxes_N is None else float(boxes_N.mean())


def _name(names: Sequence[str] | None, index: int) -> str:
    return names[index] if names is not None and index < len(names) else str(index)
