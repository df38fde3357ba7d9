"""The tables of a page: rows of text, and strips that draw a row's figures. Knows no template.

Of many rows those that matter most come first, and all follow behind a click.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress

from markupsafe import Markup

from adabn_cli.printable import one_line
from adabn_cli.record import ClassPart, DivergencePart, Record, SitePart
from adabn_cli.renderers import wording
from adabn_cli.renderers.figures import (
    number,
    p_value,
    percent,
    percent_interval,
    points,
    points_interval,
)

_FEW, _ALL_FIT = 12, 24
_ROWS = 1000  # A page of 20,000 rows is none: 6 MB, and nobody reads it.


@dataclass(frozen=True)
class Row:
    """A name, what is noted behind it, and a cell a column. `weight` says how much it matters."""

    name: str
    cells: tuple[str | Markup, ...]
    note: str = ""
    weight: float = 0.0
    strong: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class Table:
    """Columns, the first of which is the rows' name; the `few` are of most weight among `rows`.

    `few` is empty where all fit; `cut` rows are left out.
    """

    columns: tuple[str, ...]
    rows: Sequence[Row]
    few: Sequence[Row] = ()
    cut: int = 0


def _long(columns: tuple[str, ...], rows: Sequence[Row]) -> Table:
    """The heaviest rows, all of them in their own order."""
    heaviest = sorted(range(len(rows)), key=lambda index: rows[index].weight, reverse=True)
    few = heaviest[:_FEW] if len(rows) > _ALL_FIT else []
    kept = heaviest[:_ROWS]
    return Table(
        columns,
        rows=[rows[index] for index in sorted(kept)],
        few=[rows[index] for index in sorted(few)],
        cut=len(rows) - len(kept),
    )


def accuracy_table(record: Record) -> Table:
    """Accuracy with its interval, before and after; no row without labels."""
    rows = []
    for one in wording.comparisons(record):
        sides = [one.before, one.after]
        shares = [percent(side.accuracy) for side in sides]
        intervals = [percent_interval(side.accuracy_interval) for side in sides]
        change = one.change
        rows += [
            Row(one.where, (*shares, points(change.accuracy)), strong=True),
            Row("95% interval", (*intervals, points_interval(change.interval)), quiet=True),
        ]
    return Table(("", "before", "after", "change"), rows)


def class_table(record: Record) -> Table:
    """Every class with labelled images; those whose accuracy changes most matter most."""
    columns = ("class", "images", "before", "after", "change", "", "fixed", "broken", "McNemar")
    return _long(columns, [_class_row(part) for part in record.classes])


def _class_row(part: ClassPart) -> Row:
    change = part.after - part.before
    cells = (
        f"{part.n:,}",
        percent(part.before),
        percent(part.after),
        points(change),
        _change_strip(part.before, part.after),
        f"{part.fixed:,}",
        f"{part.broken:,}",
        p_value(part.mcnemar_p),
    )
    return Row(part.name, cells, weight=abs(change))


def model_divergence_table(record: Record) -> Table:
    """KL over all neurons, before and after; no row where no site was measured."""
    kl = record.kl
    parts = (
        ("before", kl.before),
        ("after", kl.after),
        ("before, of histograms", kl.histogram_before),
        ("after, of histograms", kl.histogram_after),
    )
    rows = [
        Row(name, (number(part.mean), number(part.median), number(part.p95), _largest(part)))
        for name, part in parts
        if part
    ]
    return Table(("KL of all neurons, nats", "mean", "median", "95th percentile", "largest"), rows)


def _largest(part: DivergencePart) -> str:
    if part.max_site is None:
        return number(part.max)
    channel = "" if part.max_channel is None else f", neuron {part.max_channel}"
    return Markup("{} at {}{}").format(number(part.max), _name(part.max_site), channel)


def _name(text: str) -> Markup:
    """A name within a cell, which may be long and run from right to left."""
    return Markup("<bdi>{}</bdi>").format(one_line(text))


def site_table(record: Record) -> Table:
    """Every site in depth order; those with most shift before matter most.

    Columns that are empty at every site are left out.
    """
    columns = [title for title, _ in _SITE_COLUMNS]
    cells = [[cell(site) for _, cell in _SITE_COLUMNS] for site in record.sites]
    filled = [any(row[index] for row in cells) for index in range(len(_SITE_COLUMNS))]
    rows = [
        Row(
            site.name,
            tuple(compress(row, filled)),
            note="" if site.adapted else "not adapted",
            weight=(site.kl_before.mean if site.kl_before else None) or 0.0,
            quiet=not site.adapted,
        )
        for site, row in zip(record.sites, cells, strict=True)
    ]
    return _long(("site", *compress(columns, filled)), rows)


def _of(part: DivergencePart | None, value: Callable[[DivergencePart], float | None]) -> str:
    return "" if part is None else number(value(part))


def _error(site: SitePart) -> str:
    return "" if site.standard_error_max is None else number(site.standard_error_max, 2)


_SITE_COLUMNS: tuple[tuple[str, Callable[[SitePart], str]], ...] = (
    ("kind", lambda site: _name(site.kind)),
    ("neurons", lambda site: f"{site.channels:,}"),
    ("KL before", lambda site: _of(site.kl_before, lambda kl: kl.mean)),
    ("KL after", lambda site: _of(site.kl_after, lambda kl: kl.mean)),
    ("95th after", lambda site: _of(site.kl_after, lambda kl: kl.p95)),
    ("largest after", lambda site: _of(site.kl_after, lambda kl: kl.max)),
    ("histograms before", lambda site: _of(site.histogram_kl_before, lambda kl: kl.mean)),
    ("histograms after", lambda site: _of(site.histogram_kl_after, lambda kl: kl.mean)),
    ("standard error", _error),
    ("dead", lambda site: f"{site.dead_channels:,}" if site.dead_channels else ""),
)


def confidence_table(record: Record) -> Table:
    """Mean confidence and entropy, before and after."""
    before, after = record.before, record.after
    rows = [
        Row("mean confidence", (number(before.confidence_mean), number(after.confidence_mean))),
        Row("mean entropy, nats", (number(before.entropy_mean), number(after.entropy_mean))),
    ]
    if before.not_finite or after.not_finite:
        counts = (f"{before.not_finite:,}", f"{after.not_finite:,}")
        rows.append(Row("images whose outputs are no numbers", counts))
    return Table(("on the target", "before", "after"), rows)


def predicted_table(record: Record) -> Table:
    """How often each class was predicted, beside its labelled images where they are known."""
    names = wording.class_names(record)
    sides = (record.before.predicted_histogram, record.after.predicted_histogram)
    known = {part.name: part.n for part in record.classes} if len(set(names)) == len(names) else {}
    columns = ("predicted class", *(["labelled"] if known else []), "before", "after", "")
    if not all(sides):
        return Table(columns, ())
    most = max(*sides[0], *sides[1], 1)
    rows = [
        Row(
            name,
            (
                *([f"{known.get(name, 0):,}"] if known else []),
                f"{before:,}",
                f"{after:,}",
                _bars(before / most, after / most),
            ),
            weight=abs(after - before),
        )
        for name, before, after in zip(names, *sides, strict=True)
    ]
    return _long(columns, rows)


def gate_table(record: Record) -> Table:
    """Each gate with its value, its limit and its n."""
    rows = [
        Row(
            gate.expression,
            (
                number(gate.value),
                number(gate.limit),
                "–" if gate.n is None else f"{gate.n:,}",
                Markup('<b class="{}">{}</b>').format(gate.status.replace(" ", "-"), gate.status),
            ),
        )
        for gate in record.gates
    ]
    return Table(("gate", "value", "limit", "n", "status"), rows)


def _change_strip(before: float, after: float) -> Markup:
    """From a hollow point to a filled one, on a line from 0 to 100%."""
    x, y = f"{100 * before:.1f}", f"{100 * after:.1f}"
    return Markup(
        '<svg class="strip" viewBox="-4 0 108 10" width="108" aria-hidden="true">'
        '<path d="M0 5H100" style="stroke: var(--line, #d0d7de)"/>'
        '<path d="M{0} 5H{1}" style="stroke: var(--after, #0969da); stroke-width: 2"/>'
        '<circle cx="{0}" cy="5" r="3" style="fill: var(--paper, #fff); '
        'stroke: var(--before, #b35900); stroke-width: 1.5"/>'
        '<circle cx="{1}" cy="5" r="3.4" style="fill: var(--after, #0969da)"/></svg>'
    ).format(x, y)


def _bars(before: float, after: float) -> Markup:
    """A hollow bar above a filled one, as shares of the longest."""
    return Markup(
        '<svg class="strip" viewBox="-1 0 102 14" width="108" aria-hidden="true">'
        '<rect y="1" width="{}" height="5" style="fill: none; stroke: var(--before, #b35900)"/>'
        '<rect y="8" width="{}" height="5.5" style="fill: var(--after, #0969da)"/></svg>'
    ).format(f"{100 * before:.1f}", f"{100 * after:.1f}")
