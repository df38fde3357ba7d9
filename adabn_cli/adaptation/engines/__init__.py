"""How the statistics of a whole target are estimated. Knows no file, no format and no label.

To add one: a module with an `estimate` and a line in `ENGINES`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from adabn_cli.errors import UsageError

if TYPE_CHECKING:
    from adabn_cli.adaptation.engines.estimate import Estimate
    from adabn_cli.adaptation.installer import Installer
    from adabn_cli.model import Batches, OutputSink, Progress

#: Name of an engine -> the module with its `estimate`.
ENGINES = {
    "exact": "adabn_cli.adaptation.engines.exact",
    "one-pass": "adabn_cli.adaptation.engines.one_pass",
    "online": "adabn_cli.adaptation.engines.online",
}


class Engine(Protocol):
    """One way to re-estimate statistics."""

    def estimate(
        self, installer: Installer, batches: Batches, on_outputs: OutputSink, progress: Progress
    ) -> Estimate:
        """Adapts the installer's model to the batches.

        `on_outputs` gets the adapted model's outputs of every batch.
        """


def check_engine(name: str, momentum: float | None = None, processes: int = 1) -> None:
    """Raises UsageError where there is no such engine, or it cannot do what it is asked for."""
    if name not in ENGINES:
        raise UsageError(
            f"There is no engine {name!r}.", hint=f"--engine takes {', '.join(ENGINES)}."
        )
    if momentum is not None and name != "online":
        raise UsageError(
            f"--momentum weighs the batches of a stream; the {name} engine counts pictures alike.",
            hint="Leave it out, or give --engine online.",
        )
    if processes > 1 and name == "online":
        raise UsageError(
            "The online engine takes one batch after the other, in one process.",
            hint="Leave torchrun out, or give --engine exact.",
        )


def engine(name: str) -> Engine:
    """The engine of that name, imported when asked for."""
    return cast("Engine", import_module(ENGINES[name]))
