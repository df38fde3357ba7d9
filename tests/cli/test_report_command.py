"""`adabn report` into files: every format, every gate's exit code, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
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


def _gate_status():
    """What the JUnit file says of its one gate."""
    ((case,),) = JUnitXml.fromfile("r.xml")
    kinds = {Failure: "failed", Error: "cannot tell"}
    return kinds[type(case.result[0])] if case.result else "passed"


@pytest.mark.parametrize(
    ("gate", "status", "code"),
    [
        ("accuracy_drop>0.5pp", "passed", 0),
        ("accuracy_drop>-50pp", "failed", 1),
        ("accuracy_after<0.80", "passed", 0),
        ("accuracy_after<99%", "failed", 1),
        ("class_drop>5pp", "passed", 0),
        ("class_drop>1pp", "failed", 1),
        ("kl_after_p95>2", "passed", 0),
        ("kl_after_p95>1", "failed", 1),
        ("skipped_images>1%", "passed", 0),
        ("skipped_images<1", "failed", 1),
        ("collapse", "passed", 0),
        ("collapse>-5", "failed", 1),
        ("residual>1e-3", "cannot tell", 4),
    ],
)
def test_each_gate_says_the_same_in_every_format(command, old_run, gate, status, code):
    done = command("report", old_run, *_ALL[2:], "--fail-on", gate, "--json")
    assert done.code == code
    assert json.loads(done.out)["gates"][0]["status"] == status
    assert _gate_status() == status
    assert f"### Gates: 1 {status}" in Path("r.md").read_text()
    families = text_string_to_metric_families(Path("r.om").read_text())
    (gates,) = [family for family in families if family.name == "adabn_gate"]
    assert [s.labels["adabn_gate"] for s in gates.samples if s.value] == [status]


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
    assert (to_stdout.err, to_stdout.out.count("# EOF")) == ("", option == "--openmetrics")
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


@pytest.mark.parametrize("file", [".", "file/report.md", "/proc/version/report.md"])
def test_a_file_that_cannot_be_written_exits_with_3(command, old_run, file):
    Path("file").write_text("")
    done = command("report", old_run, "--md", file, "--fail-on", "accuracy_after<0.99")
    assert (done.code, done.out) == (3, "")
    assert f"--md {file}" in done.err or "--md /" in done.err
    assert [path.name for path in Path().iterdir()] == ["file"]


def test_a_file_is_replaced_whole_and_a_link_stays_one(command, old_run):
    Path("real.md").write_text("x" * 100_000)
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
