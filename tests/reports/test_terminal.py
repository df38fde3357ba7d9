"""The report on a terminal, held against golden files.

`ADABN_UPDATE_GOLDEN=1 pytest tests/renderers` writes them anew; look at the difference.
"""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import pytest
import report_cases
from rich.console import Console

from adabn_cli.record import (
    DivergencesPart,
    GatePart,
    HeldOutPart,
    Record,
    ResidualPart,
    ScoresPart,
    SkippedPicture,
    VerdictPart,
)
from adabn_cli.reports.terminal import gates
from adabn_cli.reports.terminal import run as terminal

_GOLDEN = Path(__file__).parent / "golden"
_HOSTILE = "\x1b[31mred\x1b[0m [bold]bold[/bold]\r\nnext\u202ekcab\x07" + "long" * 75


def drawn(rendering, width, encoding="utf-8", *, colour=False):
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace")
    console = Console(file=file, width=width, force_terminal=colour, highlight=False)
    console.print(rendering)
    file.flush()
    text = file.buffer.getvalue().decode(encoding)
    return "\n".join(line.rstrip() for line in text.split("\n"))


def _labelled(record):
    return record


def _unlabelled(record):
    sentence = "No labels: whether adapting helped cannot be told from this run."
    nothing = {"accuracy": None, "accuracy_interval": None, "correct": None}
    change = {"accuracy": None, "interval": None, "fixed": None, "broken": None, "mcnemar_p": None}
    return record.model_copy(
        update={
            "target": record.target.model_copy(update={"labels": None, "labeled_images": 0}),
            "before": record.before.model_copy(update=nothing),
            "after": record.after.model_copy(update=nothing),
            "change": record.change.model_copy(update=change),
            "verdict": VerdictPart(outcome="cannot tell", basis="none", sentence=sentence),
        }
    )


def _harmed(record):
    sentence = (
        "Adapting harms: accuracy -3.3 points, 95% interval -5.6 to -1.1, 1,000 labelled images. "
        "Keep the source model."
    )
    return record.model_copy(
        update={"verdict": VerdictPart(outcome="harm", basis="labels", sentence=sentence)}
    )


def _deep(record):
    first = record.sites[0]
    sites = [
        first.model_copy(
            update={
                "name": f"layer{index // 50 + 1}.{index % 50}.bn1",
                "channels": 64 * (index // 50 + 1),
                "dead_channels": 3 if index == 7 else 0,
                "kl_before": first.kl_before.model_copy(update={"mean": (index * 37 % 200) / 50}),
            }
        )
        for index in range(200)
    ]
    sites[199] = sites[199].model_copy(
        update={"adapted": False, "reason": "no picture reached it; it keeps its source statistics"}
    )
    return record.model_copy(update={"sites": tuple(sites)})


def _noticed(record):
    skipped = [SkippedPicture(path=f"3/{n}.png", reason="cut off") for n in range(1200)]
    return record.model_copy(
        update={
            "target": record.target.model_copy(
                update={"skipped": tuple(skipped), "subsample": {"of": 3000, "seed": 0}}
            ),
            "held_out": HeldOutPart(
                path="sample_data/held_out",
                images=record.target.images,
                before=record.before,
                after=record.after,
                change=record.change,
            ),
            "residual": ResidualPart(max_mean=2.4e-8, max_log_variance=1.2e-7, site="13"),
            "warnings": ("The first site (1) sees a shift of 5.1 nats, but only 0.2 with X.",),
            "model": record.model.model_copy(update={"trusted_pickle": True}),
        }
    )


def _hostile(record):
    site = record.sites[0].model_copy(
        update={"name": _HOSTILE, "adapted": False, "reason": _HOSTILE}
    )
    return record.model_copy(
        update={
            "model": record.model.model_copy(
                update={"path": _HOSTILE, "architecture": "[red]net[/red]"}
            ),
            "target": record.target.model_copy(
                update={
                    "path": "עברית/" + _HOSTILE,
                    "skipped": (SkippedPicture(path=_HOSTILE, reason=_HOSTILE),),
                }
            ),
            "sites": (site, *record.sites[1:]),
            "warnings": (_HOSTILE,),
            "run": record.run.model_copy(update={"folder": _HOSTILE}),
        }
    )


def _unscored(record):
    nothing = ScoresPart()
    return _unlabelled(record).model_copy(
        update={
            "before": nothing,
            "after": nothing,
            "change": type(record.change)(),
            "kl": DivergencesPart(before=None, after=None),
        }
    )


_CASES = {
    "labelled": _labelled,
    "unlabelled": _unlabelled,
    "harmed": _harmed,
    "deep": _deep,
    "noticed": _noticed,
    "hostile": _hostile,
    "unscored": _unscored,
    "whole": report_cases.whole,
    "estimated": report_cases.estimated,
    "everything_hostile": report_cases.hostile,
}


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("case", _CASES)
def test_the_report_is_as_it_was(record: Record, case, width):
    text = drawn(terminal.render(_CASES[case](record)), width)
    assert max(len(line) for line in text.splitlines()) <= width
    golden = _GOLDEN / f"{case}_{width}.txt"
    if os.environ.get("ADABN_UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("case", _CASES)
def test_no_name_reaches_the_terminal_unescaped(record, case):
    text = drawn(terminal.render(_CASES[case](record)), 80)
    assert all(letter.isprintable() or letter == "\n" for letter in text)
    if case == "hostile":
        assert "[bold]bold[/bold]" in text.replace("\n", "").replace(" ", "") or "[bold]" in text


def test_every_site_is_shown_where_asked(record):
    few, every = (drawn(terminal.render(_deep(record), sites=s), 80) for s in ("few", "all"))
    rows = [len(re.findall(r"^layer\d\.\d+\.bn1 ", text, re.M)) for text in (few, every)]
    assert rows == [5, 200]
    assert "195 more sites" in few
    assert "layer1.0.bn1" in few, "the first site is always there"


def test_ascii_streams_get_ascii_lines(record):
    text = drawn(terminal.render(report_cases.whole(record)), 80, "ascii")
    assert "Adapting helps" in text
    bars = [line for line in text.splitlines() if line.startswith(("confidence ", "KL by"))]
    assert len(bars) == 2
    assert all(line.isascii() and "?" not in line for line in bars)
    assert text.isascii()


@pytest.mark.parametrize("case", ["labelled", "unlabelled", "harmed"])
def test_an_ordinary_run_is_one_screen_of_80_columns(record, case):
    text = drawn(terminal.render(_CASES[case](record)), 80)
    assert len(text.rstrip("\n").splitlines()) <= 30


def test_the_farthest_neuron_is_told_with_every_site(record):
    record = report_cases.whole(record)
    assert "farthest neuron" not in drawn(terminal.render(record), 80)
    assert "farthest neuron" in drawn(terminal.render(record, sites="all"), 80)


def test_gates_show_value_limit_n_and_why(record):
    parts = [
        GatePart(expression="collapse", value=0.1, limit=0.5, n=1797, status="passed"),
        GatePart(expression="accuracy_drop>0.5pp", value=0.02, limit=0.005, n=9, status="failed"),
        GatePart(
            expression="residual>1e-3",
            value=None,
            limit=1e-3,
            n=None,
            status="cannot tell",
            reason="not measured: run with --verify",
        ),
    ]
    text = drawn(gates.render(parts), 60)
    golden = _GOLDEN / "gates_60.txt"
    if os.environ.get("ADABN_UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")
