"""All that can go wrong before a model is adapted: options, model, pictures, labels, memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from adabn_cli.adaptation.engines import Engine, engine
from adabn_cli.adaptation.engines.passes import Notebook, Passes
from adabn_cli.adaptation.installer import Installer
from adabn_cli.data.listing import files_of
from adabn_cli.data.open import Draws
from adabn_cli.errors import UsageError
from adabn_cli.files import may_write_folder, require_apart
from adabn_cli.jobs.adapt.journal import beside
from adabn_cli.jobs.adapt.memory_plan import MemoryPlan, plan_memory
from adabn_cli.jobs.adapt.request import AdaptRequest, check_on_harm
from adabn_cli.jobs.adapt.resume import require_resumable
from adabn_cli.jobs.checks.adaptable import left_out_warning, require_adaptable
from adabn_cli.jobs.checks.asked_files import check_files
from adabn_cli.jobs.checks.believing import PICTURES_TWICE, Belief, believe_adapted
from adabn_cli.jobs.preprocessing import borrowed_note, resolve_preprocessing, suspect_preprocessing
from adabn_cli.jobs.profile_given import (
    KnownProfile,
    find_profile,
    measure_source,
    open_source,
    read_known_profile,
)
from adabn_cli.jobs.results.sample_size import Search
from adabn_cli.jobs.scored_data import ScoredPictures, open_pictures, require_used
from adabn_cli.jobs.stages import Stages
from adabn_cli.models.open import OpenedModel, open_model
from adabn_cli.preprocessing import Preprocessing
from adabn_cli.record.run_folder import RECORD, name_run

# Enough for the first site's mean and variance; a first batch would be of a single class. 64 would
# be the peak of the whole job's memory, 400 MB at 224 px.
_SUSPECT_IMAGES = 16


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A run whose model is open and whose output is free; no target picture was read yet."""

    request: AdaptRequest
    engine: Engine
    started: str
    folder: Path
    stages: Stages
    opened: OpenedModel
    preprocessing: Preprocessing
    known: KnownProfile
    belief: Belief


@dataclass(frozen=True, kw_only=True)
class Job(Begun):
    """Model and pictures opened and found fit for each other; nothing adapted yet.

    `search` says how the number of pictures was chosen, where it was.
    """

    pictures: ScoredPictures
    installer: Installer
    memory: MemoryPlan
    warnings: tuple[str, ...]
    search: Search | None = None

    def passes(self, notebook: Notebook | None = None) -> Passes:
        """Passes over the target's pictures, as the plan for the memory says."""
        return Passes(
            batches=self.pictures.target.batches(),
            waiting=self.memory.waiting,
            notebook=notebook,
            ranks=self.request.pictures.ranks,
            first=self.pictures.target.first_batch,
        )


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
    require_run_apart(folder, request.files)
    if not request.dry_run:
        may_write_folder(folder, force=request.force, holds=RECORD)
    request = replace(request, pictures=request.limits.kept(request.pictures))
    by = engine(request.engine, request.adaptation.momentum, request.pictures.ranks.size)
    check_on_harm(request.on_harm)
    with stages.stage("open"):
        opened = open_model(request.model)
        path = find_profile(request.profile, request.source, request.model)
        require_run_apart(folder, (*opened.files, *files_of(path)))
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
        require_run_apart(folder, source.files)
        known = measure_source(source, stages)
    return Begun(
        request=request,
        engine=by,
        started=started,
        folder=folder,
        stages=stages,
        opened=opened,
        preprocessing=preprocessing,
        known=known,
        belief=belief,
    )


def require_run_apart(folder: Path, files: Iterable[Path]) -> None:
    """Raises UsageError if the run, or what is kept of it meanwhile, would replace one of these."""
    for out in (folder, beside(folder)):
        require_apart(out, files)


def with_pictures(begun: Begun, draws: Draws | None = None) -> Job:
    """The job, with the pictures that its request asks for, or as many as fit into memory.

    Where these are fewer they are read anew; with `draws`, no other is decoded twice.
    """
    request, opened = begun.request, begun.opened
    pictures = _target_pictures(begun, request, draws)
    if pictures.truth is not None and request.pictures.ranks.size > 1:
        raise UsageError(
            f"Outputs for {pictures.truth.head.task} are scored in one process.",
            hint="Leave torchrun out, or adapt to a part of the pictures with --max-images.",
        )
    memory = plan_memory(
        opened.model, pictures, request.limits, side_by_side=begun.engine.side_by_side
    )
    # All ranks draw the same: as many as fit at the one that has the least room.
    fit = [draw for draw in request.pictures.ranks.gather(memory.draw) if draw is not None]
    if fit:
        request = replace(request, pictures=replace(request.pictures, max_images=min(fit)))
        pictures = _target_pictures(begun, request)
    if request.held_out is None and request.source is None:  # Theirs are opened later, or were.
        require_used(request.pictures, pictures)
    known = begun.known
    installer = Installer.of(opened.model, request.adaptation, pictures.images, known.profile)
    some = pictures.target.spread(_SUSPECT_IMAGES)
    suspicion = suspect_preprocessing(opened.model, some, installer, begun.preprocessing)
    belief = begun.belief.run_twice(opened.model, pictures.target.few(PICTURES_TWICE))
    told = (memory.warning, suspicion, *known.warnings, *left_out_warning(installer))
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


def _target_pictures(
    begun: Begun, request: AdaptRequest, draws: Draws | None = None
) -> ScoredPictures:
    model, preprocessing = begun.opened.model, begun.preprocessing
    with begun.stages.stage("read") as progress:
        pictures = open_pictures(
            request.target, model, preprocessing, request.pictures, progress, draws
        )
    require_run_apart(begun.folder, pictures.files)
    return pictures
