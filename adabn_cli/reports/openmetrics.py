"""A run's figures as OpenMetrics text, for dashboards. Knows no file and no server.

Names carry their unit: ratio (a fraction), nats, seconds, bytes. A figure that the record does not
hold is left out: no sample is not zero. https://prometheus.io/docs/specs/om/open_metrics_spec/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from adabn_cli.record import ChangePart, DivergencePart, Record, ScoresPart
from adabn_cli.text import one_line

_Labels = Mapping[str, str]
_PHASES = ("before", "after")
_OUTCOMES = ("help", "harm", "cannot tell")
_NOTICES = ("single class", "few pictures", "near-duplicates", "collapse")
_STATUSES = ("passed", "failed", "cannot tell")


@dataclass
class _Metric:
    """A family of samples; `unit` is the end of its name where it has one."""

    name: str
    told: str
    unit: str = ""
    kind: str = "gauge"
    samples: list[tuple[_Labels, float]] = field(default_factory=list)

    def add(self, value: float | None, **labels: str) -> None:
        if value is not None:
            self.samples.append((labels, value))

    def add_state(self, states: Iterable[str], held: str, **labels: str) -> None:
        for state in states:
            self.add(float(state == held), **labels, **{self.name: state})

    def lines(self, common: _Labels) -> Iterable[str]:
        if not self.samples:
            return
        yield f"# TYPE {self.name} {self.kind}"
        if self.unit:
            yield f"# UNIT {self.name} {self.unit}"
        yield f"# HELP {self.name} {self.told}"
        suffix = "_info" if self.kind == "info" else ""
        for labels, value in self.samples:
            yield f"{self.name}{suffix}{{{_text({**common, **labels})}}} {value!r}"


def _text(labels: _Labels) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(value: str) -> str:
    """One line first, so what is left to escape are backslashes and quotes."""
    return one_line(value).replace("\\", "\\\\").replace('"', '\\"')


def render(record: Record) -> str:
    """Every figure of the record, labelled with model and target; ends with `# EOF`."""
    common = {
        "model": record.model.path or "live module",
        "target": record.target.path or record.target.kind,
    }
    metrics = [
        *_about(record),
        *_scores(record),
        *_signals(record),
        *_changes(record),
        *_tasks(record),
        *_divergences(record),
        *_judgements(record),
    ]
    lines = [line for metric in metrics for line in metric.lines(common)]
    return "\n".join([*lines, "# EOF"]) + "\n"


def _about(record: Record) -> list[_Metric]:
    model, run, target = record.model, record.run, record.target
    info = _Metric("adabn_run", "What was adapted, and with what.", kind="info")
    info.add(
        1,
        architecture=model.architecture,
        engine=record.method.engine,
        weights=model.weights,
        target_fingerprint=target.fingerprint or "",
        version=run.versions.get("adabn", ""),
    )
    images = _Metric("adabn_target_images", "Pictures that were adapted to.")
    images.add(target.images)
    skipped = _Metric("adabn_skipped_images", "Pictures that could not be read.")
    skipped.add(len(target.skipped))
    sites = _Metric("adabn_sites", "Sites by whether they were adapted.")
    adapted = sum(site.adapted for site in record.sites)
    sites.add(adapted, adapted="yes")
    sites.add(len(record.sites) - adapted, adapted="no")
    started = _Metric("adabn_run_started_timestamp_seconds", "When it began.", "seconds")
    started.add(_unix_seconds(run.started))
    took = _Metric("adabn_run_seconds", "How long it took.", "seconds")
    took.add(run.seconds)
    memory = _Metric("adabn_run_peak_memory_bytes", "Memory at most.", "bytes")
    memory.add(run.peak_memory_bytes)
    return [info, images, skipped, sites, started, took, memory]


def _unix_seconds(started: str) -> float | None:
    """Seconds since 1970; None where no time zone says which second it was."""
    try:
        moment = datetime.fromisoformat(started)
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo else None


def _scored(record: Record) -> list[tuple[str, tuple[ScoresPart, ScoresPart], ChangePart]]:
    scored = [("target", (record.before, record.after), record.change)]
    if record.held_out is not None:
        held_out = record.held_out
        scored.append(("held out", (held_out.before, held_out.after), held_out.change))
    return scored


def _scores(record: Record) -> list[_Metric]:
    accuracy = _Metric("adabn_accuracy_ratio", "Share of labelled pictures got right.", "ratio")
    bound = _Metric("adabn_accuracy_bound_ratio", "95% Wilson interval of accuracy.", "ratio")
    confidence = _Metric("adabn_confidence_mean_ratio", "Mean of the largest probability.", "ratio")
    entropy = _Metric("adabn_entropy_mean_nats", "Mean entropy of the predictions.", "nats")
    for pictures, sides, _ in _scored(record):
        for phase, scores in zip(_PHASES, sides, strict=True):
            labels = {"pictures": pictures, "phase": phase}
            accuracy.add(scores.accuracy, **labels)
            for name, value in zip(("low", "high"), scores.accuracy_interval or (), strict=False):
                bound.add(value, bound=name, **labels)
            confidence.add(scores.confidence_mean, **labels)
            entropy.add(scores.entropy_mean, **labels)
    return [accuracy, bound, confidence, entropy]


def _signals(record: Record) -> list[_Metric]:
    """What is beside accuracy and confidence: calibration, diversity, a profile's estimates."""
    top5 = _Metric("adabn_top5_accuracy_ratio", "Labels among the five likeliest.", "ratio")
    ece = _Metric("adabn_expected_calibration_error_ratio", "Confidence less accuracy.", "ratio")
    information = _Metric("adabn_mutual_information_nats", "Of picture and prediction.", "nats")
    classes = _Metric("adabn_effective_classes", "How diverse the predictions are.")
    share = _Metric("adabn_estimated_right_ratio", "Right by a profile, no measurement.", "ratio")
    for pictures, sides, _ in _scored(record):
        for phase, scores in zip(_PHASES, sides, strict=True):
            labels = {"pictures": pictures, "phase": phase}
            top5.add(scores.top5_accuracy, **labels)
            ece.add(scores.calibration.error if scores.calibration else None, **labels)
            information.add(scores.mutual_information, **labels)
            classes.add(scores.effective_classes, **labels)
            if scores.estimated_accuracy is not None:
                share.add(scores.estimated_accuracy.atc, estimate="atc", **labels)
                share.add(scores.estimated_accuracy.doc, estimate="doc", **labels)
    return [top5, ece, information, classes, share]


