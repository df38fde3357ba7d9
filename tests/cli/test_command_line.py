"""What the command line is: its words, what it imports, and that pipes get plain text."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from adabn_cli.cli.app import app

_MODEL = "--arch --arch-args --weights --trust-pickle --debug"
_SCORED = (
    f"{_MODEL} --output --input --device --img-size --mean --std --crop-pct --interpolation "
    "--fast-decode "
    "--labels --class-map --label-offset --class-order --batch-size --workers --max-images "
    "--max-bad --stride --value-range "
    "--path-column --label-column --path-suffix --max-pixels "
    "--seed --json --quiet"
)
_OPTIONS = {
    "adapt": f"{_SCORED} --bf16 --task --masks --target --target-format --eval --engine --method "
    "--on-harm --profile --source --reference --layers --prior --alpha --adapt-initial --momentum "
    "--verify --out --force --dry-run --resume --memory --spill-dir --until-converged",
    "report": "--fail-on --warn-on --confidence --allow-inconclusive --allow-close-verdict "
    "--baseline --allow-different --html --md --junit --openmetrics --model-card --paths "
    "--thumbnails --schema --sites --json --quiet --debug",
    "inspect": f"{_MODEL} --input --json",
    "evaluate": f"{_SCORED} --bf16 --task --masks --data --pack",
    "profile": f"{_SCORED} --source --out --force",
    "convert": f"{_MODEL} --output --out --img-size --float32 --force --json --quiet",
    "apply": f"{_MODEL} --input --out --revert --force --json --quiet",
    "collect": f"{_SCORED} --target --shard --layers --prior --alpha --adapt-initial --out --force",
    "merge": f"{_MODEL} --input --out --force --json --quiet",
    "watch": f"{_MODEL} --output --input --device --img-size --mean --std --crop-pct "
    "--interpolation --fast-decode --value-range --max-pixels --out --force --momentum --every "
    "--interval --patience --max-images --once --adapt-initial --quiet",
    "demo": "--json --quiet --debug",
}


def _adabn(*arguments, **environment):
    clean = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "CI")}
    return subprocess.run(
        [sys.executable, "-m", "adabn_cli", *map(str, arguments)],
        env=clean | environment,
        capture_output=True,
        check=False,
        timeout=60,
    )


def test_commands_and_options_are_these():
    import typer

    group = typer.main.get_command(app)
    found = {
        name: {
            parameter.opts[0]
            for parameter in command.params
            if parameter.param_type_name == "option" and parameter.name != "help"
        }
        for name, command in group.commands.items()
    }
    assert found == {name: set(options.split()) for name, options in _OPTIONS.items()}


_HEAVY = {"torch", "numpy", "PIL", "scipy", "matplotlib", "torchvision"}
_NOT_FOR_HELP = _HEAVY | {"pydantic", "markdown_it", "pygments", "rich.traceback"}


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        ("['--help']", _NOT_FOR_HELP),
        ("[]", _NOT_FOR_HELP),
        ("['adapt', '--help']", _HEAVY | {"markdown_it", "pygments"}),
        ("['report', RUN]", _HEAVY),
        ("['report', RUN, '--md', '-', '--fail-on', 'residual>1']", _HEAVY),
        ("['report']", _HEAVY),
    ],
)
def test_help_and_report_import_no_more_than_they_need(sample_run, arguments, absent):
    program = (
        f"RUN = {str(sample_run)!r}\nimport sys\nfrom adabn_cli.cli.boundary import run\n"
        f"assert run({arguments}) in (0, 2)\nassert not {absent!r} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=60)


def test_richs_own_modules_are_whole_after_help():
    program = (
        "from adabn_cli.cli.boundary import run\nassert run(['--help']) == 0\n"
        "import rich.markdown, rich.traceback\n"
        "assert rich.markdown.Markdown('a').markup == 'a' and rich.traceback.Traceback.extract"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=60)


def test_help_and_report_start_at_once(sample_run):
    # Promised are 0.25 s and 0.6 s of a free processor; the limits leave room for a busy one.
    for arguments, most in ((["--help"], 0.5), (["report", sample_run], 1.2)):
        cpu, wall = [], []
        for _ in range(5):
            before, start = os.times(), time.perf_counter()
            assert _adabn(*arguments).returncode == 0
            after = os.times()
            wall.append(time.perf_counter() - start)
            cpu.append(after.children_user - before.children_user)
        sys.stdout.write(f"adabn {arguments[0]}: {min(cpu):.2f} s CPU, {min(wall):.2f} s\n")
        assert min(cpu) < most


@pytest.mark.parametrize("variable", ["GITHUB_ACTIONS", "FORCE_COLOR", "PY_COLORS", "CI"])
def test_pipes_get_no_escape_codes(sample_run, variable):
    for arguments in (["adapt", "--help"], ["report", sample_run], ["report", "--nonsense"]):
        done = _adabn(*arguments, **{variable: "1"})
        assert done.stdout or done.stderr
        assert b"\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_encoding_can_be_written(sample_run, encoding):
    for arguments in (["--help"], ["adapt", "--help"], ["report", sample_run], ["report", "–.ü"]):
        done = _adabn(*arguments, PYTHONIOENCODING=encoding)
        assert done.returncode == (3 if "–.ü" in arguments else 0), done.stderr
        (done.stdout + done.stderr).decode(encoding)
    if encoding == "ascii":
        assert b"36.8-41.3%" in _adabn("report", sample_run, PYTHONIOENCODING=encoding).stdout


def test_a_reader_that_leaves_changes_no_exit_code(sample_run):
    gates = [word for _ in range(400) for word in ("--fail-on", "accuracy_after<0.99")]
    for arguments, code in ((["adapt", "--help"], 0), (["report", sample_run, *gates], 1)):
        process = subprocess.Popen(
            [sys.executable, "-m", "adabn_cli", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        process.stdout.close()
        error = process.stderr.read()
        process.stderr.close()
        assert (process.wait(60), error) == (code, b"")


def test_the_version_is_told(command):
    from adabn_cli import __version__

    assert command("--version").out == f"adabn {__version__}\n"


def test_control_characters_of_a_name_do_not_reach_the_terminal(command):
    done = command("report", "\x1b[31mred\x1b[0m\r\n[bold]\u202eback")
    assert done.code == 3
    assert not set("\x1b\r\u202e") & set(done.err)
    assert "[bold]" in done.err
    assert len(done.err.splitlines()) == 3
