"""A run as one page that opens anywhere: no script, no network, no other file. Knows no file.

Names come from disk and from checkpoints: all text is put on one line and escaped, and the page
itself forbids scripts and requests, so that a mistake here would show and not run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from adabn_cli.record import Record
from adabn_cli.reports.html import (
    judgement_tables,
    score_charts,
    score_tables,
    site_charts,
    site_tables,
)
from adabn_cli.reports.html.drawing import require_matplotlib
from adabn_cli.reports.words import figures, subject, task, wording
from adabn_cli.text import one_line

_SKIPPED = 200
_NOTHING: Mapping[str, bytes] = {}
_NAMESPACES = {
    "figures": figures,
    "judgement_tables": judgement_tables,
    "score_charts": score_charts,
    "score_tables": score_tables,
    "site_charts": site_charts,
    "site_tables": site_tables,
    "subject": subject,
    "task": task,
    "words": wording,
}


def render(record: Record, thumbnails: Mapping[str, bytes] = _NOTHING) -> str:
    """The page, in the order an engineer looks: verdict, scores, classes, sites, the small print.

    `thumbnails` are small PNG or JPEG files by the path of a broken picture. Raises UsageError
    where matplotlib is not installed.
    """
    require_matplotlib()
    page = _environment().get_template("report.html.jinja")
    return page.render(
        record=record, skipped=record.target.skipped[:_SKIPPED], thumbnails=thumbnails
    )


def _environment() -> Environment:
    """Templates in which every value is put on one line and escaped, and a missing one raises."""
    environment = Environment(
        loader=PackageLoader("adabn_cli.reports.html", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_on_one_line,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(_NAMESPACES)
    return environment


def _on_one_line(value: Any) -> Any:
    """Text from a record without control characters; markup of our own as it is."""
    return one_line(value) if isinstance(value, str) and not hasattr(value, "__html__") else value
