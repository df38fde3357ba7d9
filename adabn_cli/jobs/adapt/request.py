"""All that can go wrong before a model is adapted: options, model, pictures, labels, memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

from adabn_cli.adaptation.engines import check_engine
from adabn_cli.adaptation.installer import Adaptation, Installer
from adabn_cli.data.listing import Location, files_of
from adabn_cli.data.open import Draws
from adabn_cli.errors import UsageError
from adabn_cli.files import may_write_folder, require_apart
from adabn_cli.jobs.adapt.journal import beside
from adabn_cli.jobs.adapt.measure import (
    Stages,
    left_out_warning,
    require_adaptable,
)
from adabn_cli.jobs.adapt.memory_plan import Limits, MemoryPlan, plan_memory
from adabn_cli.jobs.adapt.resume import require_resumable
from adabn_cli.jobs.adapt.sample_size import Search
from adabn_cli.jobs.checks.asked_files import check_files
from adabn_cli.jobs.checks.believing import PICTURES_TWICE, Belief, believe_adapted
from adabn_cli.jobs.preprocessing import (
    PreprocessingOptions,
    borrowed_note,
    resolve_preprocessing,
    suspect_preprocessing,
)
from adabn_cli.jobs.profile_given import (
    KnownProfile,
    find_profile,
    measure_source,
    open_source,
    read_known_profile,
)
from adabn_cli.jobs.run_folder import RECORD, name_run
from adabn_cli.jobs.scored_data import (
    PicturesRequest,
    ScoredPictures,
    open_pictures,
    require_used,
)
from adabn_cli.models.open import ModelRequest, OpenedModel, open_model
from adabn_cli.preprocessing import Preprocessing

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
    require_run_apart(folder, request.files)
    if not request.dry_run:
        may_write_folder(folder, force=request.force, holds=RECORD)
    request = replace(request, pictures=request.limits.kept(request.pictures))
    check_engine(request.engine, request.adaptation.momentum, request.pictures.ranks.size)
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
    return Begun(request, started, folder, stages, opened, preprocessing, known, belief)


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
    memory = plan_memory(
        opened.model, pictures, request.limits, side_by_side=request.engine == "exact"
    )
    # All ranks draw the same: as many as fit at the one that has the least room.
    fit = [draw for draw in request.pictures.ranks.gather(memory.draw) if draw is not None]
    if fit:
        request = replace(request, pictures=replace(request.pictures, max_images=min(fit)))
        pictures = _target_pictures(begun, request)
    if request.held_out is None and request.source is None:  # Theirs are opened later, or were.
        require_used(request.pictures, pictures)
    known = begun.known
    installer = Installer(opened.model, request.adaptation, pictures.images, known.profile)
    some = pictures.target.spread(_SUSPECT_IMAGES)
    suspicion = suspect_preprocessing(opened.model, some, installer, begun.preprocessing)
    belief = begun.belief.run_twice(opened.model, some[:PICTURES_TWICE])
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


def check_on_harm(on_harm: str) -> None:
    """Raises UsageError for what is no such setting."""
    if on_harm not in get_args(OnHarm):
        raise UsageError(
            f"--on-harm {on_harm} is unknown.", hint=f"It takes {', '.join(get_args(OnHarm))}."
        )
