"""pytest plugin: the record of a run as a fixture, and its gates as tests. No torch.

`adabn_run` gives the record; `pytest --adabn-gates` makes a test of each gate in the settings.
Nothing of adabn's is imported before one of the two is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from adabn_cli.record import GatePart, Record

_TOLD = "adabn_gate"
_ALLOW = pytest.StashKey[bool]()  # Whether the settings allow gates that cannot be told.


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options and the setting of the plugin."""
    group = parser.getgroup("adabn", "adabn: a run and its gates")
    group.addoption(
        "--adabn-run",
        metavar="PATH",
        help="A run's folder or its run.json; by default the setting adabn_run, or else the newest "
        "in adabn-runs/.",
    )
    group.addoption(
        "--adabn-gates",
        action="store_true",
        help="A test for each gate of [tool.adabn.gates] or adabn.toml.",
    )
    parser.addini("adabn_run", "The run that adabn_run and --adabn-gates look at.", default="")


@pytest.fixture(scope="session")
def adabn_run(pytestconfig: pytest.Config) -> Record:
    """The record of a run: what is in its run.json."""
    from adabn_cli.errors import AdabnError

    try:
        return _record(pytestconfig)
    except AdabnError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None


def _record(config: pytest.Config) -> Record:
    """The record of --adabn-run, of the setting adabn_run, or else of the newest run."""
    from adabn_cli.record.run_folder import newest_run, read_record

    given, setting = config.getoption("--adabn-run"), config.getini("adabn_run")
    if given:
        return read_record(config.invocation_params.dir / given)
    return read_record(config.rootpath / setting if setting else newest_run(config.rootpath))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Adds the gates, before -k and -m choose among the tests."""
    if not config.getoption("--adabn-gates"):
        return
    from adabn_cli.errors import AdabnError

    try:
        items.extend(_Gates.from_parent(session, name="adabn", nodeid="adabn").collect())
    except AdabnError as error:
        raise pytest.UsageError(str(error)) from error


class _Gates(pytest.Collector):
    """All gates of the settings, held against the run."""

    def collect(self) -> Iterator[pytest.Item]:
        from adabn_cli.cli.settings import gate_settings, read_settings
        from adabn_cli.errors import UsageError
        from adabn_cli.gates.gates import GateRequest, judged

        root = self.config.rootpath
        file, settings = read_settings(root)
        asked = gate_settings(settings, file)
        baseline = asked.get("baseline")
        if baseline is not None and (root / baseline).exists():
            baseline = str(root / baseline)
        request = GateRequest(
            fail_on=tuple(asked.get("fail-on", ())),
            warn_on=tuple(asked.get("warn-on", ())),
            confidence=asked.get("confidence"),
            baseline=baseline,
            allow_close_verdict=asked.get("allow-close-verdict", False),
        )
        gates = judged(_record(self.config), request).gates
        if not gates:
            raise UsageError(
                "--adabn-gates: the settings hold no gate.",
                where=str(file or root),
                hint="Write fail-on = ['accuracy_drop>0.5pp'] under [tool.adabn.gates].",
            )
        self.config.stash[_ALLOW] = asked.get("allow-inconclusive", False)
        for gate in gates:
            yield _Gate.from_parent(self, name=gate.expression, gate=gate)


class _Gate(pytest.Item):
    """One gate: a failure where it failed, an error where it cannot be told: that is no pass.

    One that only warns passes, and one that cannot be told is skipped where the settings allow it.
    """

    def __init__(self, *, gate: GatePart, **known: Any) -> None:
        super().__init__(**known)
        self.gate = gate

    @property
    def told(self) -> str:
        from adabn_cli.reports.words.wording import gate_told
        from adabn_cli.text import one_line

        return one_line(f"{self.gate.expression} {gate_told(self.gate)}")

    def setup(self) -> None:
        self.user_properties.append((_TOLD, self.told))
        if self.gate.level == "warn" or self.gate.status != "cannot tell":
            return
        if self.config.stash[_ALLOW]:
            pytest.skip(self.told)
        pytest.fail(self.told, pytrace=False)

    def runtest(self) -> None:
        if self.gate.level == "fail" and self.gate.status == "failed":
            pytest.fail(self.told, pytrace=False)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.config.rootpath, None, f"adabn gate {self.name}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Every gate with its value, limit and n, the ones that passed and that warn too."""
    reports = [report for several in terminalreporter.stats.values() for report in several]
    told = dict.fromkeys(
        text
        for report in reports
        for name, text in getattr(report, "user_properties", ())
        if name == _TOLD
    )
    if told:
        terminalreporter.section("adabn gates")
        for line in told:
            terminalreporter.write_line(line)
