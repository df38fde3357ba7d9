"""What adapting one model to one target did. Plain data; a record is made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from adabn_cli.adaptation.installer import Installer
from adabn_cli.jobs.method.contest import Adapted
from adabn_cli.jobs.method.judging import Judgement
from adabn_cli.jobs.method.observed import Observed
from adabn_cli.measures.residual import WorstResidual


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Before and after; `uses` is how often one forward comes to each site.

    `residual` is None if the adapted model was not looked at again, `judgement` without a profile.
    """

    before: Observed
    after: Adapted
    residual: WorstResidual | None
    judgement: Judgement | None
    uses: Mapping[str, int]

    @property
    def installer(self) -> Installer:
        """What installed the adapted model."""
        return self.after.installer
