"""A plain pass that scores a model and measures nothing."""

from __future__ import annotations

from adabn_cli.measures.heads import Head
from adabn_cli.measures.scores import Scores
from adabn_cli.model import Batches, Model, Progress


def score(model: Model, batches: Batches, progress: Progress, head: Head | None = None) -> Scores:
    """The model's predictions on all batches, in eval mode; a head's where they are no classes."""
    scores = Scores(head=head)
    for index, images in enumerate(batches):
        scores(index, model.forward(images))
        progress(index + 1, len(batches))
    return scores
