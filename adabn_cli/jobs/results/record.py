"""A record from a finished job: what was adapted to what, how, and what came of it."""

from __future__ import annotations

import platform
import resource
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from adabn_cli.adaptation.fingerprint import fingerprint
from adabn_cli.adaptation.methods import Adaptation
from adabn_cli.jobs.checks.believing import Belief
from adabn_cli.jobs.checks.broken_outputs import beyond_belief, why_unmeasured, without_before
from adabn_cli.jobs.method.outcome import Outcome
from adabn_cli.jobs.results.broken_pictures import broken_parts
from adabn_cli.jobs.results.notices import Seen, notice_parts
from adabn_cli.jobs.results.sample_size import Search, sample_size_part
from adabn_cli.jobs.results.sections import (
    change_part,
    class_parts,
    divergences_part,
    reuse_warnings,
    scores_part,
    site_parts,
)
from adabn_cli.jobs.results.task_sections import task_part
from adabn_cli.jobs.results.truth import Truth
from adabn_cli.jobs.results.verdict import Evidence, verdict_part
from adabn_cli.jobs.scored_data import ScoredPictures
from adabn_cli.jobs.stages import Stages
from adabn_cli.measures.scores import Scores
from adabn_cli.model import Model
from adabn_cli.models.open import OpenedModel
from adabn_cli.preprocessing import Preprocessing
from adabn_cli.record import (
    FixedLayerPart,
    HeldOutPart,
    MethodPart,
    ModelPart,
    PreprocessingPart,
    ProfilePart,
    Record,
    ResidualPart,
    RunPart,
    SkippedPicture,
    TargetPart,
)
from adabn_cli.text import valid_text
from adabn_cli.version import __version__


def live_model_part(model: Model, belief: Belief) -> ModelPart:
    """A model that was given as an object."""
    return ModelPart(
        path=None,
        format="live module",
        sha256=None,
        architecture=model.architecture,
        architecture_source=model.architecture_source,
        weights=fingerprint(model).weights,
        classes=tuple(model.classes) if model.classes else None,
        fixed_layers=tuple(FixedLayerPart(**asdict(layer)) for layer in model.fixed),
        unlearned_sites=belief.unlearned,
        impossible_statistics=belief.impossible,
        random=belief.random,
    )


def model_part(opened: OpenedModel, preprocessing: Preprocessing, belief: Belief) -> ModelPart:
    """A model that was read from a file."""
    checkpoint = opened.checkpoint
    return live_model_part(opened.model, belief).model_copy(
        update={
            "path": valid_text(checkpoint.path),
            "format": checkpoint.kind,
            "sha256": checkpoint.sha256,
            "trusted_pickle": checkpoint.trusted_pickle,
            "classes_source": opened.classes_source,
            "preprocessing": PreprocessingPart(**asdict(preprocessing)),
        }
    )


def target_part(pictures: ScoredPictures) -> TargetPart:
    """A folder of pictures."""
    target = pictures.target
    return TargetPart(
        path=valid_text(str(target.path)),
        kind=target.kind,
        images=pictures.images,
        fingerprint=target.fingerprint,
        skipped=tuple(SkippedPicture(**asdict(picture)) for picture in target.skipped),
        other_files=target.other_files,
        left_out={valid_text(suffix): n for suffix, n in target.left_out.items()},
        frames_left_out=target.frames_left_out,
        conversions=dict(target.conversions),
        labels=pictures.labelled_by,
        labeled_images=pictures.labeled_images,
        subsample=dict(target.subsample) if target.subsample else None,
    )


def method_part(
    adaptation: Adaptation,
    engine: str,
    *,
    chunk_size: int,
    seed: int,
    dtype: str,
    profile: ProfilePart | None = None,
) -> MethodPart:
    """How the statistics were estimated."""
    return MethodPart(
        name=adaptation.resolved(with_profile=profile is not None).method or "adabn",
        engine=engine,
        prior=adaptation.prior,
        alpha=adaptation.alpha,
        momentum=adaptation.momentum,
        layers=adaptation.layers,
        chunk_size=chunk_size,
        dtype=dtype,
        seed=seed,
        profile=profile,
    )


