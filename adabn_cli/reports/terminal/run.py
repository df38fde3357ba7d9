"""A record on a terminal: the story of a run on one screen. Fits 60 columns and more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from adabn_cli.record import (
    DivergencePart,
    HeldOutPart,
    Record,
    ResidualPart,
    ScoresPart,
    SitePart,
)
from adabn_cli.reports.terminal.sparkline import Sparkline, pooled
from adabn_cli.reports.terminal.tables import facts, figures, marked, note, plain
from adabn_cli.reports.words.figures import (
    count,
    number,
    p_value,
    percent,
    percent_interval,
    points,
    points_interval,
)
from adabn_cli.reports.words.shifts import farthest, neurons
from adabn_cli.reports.words.subject import intake_facts, labels, method, profile, subsample
from adabn_cli.reports.words.task import OF_A_CLASS, figure_rows, rests_on, written
from adabn_cli.reports.words.wording import (
    KEPT_SOURCE,
    estimate_told,
    estimated_shares,
    sample_size_told,
    signals,
    signals_sentence,
    warned,
)
from adabn_cli.text import one_line

_STYLES = {"help": "bold green", "harm": "bold red", "cannot tell": "bold yellow"}
_SITES_SHOWN = 5
_BROKEN_SHOWN = 3
_CLASSES_SHOWN = 3
_SPARKS = 16  # Two of them and their names take 60 columns.


def render(record: Record, *, sites: Literal["few", "all"] = "few") -> RenderableType:
    """What a person needs to decide: verdict, scores, divergence by site, what was noticed."""
    parts: list[RenderableType] = [*_verdict(record), Text(), _about(record), Text()]
    parts += [*_scores(record), Text()]
    if record.held_out is not None:
        parts += [*_held_out(record.held_out), Text()]
    parts += [
        *_sparklines(record),
        *_sites(record, every=sites == "all"),
        *_statistics(record, every=sites == "all"),
    ]
    warnings = [marked("warning", warning) for warning in _warnings(record)]
    parts += [Text(), *warnings] if warnings else []
    if record.run.folder:
        parts += [*([Text()] if warnings else []), plain(f"run: {record.run.folder}")]
    return Group(*parts)


def _verdict(record: Record) -> Iterable[RenderableType]:
    """The verdict and all that makes it more or less than it seems."""
    verdict = record.verdict
    told, colon, figures_of_it = verdict.sentence.partition(":")
    # Coloured up to the colon, and on one line: figures of a sentence are no names.
    yield Text.assemble((one_line(told + colon), _STYLES[verdict.outcome]), one_line(figures_of_it))
    if verdict.kept_source:
        yield plain(KEPT_SOURCE, "bold red")
    if verdict.estimate is not None:
        yield plain(estimate_told(record))
    yield from (marked(notice.kind, notice.sentence) for notice in record.notices)
    if record.before.n and record.before.accuracy is None:
        yield plain(signals_sentence(record))


def _about(record: Record) -> Table:
    """What was adapted to what, two columns."""
    model, target = record.model, record.target
    adapted = sum(site.adapted for site in record.sites)
    architecture = f"{model.architecture} ({model.architecture_source})"
    pictures = f"{count(target.images, 'picture')}{subsample(record)}, {labels(record)}"
    rows = [
        ("model", f"{model.path or 'live module'}, {architecture}"),
        ("sites", f"{adapted} of {len(record.sites)} adapted{_fixed(record)}"),
        ("target", f"{target.path or target.kind}, {pictures}"),
        *((name.lower(), text) for name, text in intake_facts(target)),
        ("input", _input(record)),
        ("method", method(record)),
        ("profile", profile(record)),
    ]
    return facts(rows)


def _fixed(record: Record) -> str:
    fixed = record.model.fixed_layers
    return f"; {count(len(fixed), 'layer')} with nothing to adapt" if fixed else ""


def _input(record: Record) -> str:
    p = record.model.preprocessing
    if p is None:
        return ""
    size = f"{p.size[0]} px" if p.size[0] == p.size[1] else f"{p.size[0]}x{p.size[1]} px"
    numbers = [",".join(f"{value:.4g}" for value in values) for values in (p.mean, p.std)]
    kind = "gray" if len(p.mean) == 1 else "RGB"
    crop = "" if p.crop_pct == 1 else f", crop {p.crop_pct:.3g}"
    crop += ", fast decode" if p.fast_decode else ""
    return f"{size} {kind}{crop}, mean {numbers[0]}, std {numbers[1]} ({p.source})"


def _scores(record: Record) -> list[RenderableType]:
    """Before, after and change of what matters most: of accuracy where it is known."""
    table = figures("on the target", "before", "after", "change")
    before, after, change = record.before, record.after, record.change
    shown = signals(record)
    scored = before.accuracy is not None or after.accuracy is not None
    if scored:
        _add_accuracy(table, before, after, points(change.accuracy))
        if before.calibration and after.calibration:
            errors = (before.calibration.error, after.calibration.error)
            _add_numbers(table, "calibration error", *errors)
        shown = shown[:1]
    for row in figure_rows(record):
        table.add_row(row.name, row.before, row.after, row.change)
        if row.interval:
            table.add_row(Text("  95% interval", "dim"), "", "", Text(row.interval, "dim"))
    for signal in shown:
        _add_numbers(table, signal.name, signal.before, signal.after)
    for signal in estimated_shares(record)[: 0 if scored else 1]:
        shares = (percent(signal.before), percent(signal.after), points(signal.change))
        table.add_row(signal.name, *shares)
    kl = [side.mean if side else None for side in (record.kl.before, record.kl.after)]
    _add_numbers(table, "mean KL, nats", *kl)
    if record.kl.histogram_before and record.kl.histogram_after:
        histograms = (record.kl.histogram_before.mean, record.kl.histogram_after.mean)
        _add_numbers(table, "  of histograms", *histograms)
    if change.fixed is not None:
        return [table, *_changed_sides(record)]
    return [table, *_classes_of_task(record)]


def _classes_of_task(record: Record) -> Iterable[RenderableType]:
    """The classes, labels or numbers whose figure changes most, and what the figures rest on."""
    task = record.task
    if task is None:
        return
    moved = sorted(task.classes, key=lambda one: -abs((one.after or 0.0) - (one.before or 0.0)))[
        :_CLASSES_SHOWN
    ]
    if moved:
        told = (
            f"{one.name} {written(task, one.before)} to {written(task, one.after)}" for one in moved
        )
        yield note(f"{OF_A_CLASS[task.task]} that changes most: {', '.join(told)}")
    if told_of := rests_on(record):
        yield note(told_of, "dim")


def _changed_sides(record: Record) -> Iterable[RenderableType]:
    """The pictures that were fixed and broken, and the surest mistakes among these."""
    change = record.change
    yield note(
        f"{change.fixed:,} fixed, {change.broken:,} broken (McNemar {p_value(change.mcnemar_p)}); "
        f"paired interval {points_interval(change.interval)}"
    )
    yield note("scored on the pictures that were adapted to (transductive)", "dim")
    worst = sorted(record.broken, key=lambda part: -part.confidence_after)[:_BROKEN_SHOWN]
    if worst:
        told = (
            f"{part.path} ({part.label} as {part.predicted}, {percent(part.confidence_after, 0)})"
            for part in worst
        )
        yield note(f"surest mistakes: {', '.join(told)}")


def _add_accuracy(table: Table, before: ScoresPart, after: ScoresPart, change: str) -> None:
    table.add_row("accuracy", percent(before.accuracy), percent(after.accuracy), change)
    intervals = [percent_interval(side.accuracy_interval) for side in (before, after)]
    table.add_row(Text("  95% interval", "dim"), *(Text(text, "dim") for text in intervals), "")


def _sparklines(record: Record) -> Iterable[RenderableType]:
    """Confidences and KL in depth as bars, before and after to the same scale."""
    grid = Table.grid(padding=(0, 1))
    histograms = (record.before.confidence_histogram, record.after.confidence_histogram)
    if all(histograms):
        bars = [pooled(counts, len(counts) // 2, sum) for counts in histograms]
        _add_sparklines(grid, "confidence", bars)
    divergences = [
        [kl.mean if kl else None for kl in side]
        for side in (
            [site.kl_before for site in record.sites],
            [site.kl_after for site in record.sites],
        )
    ]
    if len(record.sites) > 1 and all(any(side) for side in divergences):
        bars = [pooled(side, _SPARKS, max) for side in divergences]
        _add_sparklines(grid, "KL by depth", bars)
    if grid.rows:
        yield grid


def _add_sparklines(grid: Table, name: str, sides: Sequence[Sequence[float | None]]) -> None:
    most = max(figure or 0.0 for side in sides for figure in side)
    before, after = (Sparkline(side, most) for side in sides)
    grid.add_row(name, Text("before", "dim"), before, Text("after", "dim"), after)


def _add_numbers(table: Table, name: str, before: float | None, after: float | None) -> None:
    change = "" if before is None or after is None else f"{after - before:+.3g}"
    table.add_row(name, number(before), number(after), change)


def _held_out(held_out: HeldOutPart) -> list[RenderableType]:
    """The same on pictures that were not adapted to."""
    change = held_out.change
    if held_out.before.accuracy is None and held_out.after.accuracy is None:
        return [marked("held out", f"{held_out.path} has no labels, so nothing to score")]
    table = figures("held out", "before", "after", "change")
    _add_accuracy(table, held_out.before, held_out.after, points(change.accuracy))
    if change.fixed is None:
        return [table, note(f"{held_out.path}: before and after cannot be compared")]
    told = (
        f"{held_out.path}: {change.fixed:,} fixed, {change.broken:,} broken of {change.n:,}; "
        f"paired 95% interval {points_interval(change.interval)}"
    )
    return [table, note(told)]


def _sites(record: Record, *, every: bool) -> list[RenderableType]:
    """Divergence by site in depth order; the largest ones where not all fit."""
    shown = list(record.sites) if every else _few(record.sites)
    dead = any(site.dead_channels for site in shown)
    columns = ("neurons", "mean KL before", "after", "95th pct", *(["dead"] if dead else []))
    table = figures("site, by depth", *columns)
    for site in shown:
        after = site.kl_after
        values = [f"{site.channels:,}", _mean(site.kl_before), _mean(after)]
        values += [number(after.p95 if after else None)]
        values += [str(site.dead_channels or "")] if dead else []
        name = plain(site.name) if site.adapted else plain(f"{site.name} (not adapted)", "dim")
        table.add_row(name, *values)
    parts: list[RenderableType] = [table]
    if len(shown) < len(record.sites):
        more = count(len(record.sites) - len(shown), "more site")
        parts.append(note(f"{more} with less shift: adabn report --sites", "dim"))
    return [*parts, *_left_out(record.sites)]


def _statistics(record: Record, *, every: bool) -> Iterable[RenderableType]:
    """What the installed statistics are worth; with every site the farthest neuron too."""
    for one in farthest(neurons(record), 1) if every else ():
        yield note(
            f"farthest neuron: {one.channel} of {one.site}, mean {one.mean:+.3g} standard "
            f"deviations, log variance ratio {one.log_variance_ratio:+.3g}"
        )
    if record.sample_size is not None:
        yield note(sample_size_told(record.sample_size, record.target.images))
    if record.residual is not None:
        yield _residual(record.residual)


def _left_out(sites: Iterable[SitePart]) -> list[RenderableType]:
    """Which sites were not adapted and why, a line a reason."""
    by_reason: dict[str, list[str]] = {}
    for site in sites:
        if site.reason:
            by_reason.setdefault(site.reason, []).append(site.name)
    return [
        note(
            f"not adapted: {', '.join(names[:3])}"
            + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
            + f" ({reason})",
            "yellow",
        )
        for reason, names in by_reason.items()
    ]


def _few(sites: Iterable[SitePart]) -> list[SitePart]:
    """The first site and those with the largest shift before, in depth order."""
    ordered = list(sites)

    def weight(index: int) -> tuple[bool, float]:
        kl = ordered[index].kl_before
        return index == 0, (kl.mean or 0.0) if kl else -1.0

    chosen = sorted(range(len(ordered)), key=weight, reverse=True)[:_SITES_SHOWN]
    return [ordered[index] for index in sorted(chosen)]


def _mean(divergence: DivergencePart | None) -> str:
    return number(divergence.mean if divergence else None)


def _residual(residual: ResidualPart) -> RenderableType:
    return note(
        f"residual: means off by {number(residual.max_mean, 2)} standard deviations, "
        f"log variances by {number(residual.max_log_variance, 2)} (worst at {residual.site})"
    )


def _warnings(record: Record) -> Iterable[str]:
    yield from warned(record)
    skipped = record.target.skipped
    if skipped:
        first = "; ".join(f"{picture.path}: {picture.reason}" for picture in skipped[:3])
        more = f"; and {len(skipped) - 3:,} more in run.json" if len(skipped) > 3 else ""
        yield f"{count(len(skipped), 'picture')} could not be read: {first}{more}."
