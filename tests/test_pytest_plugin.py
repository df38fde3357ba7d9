"""The pytest plugin, in projects of their own: the fixture, gates as tests, and what it costs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

_SETTINGS = """
[tool.adabn.gates]
fail-on = ["accuracy_drop>0.5pp", "accuracy_after<0.99", "residual>1e-3"]
warn-on = ["accuracy_before<0.9", "collapse"]
{more}
[tool.pytest.ini_options]
filterwarnings = ["error"]
"""


@pytest.fixture
def old_run(pytester: pytest.Pytester, project: Path) -> Path:
    """A run in the project's adabn-runs/, as it was written in version 1 of the schema."""
    folder = pytester.path / "adabn-runs" / "old"
    folder.mkdir(parents=True)
    shutil.copy(project / "tests/records/schema_1.json", folder / "run.json")
    return folder


def settings(pytester: pytest.Pytester, more: str = "") -> None:
    pytester.makepyprojecttoml(_SETTINGS.format(more=more))


def test_the_fixture_is_the_record_of_the_newest_run(pytester, old_run):
    pytester.makepyfile("def test_run(adabn_run): assert adabn_run.after.accuracy > 0.8")
    pytester.runpytest().assert_outcomes(passed=1)


def test_an_option_beats_the_setting_and_that_the_newest_run(pytester, old_run, monkeypatch):
    for name, engine in (("set", "b"), ("given", "c")):
        document = json.loads((old_run / "run.json").read_text())
        document["method"]["engine"] = engine
        (pytester.path / f"{name}.json").write_text(json.dumps(document))
    pytester.makepyfile(
        "import os\ndef test_it(adabn_run): assert adabn_run.method.engine == os.environ['E']"
    )

    def passes(engine, *arguments):
        monkeypatch.setenv("E", engine)
        pytester.runpytest(*arguments).assert_outcomes(passed=1)

    passes("exact")
    pytester.makeini("[pytest]\nadabn_run = set.json\n")
    passes("b")
    passes("c", "--adabn-run", "given.json")


def test_each_gate_is_a_test_and_one_that_cannot_be_told_an_error(pytester, old_run):
    settings(pytester)
    pytester.makepyfile("def test_other(): pass")
    done = pytester.runpytest("--adabn-gates")
    # An error in a test's setup: the gates that only warn pass, and so does the other test.
    done.assert_outcomes(passed=4, failed=1, errors=1)
    done.stdout.fnmatch_lines(
        [
            "*ERROR at setup of adabn gate residual>1e-3*",
            "residual>1e-3 cannot tell: not measured: run with --verify (limit 0.001)",
            "*adabn gates*",
            "accuracy_drop>0.5pp passed: value -0.455, limit 0.005, n = 1,797",
            "accuracy_after<0.99 failed: value 0.846, limit 0.99, n = 1,797",
            "residual>1e-3 cannot tell: *",
            "accuracy_before<0.9 warning, failed: value 0.391, limit 0.9, n = 1,797",
            "collapse passed: *",
        ]
    )
    assert "Traceback" not in done.stdout.str()


def test_gates_run_alone_and_without_any_test(pytester, old_run):
    settings(pytester)
    pytester.makepyfile("def test_other(): assert False")
    chosen = ("--adabn-gates", "-k", "adabn and not after and not residual")
    done = pytester.runpytest(*chosen, "--junitxml=gates.xml")
    done.assert_outcomes(passed=3, deselected=3)
    assert 'name="accuracy_drop&gt;0.5pp"' in (pytester.path / "gates.xml").read_text()
    (pytester.path / "test_gates_run_alone_and_without_any_test.py").unlink()
    assert pytester.runpytest(*chosen).ret == 0


def test_inconclusive_gates_that_are_allowed_are_skipped(pytester, old_run):
    settings(pytester, "allow-inconclusive = true")
    done = pytester.runpytest("--adabn-gates", "-k", "adabn and not accuracy_after")
    done.assert_outcomes(passed=3, skipped=1, deselected=1)


def test_confidence_and_baseline_are_those_of_the_settings(pytester, old_run):
    shutil.copytree(old_run, pytester.path / "kept")
    settings(pytester, 'baseline = "kept"\nconfidence = 0.95')
    (pytester.path / "tests").mkdir()
    done = pytester.runpytest("--adabn-gates")
    done.stdout.fnmatch_lines(["baseline passed: n = 1,797", "*95% interval*"])


def test_a_missing_baseline_is_an_error(pytester, old_run):
    settings(pytester, 'baseline = "absent"')
    done = pytester.runpytest("--adabn-gates", "-k", "baseline")
    done.assert_outcomes(errors=1, deselected=5)
    done.stdout.fnmatch_lines(["baseline cannot tell: no baseline: absent is not there"])


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ("", "the settings hold no gate"),
        ("[tool.adabn.gates]\nfail_onn = 'collapse'", "Did you mean 'fail-on'?"),
        ("[tool.adabn.gates]\nfail-on = 'colapse'", "Did you mean collapse?"),
        ("[tool.adabn.gates]\nconfidence = 'much'", "a number, as 0.95"),
    ],
)
def test_gates_that_are_none_are_a_usage_error_and_no_pass(pytester, old_run, toml, told):
    pytester.makepyprojecttoml(toml)
    pytester.makepyfile("def test_other(): pass")
    done = pytester.runpytest("--adabn-gates")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines([f"*{told}*"])


def test_gates_without_a_run_are_a_usage_error(pytester):
    settings(pytester)
    done = pytester.runpytest("--adabn-gates")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["*There is no run here yet.*"])


def test_a_fixture_without_a_run_says_how_to_make_one(pytester):
    pytester.makepyfile("def test_run(adabn_run): pass")
    done = pytester.runpytest()
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*adabn adapt MODEL --target DIR*"])
    assert "Traceback" not in done.stdout.str()


def test_a_project_that_does_not_use_it_imports_nothing_of_it(pytester):
    pytester.makepyfile(
        """
        import sys

        def test_imports():
            ours = {name for name in sys.modules if name.startswith("adabn_cli")}
            light = {"pytest_plugin", "torchvision_import", "version"}
            assert ours == {"adabn_cli", *(f"adabn_cli.{name}" for name in light)}
            assert not {"torch", "pydantic", "rich", "numpy"} & set(sys.modules)
        """
    )
    pytester.runpytest_subprocess("-p", "no:hypothesispytest").assert_outcomes(passed=1)


def test_gates_need_no_torch(pytester, old_run):
    settings(pytester)
    pytester.makeconftest(
        "import sys\ndef pytest_sessionfinish():\n"
        "    assert not {'torch', 'numpy', 'PIL'} & set(sys.modules)"
    )
    done = pytester.runpytest_subprocess("--adabn-gates", "-k", "collapse")
    done.assert_outcomes(passed=1, deselected=4)
    assert done.ret == 0
