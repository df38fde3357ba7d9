"""A record on a terminal: the story of a run on one screen. Fits 60 columns and more."""

from __future__ import annotations

from collections.abc import Iterable
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
from adabn_cli.renderers.figures import (
    count,
    number,
    p_value,
    percent,
    percent_interval,
    points,
    points_interval,
)
from adabn_cli.renderers.tables import facts, figures, marked, note, plain
from adabn_cli.renderers.wording import labels, method, profile

_STYLES = {"help": "bold green", "harm": "bold red", "cannot tell": "bold yellow"}
_SITES_SHOWN = 12


def render(record: Record, *, sites: Literal["few", "all"] = "few") -> RenderableType:
    """What a person needs to decide: verdict, scores, divergence by site, what was noticed."""
    parts: list[RenderableType] = [_verdict(record), Text(), _about(record), Text()]
    parts += [*_scores(record), Text()]
    if record.held_out is not None:
        parts += [*_held_out(record.held_out), Text()]
    parts += _sites(record, every=sites == "all")
    if record.residual is not None:
        parts.append(_residual(record.residual))
    warnings = [marked("warning", warning) for warning in _warnings(record)]
    parts += [Text(), *warnings] if warnings else []
    if record.run.folder:
        parts += [Text(), plain(f"run: {record.run.folder}")]
    return Group(*parts)


def _verdict(record: Record) -> Text:
    told, colon, figures_of_it = record.verdict.sentence.partition(":")
    return Text.assemble((told + colon, _STYLES[record.verdict.outcome]), figures_of_it)


def _about(record: Record) -> Table:
    """What was adapted to what, two columns."""
    model, target = record.model, record.target
    adapted = sum(site.adapted for site in record.sites)
    rows = [
        ("model", model.path or "live module"),
        ("", f"{model.architecture} ({model.architecture_source})"),
        ("sites", f"{adapted} of {len(record.sites)} adapted{_fixed(record)}"),
        ("target", target.path or target.kind),
        ("", f"{count(target.images, 'picture')}{_subsample(record)}, {labels(record)}"),
        ("input", _input(record)),
        ("method", method(record)),
        ("profile", profile(record)),
    ]
    return facts(rows)


def _fixed(record: Record) -> str:
    fixed = record.model.fixed_layers
    return f"; {count(len(fixed), 'layer')} with nothing to adapt" if fixed else ""


def _subsample(record: Record) -> str:
    drawn = record.target.subsample
    return f" drawn of {drawn['of']:,} (seed {drawn['seed']})" if drawn else ""


def _input(record: Record) -> str:
    p = record.model.preprocessing
    if p is None:
        return ""
    size = f"{p.size[0]} px" if p.size[0] == p.size[1] else f"{p.size[0]}x{p.size[1]} px"
    numbers = [",".join(f"{value:.4g}" for value in values) for values in (p.mean, p.std)]
    kind = "gray" if len(p.mean) == 1 else "RGB"
    crop = "" if p.crop_pct == 1 else f", crop {p.crop_pct:.3g}"
    return f"{size} {kind}{crop}, mean {numbers[0]}, std {numbers[1]} ({p.source})"


def _scores(record: Record) -> list[RenderableType]:
    """Before, after and change of everything that was scored."""
    table = figures("on the target", "before", "after", "change")
    before, after, change = record.before, record.after, record.change
    if before.accuracy is not None:
        _add_accuracy(table, before, after, points(change.accuracy))
    if before.n:
        for name, field in (
            ("mean confidence", "confidence_mean"),
            ("mean entropy (nats)", "entropy_mean"),
        ):
            _add_numbers(table, name, getattr(before, field), getattr(after, field))
    for name, field in (("mean KL (nats)", "mean"), ("median KL (nats)", "median")):
        kl = [getattr(side, field, None) for side in (record.kl.before, record.kl.after)]
        _add_numbers(table, name, *kl)
    if record.kl.histogram_before and record.kl.histogram_after:
        histograms = (record.kl.histogram_before.mean, record.kl.histogram_after.mean)
        _add_numbers(table, "mean histogram KL (nats)", *histograms)
    if change.fixed is not None:
        return [
            table,
            note(
                f"{count(change.fixed, 'picture')} fixed, {change.broken:,} broken "
                f"(McNemar {p_value(change.mcnemar_p)}); "
                f"paired 95% interval {points_interval(change.interval)}"
            ),
            note("scored on the pictures that were adapted to (transductive)", "dim"),
        ]
    if change.agreement is not None:
        return [table, note(f"{percent(change.agreement)} of the predictions stay the same")]
    return [table]


def _add_accuracy(table: Table, before: ScoresPart, after: ScoresPart, change: str) -> None:
    table.add_row("accuracy", percent(before.accuracy), percent(after.accuracy), change)
    intervals = [percent_interval(side.accuracy_interval) for side in (before, after)]
    table.add_row(Text("  95% interval", "dim"), *(Text(text, "dim") for text in intervals), "")


def _add_numbers(table: Table, name: str, before: float | None, after: float | None) -> None:
    change = "" if before is None or after is None else f"{after - before:+.3g}"
    table.add_row(name, number(before), number(after), change)


def _held_out(held_out: HeldOutPart) -> list[RenderableType]:
    """The same on pictures that were not adapted to."""
    change = held_out.change
    if held_out.before.accuracy is None:
        return [marked("held out", f"{held_out.path} has no labels, so nothing to score")]
    table = figures("held out", "before", "after", "change")
    _add_accuracy(table, held_out.before, held_out.after, points(change.accuracy))
    told = (
        f"{held_out.path}: {change.fixed:,} fixed, {change.broken:,} broken of {change.n:,}; "
        f"paired 95% interval {points_interval(change.interval)}"
    )
    return [table, note(told)]


def _sites(record: Record, *, every: bool) -> list[RenderableType]:
    """Divergence by site in depth order; the largest ones where not all fit."""
    shown = list(record.sites) if every else _few(record.sites)
    dead = any(site.dead_channels for site in shown)
    columns = ("neurons", "KL before", "KL after", "95th pct", *(["dead"] if dead else []))
    table = figures("site, by depth", *columns)
    for site in shown:
        after = site.kl_after
        values = [f"{site.channels:,}", _mean(site.kl_before), _mean(after)]
        values += [number(after.p95 if after else None)]
        values += [str(site.dead_channels or "")] if dead else []
        name = plain(site.name) if site.adapted else plain(f"{site.name} (not adapted)", "dim")
        table.add_row(name, *values)
    told = ["KL: mean over neurons, nats. The first site's stays: nothing before it has changed."]
    if len(shown) < len(record.sites):
        more = count(len(record.sites) - len(shown), "more site")
        told.append(f"{more} with less shift: adabn report --sites")
    return [table, *(note(line, "dim") for line in told), *_left_out(record.sites)]


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
    yield from record.warnings
    skipped = record.target.skipped
    if skipped:
        first = "; ".join(f"{picture.path}: {picture.reason}" for picture in skipped[:3])
        more = f"; and {len(skipped) - 3:,} more in run.json" if len(skipped) > 3 else ""
        yield f"{count(len(skipped), 'picture')} could not be read: {first}{more}."
    if record.model.trusted_pickle:
        yield "The checkpoint was loaded as a trusted pickle."
