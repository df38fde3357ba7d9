"""From what was measured to the sections of a record. Knows no file and prints nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isnan

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from adabn_cli.adaptation.installer import Installer, select_sites
from adabn_cli.adaptation.profiles import Profile
from adabn_cli.adaptation.rules import RULES
from adabn_cli.jobs.method.outcome import Outcome
from adabn_cli.jobs.results.task_sections import surveyed_part
from adabn_cli.measures.accuracy import accuracy, agreement, compare, per_class, top_accuracy
from adabn_cli.measures.confidence import calibrate, confidence_histogram, mutual_information
from adabn_cli.measures.confidence import summarise as summarise_confidence
from adabn_cli.measures.counts import effective_classes
from adabn_cli.measures.divergence import (
    Divergence,
    ModelDivergence,
    histogram_kl_nats,
    model_divergence,
    summarise,
    symmetric_kl_nats,
)
from adabn_cli.measures.estimates import (
    average_thresholded_confidence,
    difference_of_confidences,
)
from adabn_cli.measures.scores import Scores
from adabn_cli.moments import SiteMoments
from adabn_cli.record import (
    CalibrationPart,
    ChangePart,
    ClassAccuracyPart,
    ClassPart,
    DivergencePart,
    DivergencesPart,
    EstimatedAccuracyPart,
    ScoresPart,
    ShiftPart,
    SitePart,
)
from adabn_cli.text import first_few

_Labels = NDArray[np.int64] | None


def scores_part(scores: Scores, labels_N: _Labels, profile: Profile | None = None) -> ScoresPart:
    """Accuracy where there are labels; confidence and the predicted classes in any case.

    With a profile of labelled source images also the accuracy that the confidences let expect. Its
    confidences are the source model's; for an adapted model they are taken to hold as well.
    """
    if scores.head is not None:
        return surveyed_part(scores.head.survey())
    if not scores.scorable:
        return ScoresPart()
    summary = summarise_confidence(
        scores.predicted_N, scores.confidence_N, scores.entropy_N, scores.n_classes
    )
    if summary.not_finite == summary.n:
        return ScoresPart(not_finite=summary.n, n=summary.n)
    found = accuracy(scores.predicted_N, labels_N) if labels_N is not None else None
    return ScoresPart(
        **asdict(summary),
        accuracy=found.value if found else None,
        accuracy_interval=found.interval if found else None,
        correct=found.correct if found else None,
        labeled=found.n if found else 0,
        confidence_histogram=confidence_histogram(scores.confidence_N),
        mutual_information=mutual_information(scores.probability_sum_K, scores.entropy_N),
        effective_classes=effective_classes(summary.predicted_histogram) or None,
        top5_accuracy=_top5_accuracy(scores, labels_N),
        calibration=_calibration_part(scores, labels_N),
        estimated_accuracy=_estimated_accuracy_part(scores, profile),
    )


def _says_anything(scores: Scores) -> bool:
    """Whether any image's outputs are class scores, and numbers."""
    return scores.scorable and scores.not_finite < len(scores.predicted_N)


def _top5_accuracy(scores: Scores, labels_N: _Labels) -> float | None:
    """Of five classes or fewer all are among the first five."""
    if labels_N is None or scores.n_classes <= 5:
        return None
    return top_accuracy(scores.top_N5, labels_N)


def _calibration_part(scores: Scores, labels_N: _Labels) -> CalibrationPart | None:
    if labels_N is None:
        return None
    found = calibrate(scores.predicted_N, scores.confidence_N, labels_N)
    if found.expected_error is None:
        return None
    return CalibrationPart(error=found.expected_error, **asdict(found))


# What a wrong answer looks like is learned from the source's mistakes. From a single one, of 256,
# the sample net's target was given 99.8% (ATC) and 88% (DoC), where 39% were right.
_FEWEST_MISTAKES = 10


def _estimated_accuracy_part(
    scores: Scores, profile: Profile | None
) -> EstimatedAccuracyPart | None:
    source = profile.predictions if profile else None
    if source is None:
        return None
    labelled_N = source.class_N >= 0
    right_n = (source.predicted_N == source.class_N)[labelled_N].numpy()
    source_n = source.confidence_N[labelled_N].double().numpy()
    if (~right_n).sum() < _FEWEST_MISTAKES:
        return None
    atc = average_thresholded_confidence(source_n, right_n, scores.confidence_N)
    doc = difference_of_confidences(source_n, right_n, scores.confidence_N)
    if atc is None or doc is None:
        return None
    return EstimatedAccuracyPart(atc=atc, doc=doc, source_images=len(source_n))


