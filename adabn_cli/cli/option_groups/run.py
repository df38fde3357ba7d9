"""What becomes of a run: its folder, what harm does, what it may take."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from adabn_cli.cli import values
from adabn_cli.cli.option_groups.option import Group, Option
from adabn_cli.errors import UsageError

if TYPE_CHECKING:
    from adabn_cli.jobs.adapt.memory_plan import Limits

_method = partial(Option, rich_help_panel="Method")
_output = partial(Option, rich_help_panel="Output")
_machine = partial(Option, rich_help_panel="Machine")


class RunOptions(Group):
    """Whether the run is checked, where it goes, and how much memory it may take."""

    on_harm: Annotated[
        str,
        _method(
            "--on-harm",
            metavar="keep|warn|fail",
            help="If the verdict is harm: warn, or keep the source model in the run, or exit 1.",
        ),
    ] = "warn"
    verify: Annotated[
        bool,
        _method(
            "--verify",
            help="Measure the residual by one more, independent pass.",
        ),
    ] = False
    out: Annotated[
        Path | None,
        _output(
            "--out",
            "-o",
            said="line",
            metavar="DIR",
            help="The run's folder; by default adabn-runs/DATE-MODEL-TARGET.",
        ),
    ] = None
    force: Annotated[
        bool, _output("--force", said="line", help="Replace the run that is there.")
    ] = False
    dry_run: Annotated[bool, _output("--dry-run", said="line", help="Say what would be done.")] = (
        False
    )
    resume: Annotated[
        Path | None,
        _output(
            "--resume",
            said="line",
            metavar="RUN",
            help="Go on with a run that was stopped; with the command as it was otherwise.",
        ),
    ] = None
    memory: Annotated[
        str | None,
        _machine(
            "--memory",
            metavar="SIZE",
            help="How much memory to use, e.g. 8GiB or 500MB; by default three quarters of what "
            "there is. What does not fit waits on disk. Does not change the result.",
        ),
    ] = None
    spill_dir: Annotated[
        Path | None,
        _machine(
            "--spill-dir",
            metavar="DIR",
            help="Where what does not fit into --memory is put while the run goes on.",
        ),
    ] = None

    @property
    def folder(self) -> Path | None:
        """The run's folder: the one to go on with, the one given, or none yet."""
        out, resume = self.out, self.resume
        if out is not None and resume is not None and out.resolve() != resume.resolve():
            raise UsageError(
                f"--resume {resume} goes on with that run, and -o {out} names another.",
                hint="Leave out -o.",
            )
        return resume if resume is not None else out

    @property
    def limits(self) -> Limits:
        """How much memory, and where what does not fit waits."""
        from adabn_cli.jobs.adapt.memory_plan import Limits

        return Limits(values.memory(self.memory), self.spill_dir)
