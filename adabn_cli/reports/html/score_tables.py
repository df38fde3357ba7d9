"""The tables of what was predicted: accuracy, classes, signals, calibration, broken pictures."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping

from markupsafe import Markup

from adabn_cli.record import BrokenPicturePart, CalibrationPart, ClassPart, Record
from adabn_cli.reports.html.tables import (
    Row,
    Table,
    bars,
    change_strip,
    long_table,
    name_cell,
)
from adabn_cli.reports.words import subject, wording
from adabn_cli.reports.words.figures import (
    number,
    p_value,
    percent,
    percent_interval,
    points,
    points_interval,
)
from adabn_cli.reports.words.task import OF_A_CLASS, figure_rows, written

_PNG = b"\x89PNG"


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
        if one.before.top5_accuracy is not None and one.after.top5_accuracy is not None:
            shares = [percent(side.top5_accuracy) for side in sides]
            difference = one.after.top5_accuracy - one.before.top5_accuracy
            rows.append(Row("label among the five likeliest", (*shares, points(difference))))
    return Table(("", "before", "after", "change"), rows)


def task_table(record: Record) -> Table:
    """The figures of maps, labels and numbers, with the interval of each difference."""
    rows = []
    for row in figure_rows(record):
        rows.append(Row(row.name, (row.before, row.after, row.change), strong=True))
        if row.interval:
            rows.append(Row("95% interval", ("", "", row.interval), quiet=True))
    return Table(("on the target", "before", "after", "change"), rows)


def task_class_table(record: Record) -> Table:
    """Every class, label or number that the truth holds."""
    if record.task is None:
        return Table((), ())
    of = OF_A_CLASS[record.task.task]
    rows = [
        Row(
            one.name,
            (f"{one.n:,}", written(record.task, one.before), written(record.task, one.after)),
            weight=abs((one.after or 0.0) - (one.before or 0.0)),
        )
        for one in record.task.classes
    ]
    return long_table(("class", "pictures", f"{of} before", f"{of} after"), rows)


def class_table(record: Record) -> Table:
    """Every class with labelled images; those whose accuracy changes most matter most."""
    columns = ("class", "images", "before", "after", "change", "", "fixed", "broken", "McNemar")
    return long_table(columns, [_class_row(part) for part in record.classes])


def _class_row(part: ClassPart) -> Row:
    change = part.after - part.before
    cells = (
        f"{part.n:,}",
        percent(part.before),
        percent(part.after),
        points(change),
        change_strip(part.before, part.after),
        f"{part.fixed:,}",
        f"{part.broken:,}",
        p_value(part.mcnemar_p),
    )
    return Row(part.name, cells, weight=abs(change))


def signal_table(record: Record) -> Table:
    """What the predictions say without labels, before and after, and what a profile makes of it."""
    before, after = record.before, record.after
    rows = [
        Row(one.name, (number(one.before), number(one.after), one.change_told))
        for one in wording.signals(record)
    ]
    rows += [
        Row(one.name, (percent(one.before), percent(one.after), points(one.change)))
        for one in wording.estimated_shares(record)
    ]
    if before.not_finite or after.not_finite:
        counts = (f"{before.not_finite:,}", f"{after.not_finite:,}", "")
        rows.append(Row("images whose outputs are not numbers", counts))
    return Table(("on the target", "before", "after", "change"), rows)


def confidence_table(record: Record) -> Table:
    """The numbers of the confidence chart: a row a bin."""
    sides = (record.before.confidence_histogram, record.after.confidence_histogram)
    width = 100 / max(len(sides[0]), 1)
    rows = [
        Row(_bin(place, width), (f"{before:,}", f"{after:,}"))
        for place, (before, after) in enumerate(zip(*sides, strict=False))
    ]
    return Table(("confidence", "before", "after"), rows)


def _bin(place: int, width: float) -> str:
    return f"{place * width:.0f}–{(place + 1) * width:.0f}%"


def predicted_table(record: Record) -> Table:
    """How often each class was predicted, beside its labelled images where they are known."""
    sides = (record.before.predicted_histogram, record.after.predicted_histogram)
    names = subject.class_names(record, max(map(len, sides)))
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
                bars(before / most, after / most),
            ),
            weight=abs(after - before),
        )
        for name, before, after in zip(names, *sides, strict=True)
    ]
    return long_table(columns, rows)


def calibration_table(record: Record) -> Table:
    """The expected calibration error before and after; no row without labels."""
    before, after = record.before.calibration, record.after.calibration
    rows = []
    if before is not None and after is not None:
        change = f"{after.error - before.error:+.3g}"
        rows = [
            Row("expected calibration error", (number(before.error), number(after.error), change))
        ]
    return Table(("", "before", "after", "change"), rows)


def reliability_table(record: Record) -> Table:
    """The numbers of the reliability diagram: a row a bin that holds pictures."""
    before, after = record.before.calibration, record.after.calibration
    sides = ("before", "after")
    named = [f"{what} {side}" for side in sides for what in ("pictures", "sure", "right")]
    columns = ("confidence", *named)
    if before is None or after is None:
        return Table(columns, ())
    width = 100 / max(len(before.counts), 1)
    rows = [
        Row(_bin(place, width), (*_bin_cells(before, place), *_bin_cells(after, place)))
        for place in range(min(len(before.counts), len(after.counts)))
        if before.counts[place] or after.counts[place]
    ]
    return Table(columns, rows)


def _bin_cells(part: CalibrationPart, place: int) -> tuple[str, str, str]:
    n = part.counts[place]
    if not n:
        return ("0", "–", "–")
    sure, right = part.confidence_sums[place] / n, part.correct[place] / n
    return (f"{n:,}", percent(sure), percent(right))


def broken_table(record: Record, thumbnails: Mapping[str, bytes]) -> Table:
    """The pictures that went from right to wrong, the adapted model's surest first."""
    columns = ("picture", "label", "taken for", "confidence before", "confidence after")
    rows = [
        Row(
            part.path,
            (
                *([_thumbnail(thumbnails.get(part.path))] if thumbnails else []),
                name_cell(part.label),
                name_cell(part.predicted),
                percent(part.confidence_before),
                percent(part.confidence_after),
            ),
        )
        for part in _surest(record)
    ]
    return Table((columns[0], *([""] if thumbnails else []), *columns[1:]), rows)


def _surest(record: Record) -> list[BrokenPicturePart]:
    return sorted(record.broken, key=lambda part: -part.confidence_after)


def _thumbnail(picture: bytes | None) -> Markup:
    """The picture within the page; its path stands beside it, so it has no words of its own."""
    if picture is None:
        return Markup("")
    kind = "png" if picture.startswith(_PNG) else "jpeg"
    source = f"data:image/{kind};base64,{b64encode(picture).decode()}"
    return Markup('<img class="thumbnail" alt="" src="{}">').format(source)
