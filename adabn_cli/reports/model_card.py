"""A run as a section of a model card: what was adapted, to what, figures, limits. Knows no file.

A part of a card, whose front matter, title and license are the model's own.
"""

from __future__ import annotations

from adabn_cli.record import Record
from adabn_cli.reports.markdown_text import name, prose, table
from adabn_cli.reports.words.figures import count, number, percent, percent_interval, points
from adabn_cli.reports.words.subject import about
from adabn_cli.reports.words.task import figure_rows, rests_on
from adabn_cli.reports.words.wording import (
    KEPT_SOURCE,
    TRANSDUCTIVE,
    comparisons,
    estimate_told,
    gates_told,
    paired,
    sample_size_told,
    signals,
    signals_sentence,
    warned,
)

_LINES = 10
_METHOD = (
    "The statistics of the model's normalization layers were measured anew on unlabelled pictures "
    "of the target; no weight was trained. After Li et al., "
    "[Revisiting Batch Normalization For Practical Domain Adaptation]"
    "(https://arxiv.org/abs/1603.04779)."
)
_LIMITS = (
    "It is meant for pictures of this target. On others, those that it was trained for among them, "
    "it may be worse than the model it was made from; the pack that came with it is taken out "
    "again with `adabn apply --revert`."
)


def render(record: Record) -> str:
    """The section, from its heading of second level on."""
    parts = [
        "<!-- adabn model card -->\n## Domain adaptation",
        prose(record.verdict.sentence),
        f"**{KEPT_SOURCE}**" if record.verdict.kept_source else "",
        prose(estimate_told(record)),
        "### What was adapted",
        _METHOD,
        _facts(record),
        "### Figures",
        _figures(record),
        "### Limits",
        _limits(record),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _facts(record: Record) -> str:
    rows = [
        *about(record),
        ("Weights", record.model.weights),
        ("Target's pixels", record.target.fingerprint or ""),
        ("Made by", f"adabn {record.run.versions.get('adabn', '')}, {record.run.started}"),
    ]
    return "\n".join(f"- {title}: {name(text, 160)}" for title, text in rows if text)


def _figures(record: Record) -> str:
    rows, told = [], []
    for one in comparisons(record):
        sides = (one.before, one.after)
        shares = [percent(side.accuracy) for side in sides]
        rows.append((f"accuracy {one.where}", *shares, points(one.change.accuracy)))
        rows.append(("95% interval", *(percent_interval(x.accuracy_interval) for x in sides), ""))
        told.append(f"{one.where.capitalize()}: {prose(paired(one.change))}.")
    rows += [(row.name, row.before, row.after, row.change) for row in figure_rows(record)]
    told.append(prose(rests_on(record)))
    before, after = record.before.calibration, record.after.calibration
    if before is not None and after is not None:
        rows.append(("expected calibration error", number(before.error), number(after.error), ""))
    rows += [
        (one.name, number(one.before), number(one.after), one.change_told)
        for one in signals(record)
    ]
    kl = [side.mean if side else None for side in (record.kl.before, record.kl.after)]
    rows.append(("mean KL, nats", *(number(value) for value in kl), ""))
    told.append(prose(signals_sentence(record)))
    lines = "\n".join(f"- {line}" for line in told if line)
    return table(("", "before", "after", "change"), rows) + (f"\n\n{lines}" if lines else "")


def _limits(record: Record) -> str:
    """Where the figures end: what they were measured on, and what was odd."""
    target = record.target
    lines = [_LIMITS]
    held_against = record.task is not None and record.task.truth is not None
    if record.before.accuracy is not None:
        lines.append(TRANSDUCTIVE)
    elif not held_against and (record.held_out is None or record.held_out.before.accuracy is None):
        lines.append("Without labels, how often the model is right on the target is not known.")
    if record.sample_size is not None:
        lines.append(prose(sample_size_told(record.sample_size, target.images)))
    if target.skipped:
        lines.append(f"{count(len(target.skipped), 'picture')} could not be read.")
    lines += [f"{notice.kind}: {prose(notice.sentence)}" for notice in record.notices[:_LINES]]
    lines += [prose(text) for text in warned(record)[:_LINES]]
    if record.gates:
        lines.append(f"Gates: {gates_told(record.gates)}.")
    return "\n".join(f"- {line}" for line in lines)
