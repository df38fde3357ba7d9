"""A run as Markdown, for a job's summary and a comment on a pull request. Knows no file.

Rows, names and sentences are cut, and each cut says how much was left out: a comment on GitHub
holds 65,536 characters at most.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import TypeVar

from adabn_cli.record import ClassPart, Record, SitePart, TaskPart
from adabn_cli.reports.markdown_text import folded, name, prose, table
from adabn_cli.reports.terminal.baseline import told
from adabn_cli.reports.words.figures import (
    count,
    number,
    p_value,
    percent,
    percent_interval,
    points,
)
from adabn_cli.reports.words.shifts import farthest, neurons, spread_told
from adabn_cli.reports.words.subject import about
from adabn_cli.reports.words.task import OF_A_CLASS, figure_rows, rests_on, written
from adabn_cli.reports.words.wording import (
    FIRST_SITE,
    KEPT_SOURCE,
    TRANSDUCTIVE,
    comparisons,
    estimate_rests_on,
    estimate_told,
    estimated_shares,
    estimated_shares_told,
    gate_status,
    gates_told,
    left_out,
    paired,
    residual,
    sample_size_told,
    signals,
    signals_sentence,
    warned,
)

_BYTES = 65_000
_ROWS = 25
_LINES = 10
_Part = TypeVar("_Part", ClassPart, SitePart)


def render(record: Record) -> str:
    """Verdict, gates and accuracy in sight; classes, sites and settings behind a click.

    The first line is `marker(record)`, by which a later run finds the comment to update.
    """
    parts = [
        marker(record),
        f"## {prose(record.verdict.sentence)}",
        _verdict(record),
        _about(record),
        _gates(record),
        _baseline(record),
        _scores(record),
        _warnings(record),
        _classes(record.classes),
        _classes_of_task(record.task),
        _sites(record),
        _neurons(record),
        _broken(record),
        _skipped(record),
        _fingerprints(record),
    ]
    return _joined(*_fitting(parts)) + "\n"


def _fitting(parts: Sequence[str]) -> list[str]:
    """The sections that fit into a comment, and how many did not."""
    fitting, room = [], _BYTES
    for part in parts:
        if len(part.encode()) + 2 <= room:
            room -= len(part.encode()) + 2
            fitting.append(part)
    return [*fitting, _more(len(parts) - len(fitting), "more section")]


def marker(record: Record) -> str:
    """A hidden comment that is the same in every run of this model file on this target."""
    model, target = record.model.path or "live", record.target.path or record.target.kind
    words = [re.sub(r"[^A-Za-z0-9.]+", "_", PurePath(path).name)[:60] for path in (model, target)]
    return f"<!-- adabn report: {' on '.join(words)} -->"


def _verdict(record: Record) -> str:
    """What makes the verdict more or less than it seems."""
    parts = [
        f"**{KEPT_SOURCE}**" if record.verdict.kept_source else "",
        prose(f"{estimate_told(record)} {estimate_rests_on(record)}".strip()),
        *(f"> **{notice.kind}**: {prose(notice.sentence)}" for notice in record.notices[:_LINES]),
    ]
    return _joined(*parts)


def _about(record: Record) -> str:
    facts = [f"{key} {name(text, 160)}" for key, text in about(record) if text]
    return " · ".join(facts)


def _gates(record: Record) -> str:
    gates = record.gates
    if not gates:
        return ""
    rows = [
        (
            name(gate.expression),
            number(gate.value),
            number(gate.limit),
            f"{gate.n:,}" if gate.n is not None else "–",
            gate.status if gate.status == "passed" else f"**{gate_status(gate)}**",
        )
        for gate in gates[:_ROWS]
    ]
    reasons = [
        f"- {name(gate.expression)}: {prose(gate.reason, 160)}"
        for gate in gates[:_ROWS]
        if gate.reason
    ]
    parts = [
        f"### Gates: {gates_told(gates)}",
        table(("gate", "value", "limit", "n", "status"), rows),
        "\n".join(reasons),
        _more(len(gates) - _ROWS, "more gate"),
    ]
    return _joined(*parts)


def _baseline(record: Record) -> str:
    baseline = record.baseline
    if baseline is None:
        return ""
    rows = [(name(change.measure), *told(change)) for change in baseline.changes[:_ROWS]]
    lines = [f"- Not the same: {prose(text)}" for text in baseline.differences[:_LINES]]
    lines += [f"- What else differs: {prose(text)}" for text in baseline.varied[:_LINES]]
    parts = [
        f"### Since {name(baseline.path)} of {prose(baseline.started)}",
        table(("", "baseline", "now", "change"), rows) if rows else "",
        "\n".join(lines),
        _more(len(baseline.changes) - _ROWS, "more measure"),
    ]
    return _joined(*parts)


def _scores(record: Record) -> str:
    rows, sentences = [], []
    for one in comparisons(record):
        sides = (one.before, one.after)
        change = points(one.change.accuracy)
        rows.append((f"accuracy {one.where}", *(percent(s.accuracy) for s in sides), change))
        intervals = [percent_interval(s.accuracy_interval) for s in sides]
        rows.append(("95% interval", *intervals, ""))
        sentences.append(f"{one.where.capitalize()}: {prose(paired(one.change))}.")
    for row in figure_rows(record):
        rows.append((row.name, row.before, row.after, row.change))
        if row.interval:
            rows.append(("95% interval", "", "", row.interval))
    calibration = (record.before.calibration, record.after.calibration)
    if all(calibration):
        errors = [number(part.error if part else None) for part in calibration]
        rows.append(("expected calibration error", *errors, ""))
    rows += [(x.name, number(x.before), number(x.after), x.change_told) for x in signals(record)]
    rows += [
        (x.name, percent(x.before), percent(x.after), points(x.change))
        for x in estimated_shares(record)
    ]
    for statistic in ("mean", "median"):
        kl = [getattr(side, statistic, None) for side in (record.kl.before, record.kl.after)]
        rows.append((f"{statistic} KL, nats", *(number(value) for value in kl), ""))
    histograms = (record.kl.histogram_before, record.kl.histogram_after)
    if all(histograms):
        means = [number(side.mean if side else None) for side in histograms]
        rows.append(("mean KL of histograms, nats", *means, ""))
    sentences += [prose(rests_on(record)), signals_sentence(record), estimated_shares_told(record)]
    if record.before.accuracy is not None:
        sentences.append(TRANSDUCTIVE)
    lines = "\n".join(f"- {line}" for line in sentences if line)
    return _joined(table(("", "before", "after", "change"), rows), lines)


def _warnings(record: Record) -> str:
    warnings = warned(record)
    lines = [f"> - {prose(text)}" for text in warnings[:_LINES]]
    more = _more(len(warnings) - _LINES, "more warning")
    return "\n".join(["> [!WARNING]", *lines, *([f"> - {more}"] if more else [])]) if lines else ""


def _classes_of_task(task: TaskPart | None) -> str:
    if task is None or not task.classes:
        return ""
    shown = task.classes[:_ROWS]
    rows = [
        (name(one.name), f"{one.n:,}", written(task, one.before), written(task, one.after))
        for one in shown
    ]
    columns = ("class", "pictures", *(f"{OF_A_CLASS[task.task]} {x}" for x in ("before", "after")))
    more = _more(len(task.classes) - _ROWS, "more class", "more classes")
    return folded("Class by class", _joined(table(columns, rows), more))


def _classes(classes: Sequence[ClassPart]) -> str:
    if not classes:
        return ""
    shown = _first(classes, lambda part: abs(part.after - part.before))
    rows = [
        (
            name(part.name),
            f"{part.n:,}",
            percent(part.before),
            percent(part.after),
            points(part.after - part.before),
            f"{part.fixed:,} / {part.broken:,}",
            p_value(part.mcnemar_p),
        )
        for part in shown
    ]
    columns = ("class", "n", "before", "after", "change", "fixed / broken", "McNemar, Holm")
    cut = _more(len(classes) - len(shown), "more class", "more classes")
    return folded(count(len(classes), "class", "classes"), _joined(table(columns, rows), cut))


def _sites(record: Record) -> str:
    shown = _first(record.sites, lambda site: (site.kl_before and site.kl_before.mean) or 0.0)
    rows = [
        (
            name(site.name),
            f"{site.channels:,}",
            *(number(part.mean if part else None) for part in (site.kl_before, site.kl_after)),
            number(site.kl_after.p95 if site.kl_after else None),
            str(site.dead_channels),
        )
        for site in shown
    ]
    columns = ("site, by depth", "neurons", "KL before", "KL after", "95th pct", "dead")
    reasons = left_out(record.sites)
    lines = [
        f"- Not adapted: {name(names[0])}"
        + (f" and {len(names) - 1:,} more" if len(names) > 1 else "")
        + f" ({prose(reason)})"
        for reason, names in reasons[:_LINES]
    ]
    if record.residual is not None:
        lines.append(f"- Residual: {prose(residual(record.residual))}")
    cut = _more(len(record.sites) - len(shown), "more site")
    text = _joined(table(columns, rows), cut, FIRST_SITE, "\n".join(lines))
    return folded(f"KL at {count(len(record.sites), 'site')}", text)


def _neurons(record: Record) -> str:
    """The neurons that lie farthest out, and whether the pictures are enough."""
    found = neurons(record)
    rows = [
        (
            name(one.site),
            f"{one.channel:,}",
            f"{one.mean:+.3g}",
            f"{one.log_variance_ratio:+.3g}",
            number(one.kl_nats),
        )
        for one in farthest(found, _LINES)
    ]
    size = record.sample_size
    parts = [
        prose(sample_size_told(size, record.target.images)) if size else "",
        spread_told(found) if found else "",
        table(("site", "neuron", "mean", "log variance ratio", "KL"), rows) if rows else "",
    ]
    text = _joined(*parts)
    return folded("Farthest neurons and number of pictures", text) if text else ""


def _broken(record: Record) -> str:
    surest = sorted(record.broken, key=lambda part: -part.confidence_after)
    if not surest:
        return ""
    rows = [
        (
            name(part.path),
            name(part.label),
            name(part.predicted),
            percent(part.confidence_before),
            percent(part.confidence_after),
        )
        for part in surest[:_LINES]
    ]
    columns = ("picture", "label", "taken for", "confidence before", "confidence after")
    cut = _more(len(surest) - _LINES, "more picture")
    return folded("Worst broken pictures", _joined(table(columns, rows), cut))


def _skipped(record: Record) -> str:
    skipped = record.target.skipped
    if not skipped:
        return ""
    lines = [
        f"- {name(picture.path)}: {prose(picture.reason, 160)}" for picture in skipped[:_LINES]
    ]
    text = _joined("\n".join(lines), _more(len(skipped) - _LINES, "more picture"))
    return folded(f"{count(len(skipped), 'picture')} could not be read", text)


def _fingerprints(record: Record) -> str:
    rows = {
        "model file, sha256": record.model.sha256,
        "weights": record.model.weights,
        "target pixels": record.target.fingerprint,
        "adabn": record.run.versions.get("adabn"),
    }
    lines = [f"- {title}: {name(text)}" for title, text in rows.items() if text]
    return folded("Fingerprints", "\n".join(lines))


def _first(parts: Sequence[_Part], weight: Callable[[_Part], float]) -> list[_Part]:
    """Those of most weight, in their own order."""
    heaviest = sorted(range(len(parts)), key=lambda i: weight(parts[i]), reverse=True)[:_ROWS]
    return [parts[index] for index in sorted(heaviest)]


def _more(n: int, noun: str, plural: str | None = None) -> str:
    """What a cut says of itself; "" where nothing was left out."""
    return f"{count(n, noun, plural)} not shown here." if n > 0 else ""


def _joined(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)