def _changes(record: Record) -> list[_Metric]:
    change = _Metric("adabn_accuracy_change_ratio", "Accuracy after less before.", "ratio")
    bound = _Metric("adabn_accuracy_change_bound_ratio", "Its paired 95% interval.", "ratio")
    paired = _Metric("adabn_labelled_images", "Pictures that accuracy rests on.")
    fixed = _Metric("adabn_fixed_images", "Pictures that went from wrong to right.")
    broken = _Metric("adabn_broken_images", "Pictures that went from right to wrong.")
    same = _Metric("adabn_agreement_ratio", "Share of predictions that stayed.", "ratio")
    for pictures, _, part in _scored(record):
        change.add(part.accuracy, pictures=pictures)
        for name, value in zip(("low", "high"), part.interval or (), strict=False):
            bound.add(value, pictures=pictures, bound=name)
        paired.add(part.n, pictures=pictures)
        fixed.add(part.fixed, pictures=pictures)
        broken.add(part.broken, pictures=pictures)
        same.add(part.agreement, pictures=pictures)
    return [change, bound, paired, fixed, broken, same]


def _tasks(record: Record) -> list[_Metric]:
    """Figures of maps, labels and numbers, by their name."""
    figure = _Metric("adabn_task_figure", "What takes the place of accuracy; shares are of 1.")
    bound = _Metric("adabn_task_change_bound", "The paired 95% interval of its difference.")
    images = _Metric("adabn_task_images", "Pictures that have masks, labels or numbers.")
    for part in record.task.figures if record.task else ():
        figure.add(part.before, figure=part.name, phase="before")
        figure.add(part.after, figure=part.name, phase="after")
        for name, value in zip(("low", "high"), part.interval or (), strict=False):
            bound.add(value, figure=part.name, bound=name)
    images.add(record.task.n if record.task else None)
    return [figure, bound, images]


