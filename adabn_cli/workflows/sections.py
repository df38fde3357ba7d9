"""From what was measured to the sections of a record. Knows no file and prints nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from adabn_cli.adaptation import select_sites
from adabn_cli.measures.accuracy import accuracy, agreement, compare, per_class
from adabn_cli.measures.confidence import summarise as summarise_confidence
from adabn_cli.measures.divergence import (
    Divergence,
    ModelDivergence,
    histogram_kl_nats,
    model_divergence,
    summarise,
    symmetric_kl_nats,
)
from adabn_cli.measures.scores import Scores
from adabn_cli.moments import SiteMoments
from adabn_cli.normalizers import MATCHED
from adabn_cli.record import (
    ChangePart,
    ClassAccuracyPart,
    ClassPart,
    DivergencePart,
    DivergencesPart,
    ScoresPart,
    SitePart,
    VerdictPart,
)
from adabn_cli.workflows.outcome import Outcome

_Labels = NDArray[np.int64] | None


def scores_part(scores: Scores, labels_N: _Labels) -> ScoresPart:
    """Accuracy where there are labels; confidence and the predicted classes in any case."""
    if not scores.scorable:
        return ScoresPart()
    summary = summarise_confidence(
        scores.predicted_N, scores.confidence_N, scores.entropy_N, scores.n_classes
    )
    found = accuracy(scores.predicted_N, labels_N) if labels_N is not None else None
    return ScoresPart(
        **asdict(summary),
        accuracy=found.value if found else None,
        accuracy_interval=found.interval if found else None,
        correct=found.correct if found else None,
        labeled=found.n if found else 0,
    )


def change_part(before: Scores, after: Scores, labels_N: _Labels) -> ChangePart:
    """After against before, on the same images."""
    if not (before.scorable and after.scorable):
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
    if labels_N is None or not (before.scorable and after.scorable):
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
    if labels_N is None or not scores.scorable:
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
    order = [*outcome.before, *(name for name in sites if name not in outcome.before)]
    kl_before, kl_after = _divergences(outcome, outcome.before), _divergences_after(outcome)
    bins_before = _histogram_divergences(outcome, outcome.before)
    bins_after = _histogram_divergences(outcome, outcome.estimate.measured)
    parts = []
    for name in order:
        after = outcome.estimate.measured.get(name)
        adapted = name in outcome.estimate.installed
        parts.append(
            SitePart(
                name=name,
                kind=sites[name].kind,
                channels=sites[name].channels,
                adapted=adapted,
                reason=None if adapted else _why_not(outcome, name),
                count=after.pixels.count if after else 0,
                dead_channels=int(after.pixels.dead_C.sum()) if after else 0,
                kl_before=_site_divergence(kl_before, outcome.before, name),
                kl_after=_site_divergence(kl_after, outcome.estimate.measured, name),
                standard_error_max=_standard_error(outcome, name, sites[name].eps),
                histogram_kl_before=_site_divergence(bins_before, outcome.before, name),
                histogram_kl_after=_site_divergence(bins_after, outcome.estimate.measured, name),
            )
        )
    return tuple(parts)


def _why_not(outcome: Outcome, name: str) -> str:
    if name not in outcome.before:
        return "no call of it was seen; it keeps its source statistics"
    if name not in select_sites(outcome.installer.model.sites, outcome.installer.adaptation.layers):
        return "left out by --layers"
    if outcome.installer.sites[name].kind in MATCHED:
        return "not in the profile, as the layer that gives the model's output is not"
    return "not in the profile"


def _standard_error(outcome: Outcome, name: str, eps: float) -> float | None:
    """The largest standard error of a mean, in standard deviations of its channel."""
    measured = outcome.estimate.measured.get(name)
    if measured is None or min(measured.images.count, outcome.installer.images) < 2:
        return None
    error_C = measured.standard_error(outcome.installer.images)
    return float((error_C / (measured.pixels.var_C + eps).sqrt()).max())


def divergences_part(outcome: Outcome) -> DivergencesPart:
    """The divergence of the whole model from the source, before and after."""
    before, after = outcome.before, outcome.estimate.measured
    return DivergencesPart(
        before=_model_divergence(_divergences(outcome, before), before),
        after=_model_divergence(_divergences_after(outcome), after),
        histogram_before=_model_divergence(_histogram_divergences(outcome, before), before),
        histogram_after=_model_divergence(_histogram_divergences(outcome, after), after),
    )


def _divergences_after(outcome: Outcome) -> dict[str, Tensor]:
    return _divergences(outcome, outcome.estimate.measured)


def _divergences(outcome: Outcome, measured: Mapping[str, SiteMoments]) -> dict[str, Tensor]:
    """KL of every neuron between source and what was measured, by site, [C] each."""
    source = outcome.installer.source
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
    return None if found.mean is None else DivergencePart(**asdict(found))


def verdict_part(
    scores: ScoresPart, change: ChangePart, held_out: ChangePart | None
) -> VerdictPart:
    """Help or harm where the paired interval of labelled images excludes zero.

    Held-out pictures come first: those that were adapted to are scored transductively. Without
    labels nothing here can tell; target accuracy is not identifiable without assumptions.
    """
    if held_out is not None and held_out.interval is not None:
        return _verdict(held_out, "held-out labels", "labelled held-out images")
    if change.interval is not None:
        return _verdict(change, "labels", "labelled images that it was adapted to")
    reason = "No labels" if scores.n else "The outputs are no class scores (--output picks others)"
    return VerdictPart(
        outcome="cannot tell",
        basis="none",
        sentence=f"{reason}: Whether adapting helped cannot be told from this run.",
    )


def _verdict(
    change: ChangePart, basis: Literal["labels", "held-out labels"], images: str
) -> VerdictPart:
    difference = change.accuracy or 0.0
    low, high = change.interval or (0.0, 0.0)
    outcome: Literal["help", "harm", "cannot tell"] = "cannot tell"
    begin, end = "Too close to tell", ""
    if low > 0:
        outcome, begin = "help", "Adapting helps"
    elif high < 0:
        outcome, begin, end = "harm", "Adapting harms", " Keep the source model."
    return VerdictPart(
        outcome=outcome,
        basis=basis,
        sentence=f"{begin}: accuracy {100 * difference:+.1f} points, 95% interval "
        f"{100 * low:+.1f} to {100 * high:+.1f}, {change.n:,} {images}.{end}",
    )
