"""What is asked for: all that a run depends on, as the options of those names say it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from adabn_cli.adaptation.methods import Adaptation
from adabn_cli.data.listing import Location, files_of
from adabn_cli.dependence import FREE, option
from adabn_cli.errors import UsageError
from adabn_cli.jobs.adapt.memory_plan import Limits
from adabn_cli.jobs.preprocessing import PreprocessingOptions
from adabn_cli.jobs.scored_data import PicturesRequest
from adabn_cli.models.open import ModelRequest

#: What is done where the verdict is harm: the source model written instead, or an exit code.
OnHarm = Literal["keep", "warn", "fail"]


@dataclass(frozen=True, kw_only=True)
class AdaptRequest:
    """All that a run depends on; see the options of those names. A `dry_run` writes nothing."""

    model: ModelRequest = field(metadata=FREE)
    target: Location = field(metadata=FREE)
    preprocessing: PreprocessingOptions = field(default_factory=PreprocessingOptions, metadata=FREE)
    pictures: PicturesRequest = field(default_factory=PicturesRequest)
    adaptation: Adaptation = field(default_factory=Adaptation, metadata=FREE)
    engine: str = "exact"
    profile: Path | None = field(default=None, metadata=FREE)
    source: Location | None = field(default=None, metadata=FREE)
    verify: bool = False
    held_out: Location | None = field(default=None, metadata=option("--eval"))
    on_harm: OnHarm = "warn"
    folder: Path | None = field(default=None, metadata=FREE)
    force: bool = field(default=False, metadata=FREE)
    limits: Limits = field(default_factory=Limits, metadata=FREE)
    resume: bool = field(default=False, metadata=FREE)
    dry_run: bool = field(default=False, metadata=FREE)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files and folders that are named to be read."""
        data = files_of(self.target, self.source, self.held_out, self.profile)
        return (*self.model.files, *self.pictures.files, *data)


def check_on_harm(on_harm: str) -> None:
    """Raises UsageError for what is no such setting."""
    if on_harm not in get_args(OnHarm):
        raise UsageError(
            f"--on-harm {on_harm} is unknown.", hint=f"It takes {', '.join(get_args(OnHarm))}."
        )
