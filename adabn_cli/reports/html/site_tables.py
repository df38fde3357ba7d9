"""The tables of what the sites saw: divergence, shift, sampling error."""

from __future__ import annotations

from collections.abc import Callable
from itertools import compress

from markupsafe import Markup

from adabn_cli.record import DivergencePart, Record, SitePart
from adabn_cli.reports.html.site_charts import NAMED
from adabn_cli.reports.html.tables import Row, Table, long_table, name_cell
from adabn_cli.reports.words.figures import number
from adabn_cli.reports.words.shifts import farthest, neurons


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
    return Markup("{} at {}{}").format(number(part.max), name_cell(part.max_site), channel)


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
    return long_table(("site", *compress(columns, filled)), rows)


def _of(part: DivergencePart | None, value: Callable[[DivergencePart], float | None]) -> str:
    return "" if part is None else number(value(part))


def _error(site: SitePart) -> str:
    return "" if site.standard_error_max is None else number(site.standard_error_max, 2)


_SITE_COLUMNS: tuple[tuple[str, Callable[[SitePart], str]], ...] = (
    ("kind", lambda site: name_cell(site.kind)),
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


def shift_table(record: Record) -> Table:
    """The neurons that lie farthest out, numbered as in the chart."""
    rows = [
        Row(
            one.site,
            (
                str(place),
                f"{one.channel:,}",
                f"{one.mean:+.3g}",
                f"{one.log_variance_ratio:+.3g}",
                number(one.kl_nats),
            ),
        )
        for place, one in enumerate(farthest(neurons(record), NAMED), start=1)
    ]
    return Table(("site", "number", "neuron", "mean", "log variance ratio", "KL, nats"), rows)


def sample_size_table(record: Record) -> Table:
    """The numbers of the sample size chart: the worst site's standard error."""
    part = record.sample_size
    pairs = zip(part.images, part.errors, strict=False) if part else ()
    rows = [Row(f"{images:,}", (number(error, 2),)) for images, error in pairs]
    return Table(("pictures", "standard error"), rows)
