"""What a model shows and says of the target as it is, before anything is installed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from adabn_cli.adaptation.engines.observe import observe
from adabn_cli.adaptation.engines.passes import Passes
from adabn_cli.adaptation.installer import Installer
from adabn_cli.measures.heads import Head
from adabn_cli.measures.scores import Scores
from adabn_cli.model import Progress
from adabn_cli.moments import SiteMoments


@dataclass(frozen=True)
class Observed:
    """The source model on the target: moments by site, in the order of the forward, and scores."""

    sites: Mapping[str, SiteMoments]
    scores: Scores


def observed(
    installer: Installer, passes: Passes, head: Head | None, progress: Progress
) -> Observed:
    """One pass that changes nothing; a `head` takes outputs that are not class scores."""
    scores = Scores(head=head)
    sites = observe(installer.model, passes, scores, progress, installer.measure)
    scores.join(passes.ranks)
    return Observed(sites, scores)
