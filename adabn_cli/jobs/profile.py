"""Measures the source domain once, so that no source picture is needed at the target site."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adabn_cli.adaptation.engines.observe import observe
from adabn_cli.adaptation.engines.passes import Passes
from adabn_cli.adaptation.fingerprint import fingerprint, statistics_digest
from adabn_cli.adaptation.histogram import Bins
from adabn_cli.adaptation.profiles import CLASS_BYTES, Predictions, Profile, SiteProfile
from adabn_cli.adaptation.rules import RULES
from adabn_cli.data.listing import Location, files_of
from adabn_cli.errors import IN_FLOAT32, ModelError
from adabn_cli.files import may_write, require_apart, write_whole
from adabn_cli.jobs.checks.asked_files import check_files
from adabn_cli.jobs.checks.believing import PICTURES_TWICE, believe_scored
from adabn_cli.jobs.preprocessing import (
    PreprocessingOptions,
    borrowed_note,
    resolve_preprocessing,
)
from adabn_cli.jobs.results.record import model_part, target_part
from adabn_cli.jobs.results.sections import scores_part
from adabn_cli.jobs.scored_data import PicturesRequest, open_pictures, require_used
from adabn_cli.jobs.stages import Stages
from adabn_cli.measures.counts import effective_classes
from adabn_cli.measures.scores import Scores
from adabn_cli.model import Batches, Model, Progress, Signal, no_output
from adabn_cli.models.open import ModelRequest, open_model
from adabn_cli.moments import ImageMoments, SiteMoments, image_rows, measure
from adabn_cli.record import ProfileRecord

#: Where `adapt` looks for a profile that it was not told of, beside the model.
SUFFIX = ".profile"

#: Enough to know every mean to a sixteenth of a standard deviation; 64 are enough for most of it.
SOURCE_IMAGES = 256

# Two images a class are enough to see that a target shows one class of 110 (docs/shifts.md), so
# only the file's size limits their number: 87 classes of a ResNet-18, 15 of a ResNet-50.
_MOST_CLASS_BYTES = 8 * 2**20

_Labels = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class ProfileRequest:
    """Which model, on which source pictures; `out` is beside the model where it is None."""

    model: ModelRequest
    source: Location
    preprocessing: PreprocessingOptions = field(default_factory=PreprocessingOptions)
    pictures: PicturesRequest = field(
        default_factory=lambda: PicturesRequest(max_images=SOURCE_IMAGES)
    )
    out: Path | None = None
    force: bool = False


def beside_model(path: Path) -> Path:
    """Where the profile of a model lies by default, called like it."""
    if path.is_dir():  # "." has no name of its own, and a folder's may end in .a1_in1k.
        path = path.resolve()
        return path.with_name(path.name + SUFFIX)
    return path.with_suffix(SUFFIX)


def profile(
    request: ProfileRequest, tell: Callable[[str, int, int], None] | None = None
) -> ProfileRecord:
    """Writes the profile of a model on a folder of source pictures.

    Raises UsageError where the output is there already, ModelError where no layer can be measured,
    and the errors of opening model and pictures.
    """
    check_files(request.pictures, request.source)
    out, stages = request.out or beside_model(request.model.path), Stages(tell)
    inputs = (*request.model.files, *files_of(request.source), *request.pictures.files)
    may_write(out, inputs=inputs, force=request.force)
    with stages.stage("open"):
        opened = open_model(request.model)
        require_apart(out, opened.files)
        belief = believe_scored(opened.model, request.model.path)
        preprocessing = resolve_preprocessing(opened.model, request.preprocessing)
    with stages.stage("read") as progress:
        pictures = open_pictures(
            request.source, opened.model, preprocessing, request.pictures, progress
        )
        require_apart(out, pictures.files)
    require_used(request.pictures, pictures)
    belief = belief.run_twice(opened.model, pictures.target.few(PICTURES_TWICE))
    found, scores = profile_of(opened.model, pictures.target.batches(), pictures.labels_N, stages)
    content = found.as_bytes()
    write_whole(out, content)
    warning = coverage_warning(found)
    notes = (
        pictures.picture_notes if pictures.truth else pictures.notes
    )  # A profile is held against no truth.
    return ProfileRecord(
        path=str(out),
        bytes=len(content),
        model=model_part(opened, preprocessing, belief),
        source=target_part(pictures),
        sites=len(found.sites),
        neurons=sum(len(site.moments.pixels.mean_C) for site in found.sites.values()),
        classes=len({label for site in found.sites.values() for label in site.classes}),
        scores=scores_part(scores, pictures.labels_N),
        warnings=(
            *opened.notes,
            *belief.warnings,
            *borrowed_note(preprocessing),
            *notes,
            *([warning] if warning else []),
        ),
    )


def profile_of(
    model: Model, batches: Batches, labels_N: _Labels | None, stages: Stages
) -> tuple[Profile, Scores]:
    """What every site shows on source images, in two forwards: moments, then all by class and bin.

    Classes are those that the model predicts: as good as labels, which few people have at hand
    (docs/shifts.md). The layer that gives the model's output is left out: matched to the source,
    it would give the target the source's mix of classes. Raises ModelError where no site was
    visited, and where outputs are NaN: what led to them would be part of the profile.
    """
    sizes = [len(batch) for batch in batches]
    scores = Scores()
    with stages.stage("profile") as progress:
        passes = Passes.over(batches)
        moments = observe(
            model,
            passes,
            scores,
            _first_half(progress),
            lambda signal, _: measure(signal.activation),
        )
        _require_finite(scores)
        survey = _Survey(model, moments, scores, sizes)
        moments = observe(model, passes, no_output, _second_half(progress), survey.measure)
    kinds = {site.name: site.kind for site in model.sites}
    if moments and RULES[kinds[last := list(moments)[-1]]].needs_profile:
        del moments[last]
    if not moments:
        raise ModelError(
            "There is nothing to profile: no picture reached a layer that could be adapted.",
            where=model.architecture,
            hint="`adabn inspect` lists what the model has.",
        )
    sites = {
        name: SiteProfile(seen, survey.classes.get(name, {}), survey.bins[name])
        for name, seen in moments.items()
    }
    found = Profile(
        fingerprint=fingerprint(model),
        statistics=statistics_digest(model),
        architecture=model.architecture,
        images=sum(sizes),
        sites=sites,
        predictions=_predictions(scores, labels_N),
    )
    return found, scores


def _require_finite(scores: Scores) -> None:
    if scores.scorable and scores.not_finite:
        raise ModelError(
            f"The outputs of {scores.not_finite:,} of {len(scores.predicted_N):,} source pictures "
            "are NaN or infinite: the profile would hold what led to them.",
            hint=f"Look for broken pictures, and check --mean and --std. If it is of float16: "
            f"{IN_FLOAT32}",
        )


def _first_half(progress: Progress) -> Progress:
    return lambda done, total: progress(done, 2 * total)


def _second_half(progress: Progress) -> Progress:
    return lambda done, total: progress(total + done, 2 * total)


class _Survey:
    """Measures signals again: histograms, and the images of every predicted class by themselves."""

    def __init__(
        self, model: Model, moments: Mapping[str, SiteMoments], scores: Scores, sizes: Sequence[int]
    ) -> None:
        self.bins = {name: Bins.around(seen.pixels) for name, seen in moments.items()}
        self.classes: dict[str, dict[int, ImageMoments]] = {}
        self._predicted: Sequence[Tensor] | None = None
        channels = sum(site.channels for site in model.sites)
        classes = len(np.unique(scores.predicted_N))
        if scores.scorable and classes * channels * CLASS_BYTES <= _MOST_CLASS_BYTES:
            self._predicted = torch.split(torch.from_numpy(scores.predicted_N), list(sizes))

    def measure(self, signal: Signal, batch: int) -> SiteMoments:
        rows = image_rows(signal.activation)
        # A site that sees crops or tokens has other rows than images, and no class for each.
        if self._predicted is not None and len(rows.mean_NC) == len(self._predicted[batch]):
            pooled = self.classes.setdefault(signal.site.name, {})
            predicted_n = self._predicted[batch].to(rows.mean_NC.device)
            for index in torch.unique(predicted_n[predicted_n >= 0]).tolist():
                images = rows.of(predicted_n == index).pooled().images
                pooled[index] = pooled[index].merge(images) if index in pooled else images
        histogram_CB = self.bins[signal.site.name].count(signal.activation)
        return replace(rows.pooled(), histogram_CB=histogram_CB)


def _predictions(scores: Scores, labels_N: _Labels | None) -> Predictions | None:
    if not scores.scorable:
        return None
    predicted_N = torch.from_numpy(scores.predicted_N)
    return Predictions(
        predicted_N=predicted_N,
        confidence_N=torch.from_numpy(scores.confidence_N),
        entropy_N=torch.from_numpy(scores.entropy_N),
        class_N=torch.full_like(predicted_N, -1)
        if labels_N is None
        else torch.from_numpy(labels_N),
        classes=scores.n_classes,
    )


def coverage_warning(found: Profile) -> str | None:
    """What is wrong with the classes that the profile's pictures show, if anything is.

    256 pictures of two classes of ten took a clean accuracy of 91.5% to 67.7%: what is rare in the
    profile is taken for a shift on the target.
    """
    if found.predictions is None:
        return None
    predicted_N, classes = found.predictions.predicted_N, found.predictions.classes
    histogram = torch.bincount(predicted_N[predicted_N >= 0], minlength=classes).tolist()
    effective, possible = effective_classes(histogram), min(classes, found.images)
    if effective >= possible / 2:
        return None
    return (
        f"The model finds its {classes} classes unevenly in the profile's {found.images} pictures, "
        f"as if there were {effective:.1f}. Statistics compared with them will be biased: profile "
        "pictures of all classes."
    )