def change_part(before: Scores, after: Scores, labels_N: _Labels) -> ChangePart:
    """After against before, on the same images."""
    if not (_says_anything(before) and _says_anything(after)):
        return ChangePart()
    agreed = agreement(before.predicted_N, after.predicted_N)
    change = (
        compare(before.predicted_N, after.predicted_N, labels_N) if labels_N is not None else None
    )
    if change is None:
        return ChangePart(agreement=agreed)
    return ChangePart(**asdict(change), agreement=agreed)


def class_parts(
    before: Scores, after: Scores, labels_N: _Labels, names: Sequence[str] | None
) -> tuple[ClassPart, ...]:
    """Every class that has labelled images."""
    if labels_N is None or not (_says_anything(before) and _says_anything(after)):
        return ()
    rows = per_class(before.predicted_N, after.predicted_N, labels_N, before.n_classes)
    return tuple(
        ClassPart(name=names[row.label] if names else str(row.label), **asdict(row))
        for row in rows
        if row.n
    )


def class_accuracies(
    scores: Scores, labels_N: _Labels, names: Sequence[str] | None
) -> tuple[ClassAccuracyPart, ...]:
    """Every class that has labelled images, in one scoring."""
    if labels_N is None or not _says_anything(scores):
        return ()
    parts = []
    for label in np.unique(labels_N[labels_N >= 0]).tolist():
        found = accuracy(scores.predicted_N[labels_N == label], labels_N[labels_N == label])
        if found is not None:
            parts.append(
                ClassAccuracyPart(
                    name=names[label] if names else str(label),
                    n=found.n,
                    correct=found.correct,
                    accuracy=found.value,
                    interval=found.interval,
                )
            )
    return tuple(parts)


def site_parts(outcome: Outcome) -> tuple[SitePart, ...]:
    """Every site: those that were visited in the order of the forward, the others behind."""
    sites = {site.name: site for site in outcome.installer.model.sites}
    order = [*outcome.before.sites, *(name for name in sites if name not in outcome.before.sites)]
    kl_before, kl_after = _divergences(outcome, outcome.before.sites), _divergences_after(outcome)
    bins_before = _histogram_divergences(outcome, outcome.before.sites)
    bins_after = _histogram_divergences(outcome, outcome.after.estimate.measured)
    parts = []
    for name in order:
        after = outcome.after.estimate.measured.get(name)
        adapted = name in outcome.after.estimate.installed
        parts.append(
            SitePart(
                name=name,
                kind=sites[name].kind,
                channels=sites[name].channels,
                adapted=adapted,
                reason=None if adapted else _why_not(outcome, name),
                count=after.pixels.count if after else 0,
                dead_channels=int(after.pixels.dead_C.sum()) if after else 0,
                kl_before=_site_divergence(kl_before, outcome.before.sites, name),
                kl_after=_site_divergence(kl_after, outcome.after.estimate.measured, name),
                standard_error_max=standard_error_max(
                    after, outcome.installer.images, sites[name].eps
                )
                if after
                else None,
                histogram_kl_before=_site_divergence(bins_before, outcome.before.sites, name),
                histogram_kl_after=_site_divergence(
                    bins_after, outcome.after.estimate.measured, name
                ),
                shift=_shift_part(outcome, name),
                uses=outcome.uses.get(name),
            )
        )
    return tuple(parts)


def reuse_warnings(outcome: Outcome) -> tuple[str, ...]:
    """That one forward comes to a site several times, and what is made of it."""
    reused = {name: uses for name, uses in outcome.uses.items() if uses > 1}
    if not reused:
        return ()
    names = first_few([f"{name} ({uses} times)" for name, uses in reused.items()], 3)
    sites = "site is" if len(reused) == 1 else "sites are"
    told = (
        f"{len(reused)} {sites} used several times in one forward: {names}. The statistics are "
        "pooled over all uses"
    )
    forwards = outcome.after.estimate.forwards
    return (f"{told}; adapting took {forwards} forwards." if forwards > 1 else f"{told}.",)


def _why_not(outcome: Outcome, name: str) -> str:
    if name not in outcome.before.sites:
        return "no call of it was seen; it keeps its source statistics"
    if name not in select_sites(outcome.installer.model.sites, outcome.installer.adaptation.layers):
        return "left out by --layers"
    if RULES[outcome.installer.sites[name].kind].needs_profile:
        if outcome.installer.profile is None:
            return "a BatchNorm folded in takes --reference or a source profile"
        return "not in the profile, as the layer that gives the model's output is not"
    return "not in the profile"


