"""Runs side by side, and a baseline beneath a run, whatever their names and gaps are."""

from __future__ import annotations

from io import StringIO

import pytest
from report_cases import CASES, HOSTILE, hostile, labelled, noticed, unlabelled, unscored
from rich.console import Console

from adabn_cli.record import BaselineChangePart, BaselinePart
from adabn_cli.reports.terminal import baseline, comparison


def drawn(rendering, width=80):
    stream = StringIO()
    Console(file=stream, width=width, force_terminal=False).print(rendering)
    return stream.getvalue()


@pytest.mark.parametrize("case", CASES)
def test_each_kind_of_run_stands_beside_a_labelled_one(record, case):
    runs = [labelled(record), CASES[case](record)]
    text = drawn(comparison.render(runs, [HOSTILE]))
    assert max(map(len, text.splitlines())) <= 80
    assert "accuracy after" in text
    assert comparison.render_markdown(runs, [HOSTILE]).count("| accuracy after |") == 1


def test_rows_that_no_run_has_are_left_out_and_gaps_are_told(record):
    alone = drawn(comparison.render([unlabelled(record), unscored(record)], []))
    assert "accuracy" not in alone
    beside = drawn(comparison.render([labelled(record), unlabelled(record)], []))
    (row,) = [line for line in beside.splitlines() if line.startswith("accuracy after")]
    assert row.split() == ["accuracy", "after", "84.6%", "–"]


def test_a_gate_that_one_run_lacks_is_a_gap(record):
    runs = [noticed(record), labelled(record)]
    (row,) = [
        line for line in drawn(comparison.render(runs, [])).splitlines() if "collapse" in line
    ]
    assert row.split() == ["collapse", "passed", "–"]
    assert "| `collapse` | passed | – |" in comparison.render_markdown(runs, [])


def test_hostile_names_are_shown_and_not_obeyed(record):
    runs = [hostile(record), hostile(record)]
    text = drawn(comparison.render(runs, [HOSTILE]))
    page = comparison.render_markdown(runs, [HOSTILE])
    for shown in (text, page):
        assert not set("\x1b\r\u202e") & set(shown)
    assert "<script>" not in page.replace("\\<", "")  # Escaped, it is no tag.


def test_a_baseline_tells_then_now_and_the_change(record):
    part = BaselinePart(
        path=HOSTILE,
        started="2026-11-23T20:00:00+00:00",
        changes=(
            BaselineChangePart(measure="accuracy_after", baseline=0.8, now=0.85),
            BaselineChangePart(measure="kl_after_mean", baseline=0.3, now=0.3 + 1e-11),
            BaselineChangePart(measure="ece_after", baseline=None, now=0.05),
        ),
        differences=("other classes",),
        varied=("other weights",),
    )
    text = drawn(baseline.render(part))
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if "_" in line[:20]}
    assert rows["accuracy_after"] == ["80.0%", "85.0%", "+5.0", "pp"]
    assert rows["kl_after_mean"] == ["0.3", "0.3", "+0"]
    assert rows["ece_after"] == ["–", "5.0%", "–"]
    assert "not the same: other classes" in text
    assert "other weights" in text
    assert "\x1b" not in text
