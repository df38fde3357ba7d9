"""The page: what it holds, that it asks nobody for anything, and that names stay text."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from adabn_cli.errors import UsageError
from adabn_cli.printable import one_line
from adabn_cli.renderers import html, html_charts

sys.path.insert(0, str(Path(__file__).parent))
from report_cases import CASES, HOSTILE, as_it_was, large, noticed, unlabelled, unscored

_VOID = {"meta", "link"}


class _Page(HTMLParser):
    """Elements, attributes and text of a page; raises where a tag is not closed in its order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.attributes, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += attrs
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(params=CASES)
def page(request, record):
    return _Page(html.render(CASES[request.param](record)))


@pytest.mark.parametrize("case", CASES)
def test_the_page_is_as_it_was(record, case):
    text = html.render(CASES[case](record))
    # Another matplotlib draws the charts with other bytes, and the style is no text.
    text = re.sub(r'<svg class="chart".*?</svg>', '<svg class="chart"></svg>', text)
    text = re.sub(r"<style>.*?</style>", "<style></style>", text, flags=re.DOTALL)
    assert as_it_was(text, f"{case}.html")


def test_a_page_asks_nobody_for_anything(page):
    assert not {"script", "iframe", "object", "img", "base", "form"} & set(page.elements)
    for name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "xlink:href"):
            assert value.startswith("#") or value == "data:,"
        elif name == "style":
            assert "url(" not in value.replace("url(#", "")


def test_every_link_leads_somewhere_and_no_id_is_there_twice(page):
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    links = {value[1:] for name, value in page.attributes if "href" in name and "#" in value}
    clips = {value[5:-1] for name, value in page.attributes if name == "clip-path"}
    assert links | clips <= set(ids)


def test_hostile_names_are_text(record):
    harmless = _Page(html.render(noticed(record)))
    page = _Page(html.render(CASES["hostile"](record)))
    assert set(page.elements) <= set(harmless.elements)
    assert page.text.count(one_line(HOSTILE)) > 12


def test_no_character_of_a_name_turns_the_page_around(record):
    text = html.render(CASES["hostile"](record))
    assert all(letter.isprintable() or letter == "\n" for letter in text)


def test_the_page_forbids_scripts_and_requests(record):
    assert "default-src 'none'" in html.render(record)


def test_every_number_of_a_chart_is_in_the_text_too(record):
    page = _Page(html.render(record))
    cells = page.text.split()
    for side in (record.before, record.after):
        assert f"{100 * side.accuracy:.1f}%" in cells
    for site in record.sites:
        assert f"{site.kl_before.mean:.3g}" in cells
        assert f"{site.kl_after.mean:.3g}" in cells


def test_what_the_record_does_not_hold_is_left_out(record):
    text = html.render(unscored(record))
    assert '<svg class="chart"' not in text
    for absent in ("Class by class", 'id="gates"', 'id="warnings"', 'id="skipped"', "Residual"):
        assert absent not in text
    assert "No labels, so accuracy is not known" in text
    assert "Class by class" not in html.render(unlabelled(record))


@pytest.mark.parametrize("classes", [50, 20_000])
def test_many_classes_and_skipped_pictures_stay_under_3_megabytes(record, classes):
    text = html.render(large(record, classes=classes))
    assert len(text.encode()) < 3_000_000
    page = _Page(text)
    assert "The 12 sites of most shift before" in page.text
    assert "200 sites" in page.text
    assert "20,000 pictures could not be read; the first 200 are named here" in page.text
    assert ("19,000 more classes in run.json" in page.text) == (classes == 20_000)


def test_the_same_record_gives_the_same_bytes_whatever_matplotlibrc_says(record):
    import matplotlib

    first = html.render(record)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.hashsalt": "x"}):
        assert html.render(record) == first


def test_charts_follow_the_page_into_the_dark(record):
    for chart in (html_charts.accuracy_chart(record), html_charts.divergence_chart(record)):
        assert not re.findall(r"#(?!1f2328|d0d7de|b35900|0969da)[0-9a-f]{6}\b", chart.svg)
        assert "var(--ink, #1f2328)" in chart.svg
        assert "<style" not in chart.svg
        assert "<text" in chart.svg


def test_charts_hold_gaps_zeros_and_a_single_site(record):
    site = record.sites[0]
    zero = site.model_copy(
        update={"kl_before": site.kl_before.model_copy(update={"mean": 0.0}), "kl_after": None}
    )
    for sites in ((zero,), (zero, site), (site, zero.model_copy(update={"kl_before": None}))):
        chart = html_charts.divergence_chart(record.model_copy(update={"sites": sites}))
        assert "nan" not in chart.svg


def test_without_matplotlib_the_page_says_what_to_install(record, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError) as raised:
        html.render(record)
    assert 'pip install "adabn[report]"' in raised.value.hint