def standard_error_max(measured: SiteMoments, images: int, eps: float) -> float | None:
    """The largest standard error of a mean, in standard deviations of its channel.

    None for fewer than two images, and where all channels are dead.
    """
    if min(measured.images.count, images) < 2:
        return None
    error_C = measured.standard_error(images)
    live_C = ~measured.pixels.dead_C
    if not live_C.any():
        return None
    return float((error_C / (measured.pixels.var_C + eps).sqrt())[live_C].max())


def worst_error(installer: Installer, seen: Mapping[str, SiteMoments]) -> float | None:
    """The largest of these at any of the sites; None where none is known."""
    sites, images = installer.sites, installer.images
    errors = [standard_error_max(of, images, sites[name].eps) for name, of in seen.items()]
    return max((error for error in errors if error is not None), default=None)


def _shift_part(outcome: Outcome, name: str) -> ShiftPart | None:
    """What the source model sees of the target beside what it stores, or else the profile's."""
    measured, site = outcome.before.sites.get(name), outcome.installer.sites[name]
    source = outcome.installer.comparable.get(name, site.reference)
    if measured is None or source is None:
        return None
    target = measured.pixels
    v_s_C, v_t_C = source.var_C + site.eps, target.var_C + site.eps
    shift_C, ratio_C = (target.mean_C - source.mean_C) / v_s_C.sqrt(), (v_t_C / v_s_C).log()
    dead_C = target.dead_C
    return ShiftPart(mean=_rounded(shift_C, dead_C), log_variance_ratio=_rounded(ratio_C, dead_C))


def _rounded(values_C: Tensor, dead_C: Tensor) -> tuple[float | None, ...]:
    """Four digits; None where dead or not finite, as by a source variance of 0 with an eps of 0."""
    # By numpy, not one by one: 0.1 s for 200,000 values instead of 0.5.
    rounded_C = values_C.cpu().numpy().round(4).astype(object)
    rounded_C[(dead_C | ~values_C.isfinite()).cpu().numpy()] = None
    return tuple(rounded_C.tolist())


def divergences_part(outcome: Outcome) -> DivergencesPart:
    """The divergence of the whole model from the source, before and after."""
    before, after = outcome.before.sites, outcome.after.estimate.measured
    return DivergencesPart(
        before=_model_divergence(_divergences(outcome, before), before),
        after=_model_divergence(_divergences_after(outcome), after),
        histogram_before=_model_divergence(_histogram_divergences(outcome, before), before),
        histogram_after=_model_divergence(_histogram_divergences(outcome, after), after),
    )


def _divergences_after(outcome: Outcome) -> dict[str, Tensor]:
    return _divergences(outcome, outcome.after.estimate.measured)


def _divergences(outcome: Outcome, measured: Mapping[str, SiteMoments]) -> dict[str, Tensor]:
    """KL of every neuron between source and what was measured, by site, [C] each."""
    source = outcome.installer.comparable
    return {
        site.name: symmetric_kl_nats(source[site.name], measured[site.name].pixels, site.eps)
        for site in outcome.installer.model.sites
        if site.name in source and site.name in measured
    }


def _histogram_divergences(
    outcome: Outcome, measured: Mapping[str, SiteMoments]
) -> dict[str, Tensor]:
    """The same between histograms, at the sites of which the profile has one."""
    profile = outcome.installer.profile
    known = (
        {name: site.moments.histogram_CB for name, site in profile.sites.items()} if profile else {}
    )
    return {
        name: histogram_kl_nats(source_CB, moments.histogram_CB)
        for name, moments in measured.items()
        if (source_CB := known.get(name)) is not None and moments.histogram_CB is not None
    }


def _site_divergence(
    kl: Mapping[str, Tensor], measured: Mapping[str, SiteMoments], name: str
) -> DivergencePart | None:
    if name not in kl:
        return None
    return _divergence_part(summarise(kl[name], measured[name].pixels.dead_C))


def _model_divergence(
    kl: Mapping[str, Tensor], measured: Mapping[str, SiteMoments]
) -> DivergencePart | None:
    return _divergence_part(
        model_divergence(kl, {name: measured[name].pixels.dead_C for name in kl})
    )


def _divergence_part(found: Divergence | ModelDivergence) -> DivergencePart | None:
    # NaN is what nothing was measured of: sites behind a statistic that no data gives.
    return None if found.mean is None or isnan(found.mean) else DivergencePart(**asdict(found))
