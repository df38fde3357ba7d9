"""Sparklines: a letter a figure, and ASCII where there is no Unicode."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from adabn_cli.reports.terminal.sparkline import Sparkline, pooled


def _drawn(figures, most, encoding):
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    Console(file=file, width=60).print(Sparkline(figures, most))
    file.flush()
    return file.buffer.getvalue().decode(encoding).rstrip("\n")


@pytest.mark.parametrize(
    ("encoding", "drawn"), [("utf-8", "▁▂▅█ █"), ("ascii", "_.=# #"), ("latin-1", "_.=# #")]
)
def test_the_largest_is_full_and_what_is_unknown_is_blank(encoding, drawn):
    assert _drawn([0.0, 0.1, 0.5, 1.0, None, 2.0], 1.0, encoding) == drawn


def test_all_zeros_are_a_flat_line():
    assert _drawn([0.0, 0.0], 0.0, "utf-8") == "▁▁"


def test_neighbours_are_pooled_and_none_is_lost():
    assert pooled([1.0, 2.0, 3.0, None, None], 3, sum) == [1.0, 5.0, None]
    assert pooled([1.0, 2.0], 9, max) == [1.0, 2.0]
    assert pooled([], 9, max) == []
    assert sum(pooled(range(1, 201), 16, sum)) == 200 * 201 / 2
