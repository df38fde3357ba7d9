"""Every error that adabn raises on purpose, with its exit code and what to do next.

    AdabnError
    ├── UsageError            2   the command or a setting is wrong
    ├── InputError            3   a file or folder cannot be used
    │   ├── ModelError        3   the model cannot be opened or adapted
    │   │   └── UnsafeError   3   loading it would run code
    │   └── TargetError       3   no picture, or labels that do not match
    ├── CannotTellError       4   a gate that cannot be evaluated
    └── StoppedError   130, 143   a run was stopped; what it has measured is kept

Exit code 1 belongs to gates that failed and is not an error; 70 is whatever is not in this tree.
"""

from __future__ import annotations

from pathlib import Path

#: What to do where a value is no float16, or of another dtype narrower than float32.
IN_FLOAT32 = (
    "Adapt it in float32: adabn convert MODEL -o FILE --float32; a graph is exported in float32 "
    "again."
)


class AdabnError(Exception):
    """What happened, where, and what to do next: three lines at most.

    `where` is a path, an option or a site's name; `hint` is a command to run or an option to give.
    """

    exit_code = 70

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        return "\n".join(line for line in (self.what, self.where, self.hint) if line)


class UsageError(AdabnError):
    """An option, a setting or an argument is wrong."""

    exit_code = 2


class InputError(AdabnError):
    """A file or folder that was given cannot be used."""

    exit_code = 3


class ModelError(InputError):
    """The model cannot be opened, or there is nothing in it to adapt."""


class UnsafeError(ModelError):
    """Opening the file would run code that it names."""


class TargetError(InputError):
    """The pictures or their labels cannot be used."""


class CannotTellError(AdabnError):
    """A question that the data cannot answer: no labels, no baseline, too few images."""

    exit_code = 4


class StoppedError(AdabnError):
    """A run was stopped from outside, by Ctrl-C (130) or a signal to end (143); it can go on.

    `folder` is the run's.
    """

    def __init__(self, folder: Path, exit_code: int) -> None:
        super().__init__(
            "Interrupted; what was measured is kept.",
            hint=f"Give the same command with --resume {folder} to go on.",
        )
        self.folder, self.exit_code = folder, exit_code
