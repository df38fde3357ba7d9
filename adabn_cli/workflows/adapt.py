"""The main job: score, re-estimate the statistics, score again, write the run. A line a station."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

from adabn_cli.adaptation import Adaptation, Installer
from adabn_cli.checkpoints.opening import ModelRequest, OpenedModel, open_model
from adabn_cli.engines import check_engine
from adabn_cli.engines.waiting import PlannedBatches
from adabn_cli.errors import UsageError
from adabn_cli.files import may_write_folder, require_apart
from adabn_cli.measures.scores import Scores
from adabn_cli.model import Preprocessing, entries_of
from adabn_cli.packs import Pack
from adabn_cli.ranks import ALONE
from adabn_cli.record import HeldOutPart, Record
from adabn_cli.targets.source import Location, files_of
from adabn_cli.workflows.asked_files import check_files
from adabn_cli.workflows.believing import PICTURES_TWICE, Belief, believe_adapted
from adabn_cli.workflows.journal import beside
from adabn_cli.workflows.known_profile import (
    KnownProfile,
    find_profile,
    measure_source,
    open_source,
    read_known_profile,
)
from adabn_cli.workflows.memory_plan import Limits, MemoryPlan, plan_memory
from adabn_cli.workflows.notices import COMPARED_PICTURES
from adabn_cli.workflows.outcome import (
    Outcome,
    Stages,
    adapt_and_measure,
    left_out_warning,
    require_adaptable,
)
from adabn_cli.workflows.packing import empty_pack, filled
from adabn_cli.workflows.predictions import write_predictions
from adabn_cli.workflows.preprocessing import (
    PreprocessingOptions,
    borrowed_note,
    resolve_preprocessing,
    suspect_preprocessing,
)
from adabn_cli.workflows.recording import (
    Subject,
    held_out_part,
    method_part,
    model_part,
    record_of,
    run_part,
    target_part,
)
from adabn_cli.workflows.resume import kept_while_running, require_resumable
from adabn_cli.workflows.run_folder import RECORD, model_in, name_run, written_whole
from adabn_cli.workflows.sample_size import Search
from adabn_cli.workflows.scored_pictures import (
    PicturesRequest,
    ScoredPictures,
    open_pictures,
    require_used,
)
from adabn_cli.workflows.scoring import score

# Enough for the first site's mean and variance; a first batch would be of a single class. 64 would
# be the peak of the whole job's memory, 400 MB at 224 px.
_SUSPECT_IMAGES = 16


#: What is done where the verdict is harm: the source model written instead, or an exit code.
OnHarm = Literal["keep", "warn", "fail"]


@dataclass(frozen=True)
class AdaptRequest:
    """All that a run depends on; see the options of those names. A `dry_run` writes nothing."""

    model: ModelRequest
    target: Location
    preprocessing: PreprocessingOptions = field(default_factory=PreprocessingOptions)
    pictures: PicturesRequest = field(default_factory=PicturesRequest)
    adaptation: Adaptation = field(default_factory=Adaptation)
    engine: str = "exact"
    profile: Path | None = None
    source: Location | None = None
    verify: bool = False
    held_out: Location | None = None
    on_harm: OnHarm = "warn"
    folder: Path | None = None
    force: bool = False
    limits: Limits = field(default_factory=Limits)
    resume: bool = False
    dry_run: bool = False

    @property
    def files(self) -> tuple[Path, ...]:
        """The files and folders that are named to be read."""
        data = files_of(self.target, self.source, self.held_out, self.profile)
        return (*self.model.files, *self.pictures.files, *data)


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
            doubts = (*doubts, *more)
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


@dataclass(frozen=True)
class Begun:
    """A run whose model is open and whose output is free; no target picture was read yet."""

    request: AdaptRequest
    started: str
    folder: Path
    stages: Stages
    opened: OpenedModel
    preprocessing: Preprocessing
    known: KnownProfile
    belief: Belief


@dataclass(frozen=True)
class Job(Begun):
    """Model and pictures opened and found fit for each other; nothing adapted yet.

    `search` says how the number of pictures was chosen, where it was.
    """

    pictures: ScoredPictures
    installer: Installer
    memory: MemoryPlan
    warnings: tuple[str, ...]
    search: Search | None = None


def prepare(request: AdaptRequest, tell: Callable[[str, int, int], None] | None = None) -> Job:
    """All that can go wrong before the long work: options, checkpoint, pictures, labels."""
    return with_pictures(begin(request, tell))


def begin(request: AdaptRequest, tell: Callable[[str, int, int], None] | None = None) -> Begun:
    """All of that but for the target's pictures: what does not go by how many of them are drawn."""
    check_files(request.pictures, request.target, request.held_out, request.source)
    started, stages = datetime.now(UTC).isoformat(timespec="seconds"), Stages(tell)
    folder = request.folder or name_run(request.model.path, str(request.target), started)
    folder = request.pictures.ranks.gather(folder)[0]
    if request.resume:
        require_resumable(folder, force=request.force)
    _require_apart(folder, request.files)
    if not request.dry_run:
        may_write_folder(folder, force=request.force, holds=RECORD)
    request = replace(request, pictures=request.limits.kept(request.pictures))
    check_engine(request.engine, request.adaptation.momentum, request.pictures.ranks.size)
    check_on_harm(request.on_harm)
    with stages.stage("open"):
        opened = open_model(request.model)
        path = find_profile(request.profile, request.source, request.model)
        _require_apart(folder, (*opened.files, *files_of(path)))
        require_adaptable(
            opened.model, with_profile=bool(path or request.source), path=request.model.path
        )
        belief = believe_adapted(
            opened.model,
            request.adaptation,
            request.model.path,
            with_profile=bool(path or request.source),
        )
        preprocessing = resolve_preprocessing(opened.model, request.preprocessing)
    known = KnownProfile()
    if path:
        known = read_known_profile(path, request.profile, opened.model)
    elif request.source:
        source = open_source(request.source, opened.model, preprocessing, request.pictures, stages)
        _require_apart(folder, source.files)
        known = measure_source(source, stages)
    return Begun(request, started, folder, stages, opened, preprocessing, known, belief)


