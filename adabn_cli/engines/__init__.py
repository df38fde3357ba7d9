"""How the statistics of a whole target are estimated. Knows no file, no format and no label.

To add one: a module with an `estimate` and a line in `ENGINES`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from adabn_cli.errors import UsageError

if TYPE_CHECKING:
    from adabn_cli.adaptation import Installer
    from adabn_cli.batch import Batches, OutputSink, Progress
    from adabn_cli.engines.estimate import Estimate

#: Name of an engine -> the module with its `estimate`.
ENGINES = {
    "exact": "adabn_cli.engines.exact",
    "one-pass": "adabn_cli.engines.one_pass",
}


class Engine(Protocol):
    """One way to re-estimate statistics."""

    def estimate(
        self, installer: Installer, batches: Batches, on_outputs: OutputSink, progress: Progress
    ) -> Estimate:
        """Adapts the installer's model to the batches.

        `on_outputs` gets the adapted model's outputs of every batch.
        """


def check_engine(name: str) -> None:
    """Raises UsageError where there is no engine of that name."""
    if name not in ENGINES:
        raise UsageError(
            f"There is no engine {name!r}.", hint=f"--engine takes {' or '.join(ENGINES)}."
        )


def engine(name: str) -> Engine:
    """The engine of that name, imported when asked for."""
    return cast("Engine", import_module(ENGINES[name]))
