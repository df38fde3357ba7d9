"""A run's folder: the record, the model or the one that was kept, the pack, the predictions."""

from __future__ import annotations

from adabn_cli.adaptation.packs import Pack
from adabn_cli.jobs.adapt.prepare import Job
from adabn_cli.jobs.method.outcome import Outcome
from adabn_cli.jobs.packing import empty_pack, filled
from adabn_cli.jobs.predictions import write_predictions
from adabn_cli.jobs.results.notices import COMPARED_PICTURES
from adabn_cli.jobs.results.record import (
    Subject,
    method_part,
    model_part,
    record_of,
    run_part,
    target_part,
)
from adabn_cli.record import HeldOutPart, Record
from adabn_cli.record.run_folder import model_in, written_whole


def write_run(job: Job, outcome: Outcome, held_out: HeldOutPart | None) -> Record:
    """Writes the run's folder; returns the record in it."""
    model, pictures, request = job.opened.model, job.pictures, job.request
    subject = Subject(
        model=model_part(job.opened, job.preprocessing, job.belief),
        target=target_part(pictures),
        method=method_part(
            job.installer.adaptation,
            request.engine,
            chunk_size=request.pictures.batch_size,
            seed=request.pictures.seed,
            dtype=model.dtype,
            profile=job.known.part,
        ),
        labels_N=pictures.labels_N,
        classes=pictures.classes,
        held_out=held_out,
        warnings=job.warnings,
        pictures=pictures.target.pictures,
        sample_nCHW=pictures.target.spread(COMPARED_PICTURES),
        truth=pictures.truth,
        search=job.search,
    )
    run = run_part(job.started, job.stages, model.device, job.folder)
    record, installer = record_of(subject, outcome, run), outcome.installer
    if request.on_harm == "keep" and record.verdict.outcome == "harm":
        installer.undo()
        record = record.with_kept_source()
    sites = tuple(outcome.after.estimate.installed)
    pack = filled(empty_pack(model), installer, sites, pictures.images)
    ranks = request.pictures.ranks
    if ranks.index == 0:
        _write_files(job, outcome, record, pack)
    ranks.gather(None)  # Or the others would end well if writing fails.
    return record


def _write_files(job: Job, outcome: Outcome, record: Record, pack: Pack) -> None:
    model, pictures, request = job.opened.model, job.pictures, job.request
    with job.stages.stage("write"), written_whole(job.folder, force=request.force) as folder:
        model.save(model_in(folder, request.model.path))
        (folder / "pack.safetensors").write_bytes(pack.as_bytes())
        write_predictions(
            folder / "predictions.csv",
            pictures.target.pictures,
            outcome.before.scores,
            outcome.after.scores,
            pictures.labels_N,
            pictures.classes,
        )
        (folder / "run.json").write_text(record.as_json(), encoding="utf-8")