def _require_apart(folder: Path, files: Iterable[Path]) -> None:
    """Raises UsageError if the run, or what is kept of it meanwhile, would replace one of these."""
    for out in (folder, beside(folder)):
        require_apart(out, files)


def with_pictures(begun: Begun) -> Job:
    """The job, with the pictures that its request asks for, or as many as fit into memory."""
    request, opened = begun.request, begun.opened
    pictures = _target_pictures(begun, request)
    memory = plan_memory(
        opened.model, pictures, request.limits, side_by_side=request.engine == "exact"
    )
    # All ranks draw the same: as many as fit at the one that has the least room.
    draws = [draw for draw in request.pictures.ranks.gather(memory.draw) if draw is not None]
    if draws:
        request = replace(request, pictures=replace(request.pictures, max_images=min(draws)))
        pictures = _target_pictures(begun, request)
    if request.held_out is None and request.source is None:  # Theirs are opened later, or were.
        require_used(request.pictures, pictures)
    known = begun.known
    installer = Installer(opened.model, request.adaptation, pictures.images, known.profile)
    some = pictures.target.spread(_SUSPECT_IMAGES)
    suspicion = suspect_preprocessing(opened.model, some, installer, begun.preprocessing)
    belief = begun.belief.run_twice(opened.model, some[:PICTURES_TWICE])
    told = (memory.warning, suspicion, known.warning, *left_out_warning(installer))
    return Job(
        **vars(replace(begun, request=request, belief=belief)),
        pictures=pictures,
        installer=installer,
        memory=memory,
        warnings=(
            *(*opened.notes, *belief.warnings, *borrowed_note(begun.preprocessing)),
            *(*pictures.notes, *(doubt for doubt in told if doubt)),
        ),
    )


def _target_pictures(begun: Begun, request: AdaptRequest) -> ScoredPictures:
    with begun.stages.stage("read") as progress:
        pictures = open_pictures(
            request.target, begun.opened.model, begun.preprocessing, request.pictures, progress
        )
    _require_apart(begun.folder, pictures.files)
    return pictures


def check_on_harm(on_harm: str) -> None:
    """Raises UsageError for what is no such setting."""
    if on_harm not in get_args(OnHarm):
        raise UsageError(
            f"--on-harm {on_harm} is unknown.", hint=f"It takes {', '.join(get_args(OnHarm))}."
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
    _require_apart(job.folder, held_out.files)
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
