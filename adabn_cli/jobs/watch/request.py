"""What is watched, and by which clock; refused before the model is opened if it cannot be."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from adabn_cli.data.deep_values import ValueRange
from adabn_cli.data.folder_files import files_below
from adabn_cli.errors import TargetError, UsageError
from adabn_cli.files import may_write, require_apart
from adabn_cli.jobs.preprocessing import (
    PreprocessingOptions,
)
from adabn_cli.models.open import ModelRequest


class Clock(Protocol):
    """The time, and whether to go on."""

    @property
    def stopped(self) -> bool:
        """Whether watching is to end."""

    def now(self) -> datetime:
        """The time in UTC."""

    def wait(self, seconds: float) -> None:
        """Comes back after that time, or as soon as `stopped`."""


@dataclass(frozen=True, kw_only=True)
class WatchRequest:
    """What is watched, and how; see the options of those names. Seconds for times."""

    model: ModelRequest
    folder: Path
    out: Path
    preprocessing: PreprocessingOptions = field(default_factory=PreprocessingOptions)
    value_range: ValueRange | None = None
    max_pixels: int | None = None
    momentum: float = 0.1
    every: int = 32
    interval: float = 2.0
    patience: float | None = None
    max_images: int | None = None
    once: bool = False
    adapt_initial: bool = False
    force: bool = False

    @property
    def pack(self) -> Path:
        """The file that is written again and again."""
        return self.out / "pack.safetensors"


def require_usable(request: WatchRequest) -> None:
    """Raises TargetError or UsageError before the model is opened."""
    folder = request.folder
    if not folder.is_dir():
        raise TargetError(
            "This is not a folder." if folder.exists() else "There is no such folder.",
            where=str(folder),
            hint="Give a folder to watch; `adabn adapt` takes files and lists.",
        )
    if request.out.exists() and not request.out.is_dir():
        raise UsageError(
            "The output is a file.", where=str(request.out), hint="Give a folder to -o."
        )
    may_write(request.pack, inputs=request.model.files, force=request.force, in_new_folder=True)
    require_apart(request.pack, (picture.file for picture in files_below(folder).pictures))
