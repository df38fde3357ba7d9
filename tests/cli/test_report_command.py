"""`adabn report` into files: every format, every gate's exit code, and what is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html import escape
from pathlib import Path

import pytest
from junitparser import Error, Failure, JUnitXml
from prometheus_client.openmetrics.parser import text_string_to_metric_families

_FILES = {"--html": "r.html", "--md": "r.md", "--junit": "r.xml", "--openmetrics": "r.om"}
_ALL = [word for pair in _FILES.items() for word in pair]
_STARTS = {
    "--html": "<!DOCTYPE html>",
    "--md": "<!-- adabn report: digits_bn.pt on target -->",
    "--junit": "<?xml ",
    "--openmetrics": "# TYPE adabn_run info",
}


@pytest.fixture
def old_run(project):
    """A run of version 1 of the schema, as it was written then."""
    return project / "tests/records/schema_1.json"


def _junit_says():
    """What the JUnit file says of its last gate."""
    *_, case = next(iter(JUnitXml.fromfile("r.xml")))
    kinds = {Failure: "failed", Error: "cannot tell"}
    return kinds[type(case.result[0])] if case.result else "passed"


def _openmetrics_says(gate):
    families = text_string_to_metric_families(Path("r.om").read_text())
    (gates,) = [family for family in families if family.name == "adabn_gate"]
    (status,) = [
        (sample.labels["adabn_gate"], sample.labels["level"])
        for sample in gates.samples
        if sample.value and sample.labels["gate"] == gate
    ]
    return status


def _row(text, gate):
    """The line of a table that is about the gate."""
    return next(line for line in text.splitlines() if line.lstrip(" |`").startswith(gate))


_GATES = [
    ("accuracy_drop>0.5pp", "passed", 0),
    ("accuracy_drop>-50pp", "failed", 1),
    ("accuracy_after<0.80", "passed", 0),
    ("accuracy_after<99%", "failed", 1),
    ("accuracy_before<1%", "passed", 0),
    ("accuracy_before<99%", "failed", 1),
    ("class_drop>5pp", "passed", 0),
    ("class_drop>1pp", "failed", 1),
    ("confidence_mean_after<0.5", "passed", 0),
    ("confidence_mean_after>0.5", "failed", 1),
    ("entropy_mean_after>1", "passed", 0),
    ("entropy_mean_after<1", "failed", 1),
    ("agreement<1%", "passed", 0),
    ("agreement<99%", "failed", 1),
    ("kl_before_p95>3", "passed", 0),
    ("kl_before_p95>1", "failed", 1),
    ("kl_after_p95>2", "passed", 0),
    ("kl_after_p95>1", "failed", 1),
    ("skipped_images>1%", "passed", 0),
    ("skipped_images<1", "failed", 1),
    ("images<64", "passed", 0),
    ("images>64", "failed", 1),
    ("collapse", "passed", 0),
    ("collapse>-5", "failed", 1),
    ("verdict==harm", "passed", 0),
    ("verdict==help", "failed", 1),
    ("residual>1e-3", "cannot tell", 4),
    ("held_out_accuracy_after<0.8", "cannot tell", 4),
    ("held_out_accuracy_drop>1pp", "cannot tell", 4),
    ("estimated_gain<0pp", "cannot tell", 4),
    ("ece_after>0.1", "cannot tell", 4),
    ("accuracy_after.change<-0.5pp", "cannot tell", 4),
]


@pytest.mark.parametrize(("gate", "status", "code"), _GATES)
def test_each_gate_says_the_same_in_every_format(command, old_run, gate, status, code):
    done = command("report", old_run, *_ALL[2:], "--fail-on", gate, "--json")
    assert done.code == code
    assert json.loads(done.out)["gates"][0]["status"] == status
    assert _junit_says() == status
    assert f"### Gates: 1 {status}" in Path("r.md").read_text()
    assert status in _row(Path("r.md").read_text(), gate)
    assert _openmetrics_says(gate) == (status, "fail")
    assert (f"{gate} {status}" in done.err) == (status != "passed"), "stderr says why"
    told = command("report", old_run, "--fail-on", gate)
    assert told.code == code
    assert _row(told.out, gate).rstrip().endswith(status)


def test_each_gate_says_the_same_on_the_page(command, old_run):
    fail_on = [word for gate, _, _ in _GATES for word in ("--fail-on", gate)]
    warn_on = [word for gate, _, _ in _GATES for word in ("--warn-on", gate)]
    assert command("report", old_run, "--html", "r.html", *fail_on, *warn_on).code == 1
    page = Path("r.html").read_text(encoding="utf-8")
    rows = re.findall(r"<tr>.*?</tr>", page[page.index('<section id="gates">') :], re.DOTALL)
    for gate, status, _ in _GATES:
        failing, warning = (row for row in rows if f">{escape(gate)}<" in row)
        assert f">{status}<" in failing
        assert f">{status if status == 'passed' else f'warning, {status}'}<" in warning


@pytest.mark.parametrize(
    ("gate", "status"),
    [("collapse", "passed"), ("accuracy_after<99%", "failed"), ("residual>1e-3", "cannot tell")],
)
def test_a_gate_that_warns_warns_in_every_format_and_changes_no_code(
    command, old_run, gate, status
):
    told = status if status == "passed" else f"warning, {status}"
    done = command("report", old_run, *_ALL[2:], "--warn-on", gate, "--json")
    assert done.code == 0
    (part,) = json.loads(done.out)["gates"]
    assert (part["status"], part["level"]) == (status, "warn")
    assert _junit_says() == "passed"
    assert f"{gate} {told}" in Path("r.xml").read_text().replace("&lt;", "<").replace("&gt;", ">")
    assert told in _row(Path("r.md").read_text(), gate)
    assert _openmetrics_says(gate) == (status, "warn")
    assert (f"{gate} {told}" in done.err) == (status != "passed")
    shown = command("report", old_run, "--warn-on", gate)
    assert shown.code == 0
    assert _row(shown.out, gate).rstrip().endswith(told)


@pytest.mark.parametrize(
    ("gates", "code"),
    [
        (("--fail-on", "residual>1e-3"), 0),
        (("--fail-on", "residual>1e-3", "--fail-on", "accuracy_after<0.99"), 1),
        (("--baseline", "absent"), 0),
    ],
)
def test_inconclusive_gates_are_allowed_and_still_shown(command, old_run, gates, code):
    done = command("report", old_run, *gates, "--allow-inconclusive", "--junit", "r.xml")
    assert done.code == code
    assert "cannot tell" in done.out
    assert "<error " in Path("r.xml").read_text()


def test_a_missing_baseline_exits_with_4_with_all_files_written(command, old_run):
    gate = ("--baseline", "absent", "--fail-on", "kl_after_mean.change>0.1")
    done = command("report", old_run, *_ALL, *gate)
    assert done.code == 4
    assert "absent is not there" in " ".join(done.out.split())
    assert "Traceback" not in done.out + done.err
    for option, file in _FILES.items():
        assert Path(file).read_text(encoding="utf-8").startswith(_STARTS[option])
        assert "absent is not there" in Path(file).read_text(encoding="utf-8")
    assert _junit_says() == "cannot tell"
    quiet = command("report", old_run, "--baseline", "absent", "-q")
    assert (quiet.code, "absent is not there" in quiet.err) == (4, True)


def test_a_failed_gate_outweighs_a_missing_baseline(command, old_run):
    gates = ("--baseline", "absent", "--fail-on", "accuracy_after<0.99")
    assert command("report", old_run, *gates).code == 1


def test_a_baseline_that_is_no_run_exits_with_3_and_writes_nothing(command, old_run, tmp_path):
    Path("notes.json").write_text("[]")
    done = command("report", old_run, "--baseline", "notes.json", *_ALL)
    assert done.code == 3
    assert "notes.json" in done.err
    assert [path.name for path in Path().iterdir()] == ["notes.json"]


def test_a_baseline_shows_what_changed(command, old_run):
    done = command("report", old_run, "--baseline", old_run, "--fail-on", "images.change<0")
    assert done.code == 0
    assert _row(done.out, "accuracy_after").split() == [
        *("accuracy_after", "84.6%", "84.6%", "+0.0", "pp")
    ]


def test_another_target_is_not_compared_unless_it_is_asked_for(command, old_run):
    document = json.loads(old_run.read_text())
    document["target"]["fingerprint"] = "0" * 64
    Path("other.json").write_text(json.dumps(document))
    done = command("report", old_run, "--baseline", "other.json")
    assert done.code == 4
    assert "not the same: other pictures" in done.out
    allowed = command("report", old_run, "--baseline", "other.json", "--allow-different")
    assert allowed.code == 0
    assert "not the same: other pictures" in allowed.out
    assert "since the baseline" in allowed.out


def test_a_crash_exits_with_70(command, old_run, monkeypatch):
    monkeypatch.setattr("adabn_cli.gates.gates.judged", lambda *_: 1 / 0)
    assert command("report", old_run, "--fail-on", "collapse").code == 70


@pytest.mark.parametrize("n", [2, 3, 4, 6])
def test_several_runs_stand_side_by_side_in_80_columns(command, old_run, monkeypatch, n):
    monkeypatch.setenv("COLUMNS", "80")
    gates = ("--fail-on", "held_out_accuracy_drop>1pp", "--fail-on", "accuracy_after<0.99")
    done = command("report", *[old_run] * n, *gates)
    assert done.code == 1
    assert max(map(len, done.out.splitlines())) <= 80
    rows = [line for line in done.out.splitlines() if line.startswith("accuracy after")]
    assert [row.count("84.6%") for row in rows] == ([n] if n <= 4 else [4, n - 4])
    assert done.out.count("failed") == n
    assert "…" not in done.out


def test_several_runs_are_one_json_document_and_one_table(command, old_run):
    done = command("report", old_run, old_run, "--json", "--md", "r.md", "--warn-on", "collapse")
    assert done.code == 0
    document = json.loads(done.out)
    assert [len(run["gates"]) for run in document["runs"]] == [1, 1]
    assert document["differences"] == []
    assert "| accuracy after | 84.6% | 84.6% |" in Path("r.md").read_text()
    assert "| `collapse` | passed | passed |" in Path("r.md").read_text()
    assert len(command("report", old_run, old_run, "-q").out.splitlines()) == 2


def test_runs_of_other_pictures_stand_side_by_side_with_a_note(command, old_run):
    document = json.loads(old_run.read_text())
    document["target"]["fingerprint"] = "0" * 64
    Path("other.json").write_text(json.dumps(document))
    done = command("report", old_run, "other.json", "--md", "r.md")
    told = "run 2, beside run 1: other pictures"
    assert done.code == 0
    assert told in done.out
    assert told in Path("r.md").read_text()


@pytest.mark.parametrize(
    "option", ["--html", "--junit", "--openmetrics", "--model-card", "--sites"]
)
def test_what_shows_one_run_refuses_several(command, old_run, option):
    file = [] if option == "--sites" else ["out"]
    done = command("report", old_run, old_run, option, *file)
    assert done.code == 2
    assert f"adabn report RUN {option}" in done.err
    assert not list(Path().iterdir())


@pytest.mark.parametrize("code", [0, 1, 4])
def test_every_file_is_written_before_a_gate_is_told(command, sample_run, code):
    gates = {0: "collapse", 1: "accuracy_after<0.99", 4: "residual>1"}
    source = sample_run / "run.json"
    if code == 4:
        document = json.loads(source.read_text()) | {"residual": None}
        source = Path("unverified.json")
        source.write_text(json.dumps(document))
    done = command("report", source, *_ALL, "--fail-on", gates[code])
    assert done.code == code
    for option, file in _FILES.items():
        text = Path(file).read_text(encoding="utf-8")
        assert text.startswith(_STARTS[option])
        assert text.endswith("\n")
        assert f"wrote {file}" in done.err
    assert "accuracy" in done.out, "the terminal's report is there too"


@pytest.mark.parametrize("option", _FILES)
def test_stdout_gets_what_the_file_gets(command, old_run, option):
    to_file = command("report", old_run, option, "out", "-q")
    assert to_file.code == 0
    to_stdout = command("report", old_run, option, "-", "--fail-on", "accuracy_after<0.99")
    assert to_stdout.code == 1
    assert to_stdout.err.startswith("accuracy_after<0.99 failed: ")
    assert to_stdout.out.count("# EOF") == (option == "--openmetrics")
    with_gate = command("report", old_run, option, "out", "-q", "--fail-on", "accuracy_after<0.99")
    assert with_gate.code == 1
    assert to_stdout.out == Path("out").read_text(encoding="utf-8")


def test_stdout_is_utf_8_whatever_the_locale(old_run):
    done = subprocess.run(
        [sys.executable, "-m", "adabn_cli", "report", str(old_run), "--md", "-"],
        env={"PYTHONIOENCODING": "latin-1", "PATH": ""},
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert "36.8–41.3%".encode() in done.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--md", "-", "--junit", "-"), "stdout"),
        (("--md", "-", "--json"), "stdout"),
        (("--html", "-", "-q"), "stdout"),
        (("--md", "same", "--junit", "same"), "same"),
        (("--md", "run.json"), "adabn report run.json --md FILE"),
        (("--openmetrics",), "--openmetrics"),
    ],
)
def test_what_cannot_be_meant_exits_with_2_and_writes_nothing(command, old_run, arguments, told):
    done = command("report", old_run, "--html", "page.html", *arguments)
    assert done.code == 2
    assert told in done.err
    assert not list(Path().iterdir())


def test_a_section_for_a_model_card_is_a_file_too(command, old_run):
    assert command("report", old_run, "--model-card", "card.md").code == 0
    assert Path("card.md").read_text(encoding="utf-8").startswith("<!-- adabn model card -->\n## ")


def test_thumbnails_are_for_the_page_and_of_the_target_alone(command, old_run, sample_data):
    done = command("report", old_run, "--thumbnails", "--md", "r.md")
    assert (done.code, "--html" in done.err) == (2, True)
    document = json.loads(old_run.read_text())
    picture = next((sample_data / "target" / "3").iterdir()).name
    document["target"]["path"] = str(sample_data / "target")
    part = {"label": "3", "predicted": "5", "confidence_before": 0.9, "confidence_after": 0.8}
    document["broken"] = [
        {"path": path, **part} for path in (f"3/{picture}", "../digits_bn.pt", "3/gone.png")
    ]
    Path("run.json").write_text(json.dumps(document))
    sizes = {}
    for option in ((), ("--thumbnails",)):
        assert command("report", "run.json", "--html", "r.html", *option).code == 0
        sizes[option] = Path("r.html").read_text(encoding="utf-8").count("data:image/png")
    assert sizes[("--thumbnails",)] == sizes[()] + 1


@pytest.mark.parametrize(
    ("file", "code"), [(".", 2), ("file/report.md", 3), ("/proc/version/report.md", 3)]
)
def test_a_file_that_cannot_be_written_is_told(command, old_run, file, code):
    Path("file").write_text("")
    done = command("report", old_run, "--md", file, "--fail-on", "accuracy_after<0.99")
    assert (done.code, done.out) == (code, "")
    assert f"--md {file}" in done.err or "--md /" in done.err
    assert [path.name for path in Path().iterdir()] == ["file"]


def test_a_file_is_replaced_whole_and_a_link_stays_one(command, old_run):
    Path("real.md").write_text("<!-- adabn report: a on b -->" + "x" * 100_000)
    Path("link.md").symlink_to("real.md")
    assert command("report", old_run, "--md", "link.md").code == 0
    assert Path("link.md").is_symlink()
    assert Path("real.md").read_text().startswith("<!-- adabn report")
    assert len([*Path().iterdir()]) == 2


def test_folders_of_a_file_are_made(command, old_run):
    assert command("report", old_run, "--junit", "reports/adabn/gates.xml").code == 0
    assert Path("reports/adabn/gates.xml").is_file()


def test_without_matplotlib_nothing_is_written_and_the_rest_still_renders(
    command, old_run, monkeypatch
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = command("report", old_run, *_ALL)
    assert done.code == 2
    assert 'pip install "adabn[report]"' in done.err
    assert not list(Path().iterdir())
    assert command("report", old_run, *_ALL[2:]).code == 0


def test_the_schema_needs_no_run(command):
    done = command("report", "--schema")
    assert (done.code, done.err) == (0, "")
    schema = json.loads(done.out)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert "verdict" in schema["required"]


@pytest.mark.parametrize(
    ("arguments", "forbidden"),
    [
        (["--schema"], {"torch", "numpy", "PIL", "jinja2"}),
        ([*_ALL[2:]], {"torch", "numpy", "PIL", "jinja2", "matplotlib"}),
        (_ALL[:2], {"torch", "torchvision", "scipy"}),
    ],
)
def test_rendering_imports_what_it_needs_and_no_torch(old_run, arguments, forbidden):
    words = ["report", *arguments] if "--schema" in arguments else ["report", old_run, *arguments]
    program = (
        "import sys\nfrom adabn_cli.cli.boundary import run\n"
        f"assert run({[str(word) for word in words]}) == 0\n"
        f"assert not {forbidden} & set(sys.modules), {forbidden} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
