"""Measures one shard of a target by itself, so that machines which never meet share the work.

What can be shared so is what needs one pass: how the source model does, and train-mode statistics.
Exact statistics need all machines at every site, see `adabn_cli.ranks`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from adabn_cli.adaptation.engines.observe import eval_mode, own_part
from adabn_cli.adaptation.engines.one_pass import train_mode
from adabn_cli.adaptation.engines.passes import Passes
from adabn_cli.adaptation.fingerprint import fingerprint, statistics_digest
from adabn_cli.adaptation.installer import Installer
from adabn_cli.adaptation.methods import Adaptation
from adabn_cli.data.listing import Location, files_of
from adabn_cli.dependence import FREE, settings
from adabn_cli.errors import UsageError
from adabn_cli.files import may_write, require_apart, write_whole
from adabn_cli.jobs.checks.adaptable import left_out_warning, require_adaptable, require_signal
from adabn_cli.jobs.checks.asked_files import check_files
from adabn_cli.jobs.checks.believing import PICTURES_TWICE, believe_adapted, require_sound
from adabn_cli.jobs.checks.broken_outputs import not_finite_notes
from adabn_cli.jobs.preprocessing import (
    PreprocessingOptions,
    borrowed_note,
    resolve_preprocessing,
)
from adabn_cli.jobs.results.record import target_part
from adabn_cli.jobs.results.sections import scores_part
from adabn_cli.jobs.scored_data import (
    PicturesRequest,
    ScoredPictures,
    open_pictures,
    require_used,
)
from adabn_cli.jobs.shards.collected import Collected
from adabn_cli.jobs.stages import Stages
from adabn_cli.measures.scores import Scores
from adabn_cli.model import Model, no_output
from adabn_cli.models.open import ModelRequest, open_model
from adabn_cli.preprocessing import Preprocessing
from adabn_cli.ranks import Shard
from adabn_cli.record import CollectRecord, SkippedPicture


@dataclass(frozen=True, kw_only=True)
class CollectRequest:
    """Which shard of which target, for which model; see the options of those names."""

    model: ModelRequest
    target: Location = field(metadata=FREE)
    shard: Shard = field(metadata=FREE)
    preprocessing: PreprocessingOptions = field(default_factory=PreprocessingOptions, metadata=FREE)
    pictures: PicturesRequest = field(default_factory=PicturesRequest)
    adaptation: Adaptation = field(default_factory=Adaptation)
    out: Path | None = field(default=None, metadata=FREE)
    force: bool = field(default=False, metadata=FREE)


def collect(
    request: CollectRequest, tell: Callable[[str, int, int], None] | None = None
) -> CollectRecord:
    """Writes what one shard shows: the source model on it, and train-mode statistics.

    Raises UsageError where the output is taken, where there are fewer batches than shards, or where
    the outputs are no class scores; and the errors of opening model and pictures.
    """
    check_files(request.pictures, request.target)
    out, stages = request.out or default_file(request.shard), Stages(tell)
    inputs = (*request.model.files, *files_of(request.target), *request.pictures.files)
    may_write(out, inputs=inputs, force=request.force)
    with stages.stage("open"):
        opened = open_model(request.model)
        require_apart(out, opened.files)
        require_adaptable(opened.model, with_profile=False, path=request.model.path)
        require_sound(opened.model, request.model.path)  # A shard holds the source's scores.
        belief = believe_adapted(opened.model, request.adaptation, request.model.path)
        preprocessing = resolve_preprocessing(opened.model, request.preprocessing)
    with stages.stage("read") as progress:
        asked = replace(request.pictures, shard=request.shard)
        pictures = open_pictures(request.target, opened.model, preprocessing, asked, progress)
        require_apart(out, pictures.files)
    require_used(asked, pictures)
    if pictures.truth is not None:
        raise UsageError(
            f"Outputs for {pictures.truth.head.task} are scored in one process.",
            hint="Use adabn adapt, on a part of the pictures with --max-images if they are many.",
        )
    belief = belief.run_twice(opened.model, pictures.target.few(PICTURES_TWICE))
    installer = Installer.of(opened.model, request.adaptation, pictures.images)
    found, scores = _measured(request, installer, preprocessing, pictures, stages)
    content, scored = found.as_bytes(), scores_part(scores, pictures.labels_N)
    write_whole(out, content)
    return CollectRecord(
        path=str(out),
        bytes=len(content),
        shard=request.shard.index + 1,
        shards=request.shard.size,
        images=found.images,
        skipped=tuple(SkippedPicture(**asdict(lost)) for lost in pictures.target.skipped),
        target=target_part(pictures),
        scores=scored,
        warnings=(
            *(*opened.notes, *belief.warnings, *borrowed_note(preprocessing)),
            *(*pictures.notes, *not_finite_notes(scored), *left_out_warning(installer)),
        ),
    )


def default_file(shard: Shard) -> Path:
    """What a shard's file is called where nobody says."""
    return Path(f"shard-{shard.index + 1}-of-{shard.size}.safetensors")


def _measured(
    request: CollectRequest,
    installer: Installer,
    preprocessing: Preprocessing,
    pictures: ScoredPictures,
    stages: Stages,
) -> tuple[Collected, Scores]:
    model, target = installer.model, pictures.target
    passes = replace(Passes.over(target.batches()), first=target.first_batch)
    scores, source = Scores(), eval_mode(installer.measure)
    with stages.stage("before") as progress:
        before = own_part(model, passes, source, scores, progress)
    with stages.stage("collect") as progress:
        try:
            seen = own_part(model, passes, train_mode(installer), no_output, progress)
        finally:
            installer.undo()
    require_signal(installer, seen)
    found = Collected(
        shard=request.shard,
        depends_on=_depends_on(request, preprocessing, pictures),
        images=pictures.images,
        skipped=len(target.skipped),
        before=before,
        train_mode=seen,
        scores=scores.as_arrays(),
        labels_N=pictures.labels.indices_N,
    )
    return found, scores


#: What files of version 1 say even if it is the default.
_ALWAYS = (
    *("--output", "--value-range", "--max-pixels", "--batch-size"),
    *("--layers", "--prior", "--alpha"),
)


def _depends_on(
    request: CollectRequest, preprocessing: Preprocessing, found: ScoredPictures
) -> dict[str, object]:
    """All that shards must have in common, by names for people: what was found, and was asked."""
    names = "\n".join(picture.name for picture in found.target.listing.pictures)
    pictures = request.pictures
    return {
        "model": weights_of(found.model),
        "pictures": hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest(),
        "preprocessing": asdict(preprocessing),
        "--labels or --class-map": [found.labels.origin, found.labels.classes or ()],
        "--max-images": pictures.max_images,
        "--seed": pictures.seed if pictures.max_images else None,
        "version of torch": torch.__version__,
        **{
            asked.option: asked.value
            for asked in settings(request)
            if asked.given or asked.option in _ALWAYS
        },
    }


def weights_of(model: Model) -> list[str]:
    """What tells models apart, the statistics that they store included."""
    own = fingerprint(model)
    return [own.sites, own.weights, statistics_digest(model)]