def _divergences(record: Record) -> list[_Metric]:
    whole = _Metric("adabn_kl_nats", "Symmetric KL over all neurons, target to source.", "nats")
    for phase, part in zip(_PHASES, (record.kl.before, record.kl.after), strict=True):
        _add_divergence(whole, part, ("mean", "median", "p95", "max"), phase=phase)
    binned = _Metric("adabn_histogram_kl_nats", "The same of histograms on the profile.", "nats")
    sides = (record.kl.histogram_before, record.kl.histogram_after)
    for phase, part in zip(_PHASES, sides, strict=True):
        _add_divergence(binned, part, ("mean", "median", "p95", "max"), phase=phase)
    by_site = _Metric("adabn_site_kl_nats", "Symmetric KL over the neurons of a site.", "nats")
    dead = _Metric("adabn_site_dead_neurons", "Neurons that never varied on the target.")
    for index, site in enumerate(record.sites):
        labels = {"site": site.name, "depth": str(index)}
        for phase, part in zip(_PHASES, (site.kl_before, site.kl_after), strict=True):
            _add_divergence(by_site, part, ("mean", "p95"), phase=phase, **labels)
        dead.add(site.dead_channels, **labels)
    return [whole, binned, by_site, dead]


def _add_divergence(
    metric: _Metric, part: DivergencePart | None, statistics: tuple[str, ...], **labels: str
) -> None:
    for statistic in statistics if part else ():
        metric.add(getattr(part, statistic), statistic=statistic, **labels)


def _judgements(record: Record) -> list[_Metric]:
    residual = _Metric("adabn_residual", "What an independent pass finds besides the statistics.")
    if record.residual is not None:
        residual.add(record.residual.max_mean, statistic="mean")
        residual.add(record.residual.max_log_variance, statistic="log variance")
    verdict = _Metric("adabn_verdict", "Whether adapting helped.", kind="stateset")
    verdict.add_state(_OUTCOMES, record.verdict.outcome, basis=record.verdict.basis)
    gain = _Metric("adabn_estimated_gain_ratio", "Gain by a profile, no measurement.", "ratio")
    if (estimate := record.verdict.estimate) is not None:
        gain.add(estimate.gain, teacher=estimate.teacher)
    kept = _Metric("adabn_kept_source", "1 where the run's model is the source model.")
    kept.add(float(record.verdict.kept_source))
    notices = _Metric("adabn_notices", "What is odd about the target, by kind.")
    for kind in _NOTICES:
        notices.add(sum(notice.kind == kind for notice in record.notices), kind=kind)
    enough = _Metric("adabn_enough_images", "From how many pictures on all means are known.")
    enough.add(record.sample_size.enough if record.sample_size else None)
    return [residual, verdict, gain, kept, notices, enough, *_gates(record)]


def _gates(record: Record) -> list[_Metric]:
    status = _Metric("adabn_gate", "Each gate that was asked for.", kind="stateset")
    asked = _Metric("adabn_gate_asked", "Of each gate what else is to be said.", kind="info")
    values = _Metric("adabn_gate_value", "What each gate's measure was.")
    limits = _Metric("adabn_gate_limit", "What each gate's measure was compared with.")
    images = _Metric("adabn_gate_images", "Pictures that each gate rests on.")
    for gate in {(gate.expression, gate.level): gate for gate in record.gates}.values():
        labels = {"gate": gate.expression, "level": gate.level}
        status.add_state(_STATUSES, gate.status, **labels)
        asked.add(1, **labels, measure=gate.measure, reason=gate.reason or "")
        values.add(gate.value, **labels)
        limits.add(gate.limit, **labels)
        images.add(gate.n, **labels)
    return [status, asked, values, limits, images]