def held_out_part(pictures: ScoredPictures, before: Scores, after: Scores) -> HeldOutPart:
    """The comparison on pictures that were not adapted to."""
    labels_N = pictures.labels_N
    return HeldOutPart(
        path=valid_text(str(pictures.target.path)),
        images=pictures.images,
        before=scores_part(before, labels_N),
        after=scores_part(after, labels_N),
        change=change_part(before, after, labels_N),
    )


def run_part(started: str, stages: Stages, device: str, folder: Path | None) -> RunPart:
    """Time, machine and versions."""
    return RunPart(
        started=started,
        seconds=round(sum(stages.seconds.values()), 3),
        seconds_by_stage={name: round(value, 3) for name, value in stages.seconds.items()},
        host=platform.node(),
        device=device,
        versions={"adabn": __version__, "python": platform.python_version(), **_versions()},
        peak_memory_bytes=_peak_memory_bytes(),
        folder=valid_text(folder) if folder else None,
    )


def _versions() -> dict[str, str]:
    found = {}
    for name in ("torch", "torchvision", "timm", "numpy", "pillow"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _peak_memory_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB.


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a record is about, beside the outcome.

    `pictures` are their paths below the target folder, in the order of the batches. `sample_nCHW`
    are some of the images, spread over all of them, to tell whether they show one scene. `truth` is
    what outputs that are no class scores were held against. `search` is how the number of images
    was chosen, where it was.
    """

    model: ModelPart
    target: TargetPart
    method: MethodPart
    labels_N: NDArray[np.int64] | None
    classes: Sequence[str] | None
    held_out: HeldOutPart | None = None
    warnings: tuple[str, ...] = ()
    pictures: Sequence[str] | None = None
    sample_nCHW: Tensor | None = None
    truth: Truth | None = None
    search: Search | None = None


def record_of(subject: Subject, outcome: Outcome, run: RunPart) -> Record:
    """The whole record."""
    before, after, labels_N = outcome.before.scores, outcome.after.scores, subject.labels_N
    installer = outcome.installer
    impossible = bool(subject.model.impossible_statistics)
    task = task_part(before, after, subject.truth) if subject.truth else None
    if impossible:
        before, task = Scores(), without_before(task) if task else None
    change, profile = change_part(before, after, labels_N), installer.profile
    scores = scores_part(before, labels_N, profile)
    scored = scores_part(after, labels_N, profile)
    sites = site_parts(outcome)
    sample_size = sample_size_part(sites, installer.images, subject.search)
    held_out = subject.held_out.change if subject.held_out else None
    seen = Seen(
        images=installer.images,
        before=scores,
        after=scored,
        labels_N=labels_N,
        names=subject.classes,
        sample_size=sample_size,
        sample_nCHW=subject.sample_nCHW,
        one_class_an_image=task is None,
    )
    notices = notice_parts(seen)
    one_class = any(notice.kind == "single class" for notice in notices)
    unmeasured = why_unmeasured(subject.model, scores, scored, subject.held_out)
    doubts = [unmeasured if not impossible else None, beyond_belief(sites)]
    return Record(
        model=subject.model,
        target=subject.target,
        method=subject.method.model_copy(
            update={
                "forwards": outcome.after.forwards,
                "aim": installer.aim.name,
                "class_mix": installer.aim.share_K,
            }
        ),
        before=scores,
        after=scored,
        change=change,
        task=task,
        classes=class_parts(before, after, labels_N, subject.classes),
        held_out=subject.held_out,
        kl=divergences_part(outcome),
        sites=sites,
        sample_size=sample_size,
        broken=broken_parts(before, after, labels_N, subject.pictures, subject.classes),
        notices=notices,
        residual=ResidualPart(**asdict(outcome.residual)) if outcome.residual else None,
        verdict=verdict_part(
            Evidence(
                before=scores,
                after=scored,
                change=change,
                held_out=held_out,
                task=task,
                judgement=outcome.judgement,
                one_class=one_class,
                unmeasured=unmeasured,
            )
        ),
        warnings=(
            *(*subject.warnings, *reuse_warnings(outcome)),
            *(doubt for doubt in doubts if doubt),
        ),
        run=run,
    )
