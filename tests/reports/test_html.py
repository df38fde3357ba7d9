"""The page: what it holds, that it asks nobody for anything, and that names stay text."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from report_cases import CASES, HOSTILE, as_it_was, large, whole

from adabn_cli.errors import UsageError
from adabn_cli.record import SampleSizePart, ShiftPart
from adabn_cli.reports.html import page as html
from adabn_cli.reports.html import score_charts as html_score_charts
from adabn_cli.reports.html import score_tables as html_score_tables
from adabn_cli.reports.html import site_charts as html_site_charts
from adabn_cli.text import one_line

_VOID = {"meta", "link", "img"}
_PNG = b"\x89PNG\r\n\x1a\n and so on"
_RENDERED: dict[str, str] = {}


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


@pytest.fixture
def rendered(record):
    """The page of a case, drawn once for all tests: charts take a second."""

    def render(case):
        if case not in _RENDERED:
            _RENDERED[case] = html.render(CASES[case](record))
        return _RENDERED[case]

    return render


@pytest.fixture(params=CASES)
def page(request, rendered):
    return _Page(rendered(request.param))


@pytest.mark.parametrize("case", CASES)
def test_the_page_is_as_it_was(rendered, case):
    text = rendered(case)
    # Another matplotlib draws the charts with other bytes, and the style is no text.
    text = re.sub(r'<svg class="chart".*?</svg>', '<svg class="chart"></svg>', text)
    text = re.sub(r"<style>.*?</style>", "<style></style>", text, flags=re.DOTALL)
    assert as_it_was(text, f"{case}.html")


def test_a_page_asks_nobody_for_anything(page):
    assert not {"script", "iframe", "object", "base", "form"} & set(page.elements)
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


def test_hostile_names_are_text(rendered):
    harmless = _Page(rendered("whole"))
    page = _Page(rendered("hostile"))
    assert set(page.elements) <= set(harmless.elements)
    assert page.text.count(one_line(HOSTILE)) > 30


def test_no_character_of_a_name_turns_the_page_around(rendered):
    text = rendered("hostile")
    assert all(letter.isprintable() or letter == "\n" for letter in text)


def test_the_page_forbids_scripts_and_requests(rendered):
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in rendered("labelled")


def test_thumbnails_are_within_the_page(record):
    record = CASES["hostile"](record)
    first = record.broken[0].path
    page = _Page(html.render(record, {first: _PNG, "another": b"\xff\xd8\xff"}))
    shown = {value for name, value in page.attributes if name == "src"}
    assert shown == {"data:image/png;base64," + base64.b64encode(_PNG).decode()}
    assert page.elements.count("img") == sum(part.path == first for part in record.broken)
    table = html_score_tables.broken_table(record, {first: b"\xff\xd8\xff"})
    assert "data:image/jpeg;base64," in table.rows[0].cells[0]


def test_every_number_of_a_chart_is_in_the_text_too(record, rendered):
    record = whole(record)
    page = _Page(rendered("whole"))
    cells = page.text.split()
    for counts in (record.before.confidence_histogram, record.after.confidence_histogram):
        assert all(f"{n:,}" in cells for n in counts)
    for part in (record.before.calibration, record.after.calibration):
        assert f"{part.error:.3g}" in cells
        bins = zip(part.counts, part.correct, strict=True)
        assert all(f"{100 * right / n:.1f}%" in cells for n, right in bins if n)
    for images, error in zip(record.sample_size.images, record.sample_size.errors, strict=True):
        assert f"{images:,}" in cells
        assert f"{error:.2g}" in cells
    farthest = max(record.sites[-1].shift.mean[1:])
    assert f"{farthest:+.3g}" in cells
    for side in (record.before, record.after):
        assert f"{100 * side.accuracy:.1f}%" in cells
    for site in record.sites:
        assert f"{site.kl_before.mean:.3g}" in cells
        assert f"{site.kl_after.mean:.3g}" in cells


def test_what_the_record_does_not_hold_is_left_out(rendered):
    text = rendered("unscored")
    assert '<svg class="chart"' not in text
    for absent in ("Calibration", "Statistics against", "neuron by neuron", 'id="broken"'):
        assert absent not in text
    for absent in ("Class by class", 'id="gates"', 'id="warnings"', 'id="skipped"', "Residual"):
        assert absent not in text
    assert "No labels, so accuracy is not known" in text
    assert "Class by class" not in rendered("unlabelled")


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
    record = whole(record)
    for chart in (
        html_score_charts.accuracy_chart(record),
        html_score_charts.confidence_chart(record),
        html_score_charts.calibration_chart(record),
        html_site_charts.divergence_chart(record),
        html_site_charts.sample_size_chart(record),
        html_site_charts.shift_chart(record),
        html_site_charts.shift_chart(large(record, channels=256)),
    ):
        assert not re.findall(r"#(?!8c959f|b35900|0969da)[0-9a-f]{6}\b", chart.svg)
        assert "var(--ink, CanvasText)" in chart.svg
        assert "<style" not in chart.svg
        assert "<text" in chart.svg


def test_charts_hold_gaps_zeros_and_a_single_site(record):
    site = record.sites[0]
    zero = site.model_copy(
        update={"kl_before": site.kl_before.model_copy(update={"mean": 0.0}), "kl_after": None}
    )
    for sites in ((zero,), (zero, site), (site, zero.model_copy(update={"kl_before": None}))):
        chart = html_site_charts.divergence_chart(record.model_copy(update={"sites": sites}))
        assert "nan" not in chart.svg


def test_a_shift_of_any_size_is_drawn(record):
    site = record.sites[0]
    for means, logs in (
        ((0.0,), (0.0,)),
        ((None,), (None,)),
        ((1e6, -1e6), (700.0, -700.0)),
        ((0.5,) * 2000, (0.5,) * 2000),
        (tuple(x / 7 for x in range(2000)), (0.0,) * 2000),
    ):
        shift = ShiftPart(mean=means, log_variance_ratio=logs)
        changed = record.model_copy(update={"sites": (site.model_copy(update={"shift": shift}),)})
        chart = html_site_charts.shift_chart(changed)
        assert (chart is None) == (means == (None,))
        assert chart is None or not re.search(r"\bnan\b|\binf\b", chart.svg)


@pytest.mark.parametrize("errors", [(0.1,), (0.0, 0.0), ()])
def test_a_sample_size_without_a_curve_is_told_in_words(record, errors):
    size = SampleSizePart(
        site="1", tolerance=0.1, images=(8, 16)[: len(errors)], errors=errors, enough=9
    )
    text = html.render(record.model_copy(update={"sample_size": size}))
    assert "Enough pictures: from 9 of 1,797 on" in text


def test_a_verdict_by_a_profile_is_said_to_be_an_estimate(rendered):
    page = _Page(rendered("estimated"))
    header = page.text.partition("Accuracy")[0]
    assert "The estimate rests on a profile of 256 source pictures; it is no measurement" in header
    assert "The source model was kept" in header
    assert "On 1,797 pictures the source model says" in header
    assert "Signals without labels: mean confidence rose" in header
    assert "Collapse. One class is predicted for 60%." in header


def test_the_page_of_a_large_run_is_made_in_5_seconds_and_300_megabytes(record, tmp_path):
    """50 classes, 200 sites of 256 neurons, 20,000 pictures; a process of its own, from its start.

    Measured: 2.5 s of CPU, 112 MB, 0.31 MB. VmHWM, as ru_maxrss would be the parent's.
    """
    run, page = tmp_path / "run.json", tmp_path / "page.html"
    run.write_text(large(record, channels=256).as_json(), encoding="utf-8")
    program = (
        "from pathlib import Path\nfrom adabn_cli.cli.boundary import run\n"
        f"assert run(['report', {str(run)!r}, '--html', {str(page)!r}, '-q']) == 0\n"
        "print(Path('/proc/self/status').read_text())"
    )
    start = os.times().children_user
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert os.times().children_user - start < 5
    assert int(re.search(r"VmHWM:\s+(\d+) kB", done.stdout)[1]) < 300_000
    assert page.stat().st_size < 3_000_000


def test_without_matplotlib_the_page_says_what_to_install(record, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError) as raised:
        html.render(record)
    assert 'pip install "adabn[report]"' in raised.value.hint
