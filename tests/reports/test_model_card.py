"""The section of a model card: its parts, and names that stay text."""

from __future__ import annotations

import re

import pytest
from markdown_it import MarkdownIt
from report_cases import CASES, as_it_was, large

from adabn_cli.reports import model_card

_READER = MarkdownIt("commonmark").enable("table")


@pytest.mark.parametrize("case", CASES)
def test_the_card_is_as_it_was(record, case):
    assert as_it_was(model_card.render(CASES[case](record)), f"{case}.card.md")


@pytest.mark.parametrize("case", CASES)
def test_no_name_becomes_markup(record, case):
    text = model_card.render(CASES[case](record))
    tokens = [t for token in _READER.parse(text) for t in (token, *(token.children or ()))]
    tags = {tag for t in tokens if "html" in t.type for tag in re.findall("<[^>]*>", t.content)}
    assert tags <= {"<!-- adabn model card -->", "<code>", "</code>"}
    links = [token.attrs["href"] for token in tokens if token.type == "link_open"]
    assert links == ["https://arxiv.org/abs/1603.04779"]
    assert all(letter.isprintable() or letter == "\n" for letter in text)


def test_the_card_says_where_its_figures_end(record):
    assert "transductive" in model_card.render(record)
    assert "is not known" in model_card.render(CASES["unlabelled"](record))
    told = model_card.render(CASES["estimated"](record))
    assert "**The source model was kept" in told
    assert "it is no measurement" in told


def test_the_card_of_a_large_model_is_short(record):
    assert len(model_card.render(large(record, classes=20_000, sites=5_000))) < 10_000
