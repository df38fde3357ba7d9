"""The main job: score, re-estimate the statistics, score again, write the run. A line a station."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from adabn_cli.adaptation.engines.waiting import PlannedBatches
from adabn_cli.adaptation.packs import Pack
from adabn_cli.errors import UsageError
from adabn_cli.jobs.adapt.measure import (
    Outcome,
    adapt_and_measure,
)
from adabn_cli.jobs.adapt.request import AdaptRequest, Job, prepare, require_run_apart
from adabn_cli.jobs.adapt.resume import kept_while_running
from adabn_cli.jobs.packing import empty_pack, filled
from adabn_cli.jobs.predictions import write_predictions
from adabn_cli.jobs.results.notices import COMPARED_PICTURES
from adabn_cli.jobs.results.record import (
    Subject,
    held_out_part,
    method_part,
    model_part,
    record_of,
    run_part,
    target_part,
)
from adabn_cli.jobs.run_folder import model_in, written_whole
from adabn_cli.jobs.scored_data import (
    ScoredPictures,
    open_pictures,
    require_used,
)
from adabn_cli.jobs.scoring import score
from adabn_cli.measures.scores import Scores
from adabn_cli.model import entries_of
from adabn_cli.ranks import ALONE
from adabn_cli.record import HeldOutPart, Record


@dataclass(frozen=True)
class Adapted:
    """A run: its record, and the folder it was written to."""

    record: Record
    folder: Path


def adapt(request: AdaptRequest, tell: Callable[[str, int, int], None] | None = None) -> Adapted:
    """Adapts a checkpoint to a folder of pictures and writes the run.

    `tell` gets (stage, done, total). Raises UsageError, ModelError or TargetError with nothing
    written: a run appears whole or not at all.
    """
    return carry_out(prepare(request, tell))


def carry_out(job: Job) -> Adapted:
    """Adapts, measures and writes what was prepared."""
    request = job.request
    _require_one_process_for_heads(job)
    with kept_while_running(job) as journal:
        held_out = _open_held_out(job)
        before = _score_held_out(job, None if job.belief.impossible else held_out)
        outcome = adapt_and_measure(
            job.installer,
            PlannedBatches(
                job.pictures.target.batches(),
                job.memory.waiting,
                journal,
                request.pictures.ranks,
                job.pictures.target.first_batch,
            ),
            request.engine,
            verify=request.verify,
            stages=job.stages,
            head=job.pictures.head,
        )
        after = _score_held_out(job, held_out)
        pictures, doubts = job.pictures.believed()
        if held_out is not None:
            held_out, more = held_out.believed()
            notes = (f"Of the held-out pictures: {note}" for note in held_out.picture_notes)
            doubts = (*doubts, *more, *notes)
        job = replace(job, pictures=pictures, warnings=(*job.warnings, *doubts))
        part = held_out_part(held_out, before, after) if held_out else None
        return Adapted(_write(job, outcome, part), job.folder)


def _require_one_process_for_heads(job: Job) -> None:
    """Raises UsageError where outputs that stay where they were computed cannot be scored."""
    if job.pictures.truth is not None and job.request.pictures.ranks.size > 1:
        raise UsageError(
            f"Outputs for {job.pictures.truth.head.task} are scored in one process.",
            hint="Leave torchrun out, or adapt to a part of the pictures with --max-images.",
        )


def _open_held_out(job: Job) -> ScoredPictures | None:
    if job.request.held_out is None:
        return None
    request = job.request.pictures
    # A file of labels is of the target's pictures, and so are masks.
    labels = request.labels if request.labels in ("auto", "none") else "auto"
    request = replace(request, labels=labels, masks=None, kind=None, ranks=ALONE)
    with job.stages.stage("held out") as progress:
        held_out = open_pictures(
            job.request.held_out, job.opened.model, job.preprocessing, request, progress
        )
    require_run_apart(job.folder, held_out.files)
    if job.request.source is None:
        require_used(request, job.pictures, held_out)
    return held_out


def _score_held_out(job: Job, held_out: ScoredPictures | None) -> Scores:
    """The model as it is now on the held-out pictures; empty scores without any."""
    if held_out is None:
        return Scores()
    with job.stages.stage("held out") as progress:
        return score(job.opened.model, held_out.target.batches(), progress, held_out.head)


def _write(job: Job, outcome: Outcome, held_out: HeldOutPart | None) -> Record:
    """Writes the run's folder; returns the record in it."""
    model, pictures, request = job.opened.model, job.pictures, job.request
    subject = Subject(
        model_part(job.opened, job.preprocessing, job.belief),
        target_part(pictures),
        method_part(
            job.installer.adaptation,
            request.engine,
            request.pictures.batch_size,
            request.pictures.seed,
            model.dtype,
            job.known.part,
        ),
        pictures.labels_N,
        pictures.classes,
        held_out,
        job.warnings,
        pictures.target.pictures,
        pictures.target.spread(COMPARED_PICTURES),
        pictures.truth,
        job.search,
    )
    record = record_of(
        subject, outcome, run_part(job.started, job.stages, model.device, job.folder)
    )
    if request.on_harm == "keep" and record.verdict.outcome == "harm":
        model.load_state(entries_of(model, outcome.installer.original))
        verdict = record.verdict.model_copy(update={"kept_source": True})
        record = record.model_copy(update={"verdict": verdict})
    sites = tuple(outcome.estimate.installed)
    pack = filled(empty_pack(model), outcome.installer, sites, pictures.images)
    ranks = request.pictures.ranks
    if ranks.index == 0:
        _write_files(job, outcome, record, pack)
    ranks.gather(None)  # Or the others would end well where writing fails.
    return record


def _write_files(job: Job, outcome: Outcome, record: Record, pack: Pack) -> None:
    model, pictures, request = job.opened.model, job.pictures, job.request
    with job.stages.stage("write"), written_whole(job.folder, force=request.force) as folder:
        model.save(model_in(folder, request.model.path))
        (folder / "pack.safetensors").write_bytes(pack.as_bytes())
        write_predictions(
            folder / "predictions.csv",
            pictures.target.pictures,
            outcome.scores_before,
            outcome.scores_after,
            pictures.labels_N,
            pictures.classes,
        )
        (folder / "run.json").write_text(record.as_json(), encoding="utf-8")
