"""Markdown: short whatever the model, and names stay text in any reader."""

from __future__ import annotations

import re

import pytest
from markdown_it import MarkdownIt
from report_cases import CASES, GATES, HOSTILE, as_it_was, large

from adabn_cli.reports import markdown
from adabn_cli.reports.markdown_text import name, prose
from adabn_cli.text import one_line

_READER = MarkdownIt("commonmark").enable("table")
_OURS = {"<details>", "<summary>", "</summary>", "</details>", "<code>", "</code>"}


def _tokens(text):
    for token in _READER.parse(text):
        yield token
        yield from token.children or ()


@pytest.mark.parametrize("case", CASES)
def test_the_markdown_is_as_it_was(record, case):
    assert as_it_was(markdown.render(CASES[case](record)), f"{case}.md")


def test_the_largest_model_fits_into_a_comment(record):
    record = large(record, classes=20_000, sites=5_000, name=HOSTILE)
    hostile = {"expression": HOSTILE, "reason": HOSTILE}
    gates = tuple(gate.model_copy(update=hostile) for gate in GATES)
    record = record.model_copy(update={"warnings": (HOSTILE * 9,) * 500, "gates": gates * 300})
    text = markdown.render(record)
    assert len(text.encode()) < 65_536
    assert "more section" not in text
    for cut in ("19,975 more classes", "4,975 more sites", "19,990 more pictures"):
        assert f"{cut} not shown here" in text
    assert "875 more gates not shown here" in text
    assert "491 more warnings not shown here" in text


def test_what_still_does_not_fit_is_counted(record):
    record = large(record, classes=100, sites=100, name="|" * 80)
    wide = {"expression": "|" * 80, "reason": "|" * 500}
    gates = tuple(gate.model_copy(update=wide) for gate in GATES)
    record = record.model_copy(update={"gates": gates * 30, "warnings": ("|" * 500,) * 10})
    text = markdown.render(record)
    assert len(text.encode()) < 65_536
    assert re.search(r"\n\n[1-4] more sections? not shown here\.\n$", text)


@pytest.mark.parametrize("case", CASES)
def test_no_name_becomes_markup(record, case):
    text = markdown.render(CASES[case](record))
    html = [token.content for token in _tokens(text) if token.type.startswith("html")]
    tags = {tag for content in html for tag in re.findall(r"<[^>]*>", content)}
    assert {tag for tag in tags if not tag.startswith("<!-- adabn report: ")} <= _OURS
    assert not [token for token in _tokens(text) if token.type in ("link_open", "image")]
    assert all(letter.isprintable() or letter == "\n" for letter in text)


@pytest.mark.parametrize("case", CASES)
def test_every_row_has_the_columns_of_its_table(record, case):
    columns = 0
    for token in _tokens(markdown.render(CASES[case](record))):
        if token.type == "thead_open":
            columns = 0
        columns += token.type == "th_open"
        if token.type == "tr_open":
            cells = 0
        elif token.type in ("td_open", "th_open"):
            cells += 1
        elif token.type == "tr_close":
            assert cells == columns


@pytest.mark.parametrize(
    "text",
    ["plain.bn1", "a|b", "a`b", "``", "\\|", "a\\", " edge ", "", "<b>", "עברית|", "a&amp;b|", "*"],
)
def test_a_name_reads_as_it_is_in_a_table(text):
    table = f"| {name(text)} | x |\n| :-- | --: |\n"
    shown = re.sub(r"<thead>.*?<th[^>]*>(.*?)</th>.*", r"\1", _READER.render(table), flags=re.S)
    shown = re.sub(r".*<code>(.*)</code>.*", r"\1", shown, flags=re.S)
    for entity, letter in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        shown = shown.replace(entity, letter)
    assert shown == text


@pytest.mark.parametrize("text", ["@all", "#12", "www.evil.example", "http://x", "a@b.example"])
def test_prose_mentions_nobody_and_links_nowhere(text):
    assert "\u200b" in _READER.render(prose(text)).replace("&#8203;", "\u200b")


def test_prose_reads_as_it_is():
    text = "a *b* _c_ [d](e) `f` <g> & &lt; ~h~ $i$ | \\ p < 0.001"
    shown = _READER.render(prose(text))
    for entity, letter in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
        shown = shown.replace(entity, letter)
    assert shown.strip() == f"<p>{text}</p>"


def test_the_marker_is_of_the_model_and_the_target_alone(record):
    first = markdown.render(record).splitlines()[0]
    assert first == "<!-- adabn report: digits_bn.pt on target -->"
    again = CASES["unlabelled"](record)
    assert markdown.render(again).startswith(first)
    other = record.model_copy(update={"model": record.model.model_copy(update={"path": "b.pt"})})
    assert not markdown.render(other).startswith(first)
    assert markdown.marker(CASES["hostile"](record)).count("--") == 2


def test_names_are_cut_in_their_middle():
    shown = name("folder/" + "x" * 300 + "/cat.png")
    assert len(shown) == 82
    assert shown.startswith("`folder/")
    assert shown.endswith("/cat.png`")
    assert one_line("…") == "…"
