"""How the statistics of a whole target are estimated. Knows no file, no format and no label.

To add one: a module with what `Engine` asks for, and a line in `ENGINES`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from adabn_cli.errors import UsageError

if TYPE_CHECKING:
    from adabn_cli.adaptation.engines.passes import Estimate, Passes
    from adabn_cli.adaptation.installer import Installer
    from adabn_cli.model import OutputSink, Progress

#: Name of an engine -> its module.
ENGINES = {
    "exact": "adabn_cli.adaptation.engines.exact",
    "one-pass": "adabn_cli.adaptation.engines.one_pass",
    "online": "adabn_cli.adaptation.engines.online",
}


class Engine(Protocol):
    """One way to re-estimate statistics."""

    @property
    def side_by_side(self) -> bool:
        """Whether all batches run at once and wait for each other, so that the result is exact."""

    @property
    def is_stream(self) -> bool:
        """Whether later batches may weigh more (`--momentum`): one after the other, one process."""

    def estimate(
        self, installer: Installer, passes: Passes, on_outputs: OutputSink, progress: Progress
    ) -> Estimate:
        """Adapts the installer's model to the batches.

        `on_outputs` gets the adapted model's outputs of every batch.
        """


def engine(name: str, momentum: float | None = None, processes: int = 1) -> Engine:
    """The engine of that name, imported when asked for.

    Raises UsageError if there is none, or if it cannot do what it is asked for.
    """
    if name not in ENGINES:
        raise UsageError(
            f"There is no engine {name!r}.", hint=f"--engine accepts {', '.join(ENGINES)}."
        )
    found = cast("Engine", import_module(ENGINES[name]))
    if momentum is not None and not found.is_stream:
        raise UsageError(
            f"--momentum weighs the batches of a stream; the {name} engine counts pictures alike.",
            hint="Leave it out, or give --engine online.",
        )
    if processes > 1 and found.is_stream:
        raise UsageError(
            f"The {name} engine takes one batch after the other, in one process.",
            hint="Leave torchrun out, or give --engine exact.",
        )
    return found
