"""Scores a model on labelled pictures, with or without a domain pack. Writes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from adabn_cli.adaptation.packs import put_in, read_pack
from adabn_cli.data.listing import Location
from adabn_cli.errors import CannotTellError, ModelError
from adabn_cli.jobs.checks.asked_files import check_files
from adabn_cli.jobs.checks.believing import PICTURES_TWICE, believe_scored
from adabn_cli.jobs.checks.broken_outputs import not_finite_notes, require_any_finite
from adabn_cli.jobs.preprocessing import (
    PreprocessingOptions,
    borrowed_note,
    resolve_preprocessing,
)
from adabn_cli.jobs.results.record import model_part, target_part
from adabn_cli.jobs.results.sections import class_accuracies, scores_part
from adabn_cli.jobs.results.task_sections import scored_task_part
from adabn_cli.jobs.scored_data import PicturesRequest, open_pictures, require_used
from adabn_cli.jobs.scoring import score
from adabn_cli.jobs.stages import Stages
from adabn_cli.models.open import ModelRequest, open_model
from adabn_cli.record import EvaluationRecord


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest:
    """Which model, on which pictures, with which pack."""

    model: ModelRequest
    data: Location
    preprocessing: PreprocessingOptions = field(default_factory=PreprocessingOptions)
    pictures: PicturesRequest = field(default_factory=PicturesRequest)
    pack: Path | None = None


def evaluate(
    request: EvaluateRequest, tell: Callable[[str, int, int], None] | None = None
) -> EvaluationRecord:
    """Accuracy, confidence and predicted classes of a model on a folder of pictures.

    Raises CannotTellError where no picture has a label that the model's outputs could be held
    against, ModelError where these are no scores, and the errors of opening model, pack and
    pictures.
    """
    check_files(request.pictures, request.data)
    stages = Stages(tell)
    opened = open_model(request.model)
    if request.pack is not None:
        put_in(read_pack(request.pack), opened.model)
    belief = believe_scored(opened.model, request.model.path)
    preprocessing = resolve_preprocessing(opened.model, request.preprocessing)
    with stages.stage("read") as progress:
        pictures = open_pictures(
            request.data, opened.model, preprocessing, request.pictures, progress
        )
    if pictures.unscored is not None:
        raise ModelError(
            pictures.unscored,
            where=opened.model.architecture,
            hint="Pick another output with --output, or say what they are for with --task.",
        )
    require_used(request.pictures, pictures)
    if pictures.labelled_by is None:
        raise CannotTellError(
            "There are no labels to score against.",
            where="; ".join(pictures.label_notes) or str(request.data),
            hint="Give --labels FILE or --class-map FILE; to a model of maps, --masks DIR.",
        )
    belief = belief.run_twice(opened.model, pictures.target.few(PICTURES_TWICE))
    with stages.stage("score") as progress:
        scores = score(opened.model, pictures.target.batches(), progress, pictures.head)
    found = scores_part(scores, pictures.labels_N)
    require_any_finite(found)
    return EvaluationRecord(
        model=model_part(opened, preprocessing, belief),
        data=target_part(pictures),
        pack=str(request.pack) if request.pack else None,
        scores=found,
        task=scored_task_part(scores, pictures.truth) if pictures.truth else None,
        classes=class_accuracies(scores, pictures.labels_N, pictures.classes),
        warnings=(
            *(*opened.notes, *belief.warnings, *borrowed_note(preprocessing)),
            *(*pictures.notes, *not_finite_notes(found)),
        ),
    )
