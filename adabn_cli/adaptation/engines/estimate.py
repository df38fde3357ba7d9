"""What an engine found out. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from adabn_cli.moments import Moments, SiteMoments


@dataclass(frozen=True)
class Estimate:
    """The statistics that were installed, and what the adapted model shows at its sites.

    `installed` names the adapted sites. `measured` names every site that was visited, in the order
    of the forward: the target's moments there while every earlier site is adapted. `forwards`
    counts the passes over the target.
    """

    installed: Mapping[str, Moments]
    measured: Mapping[str, SiteMoments]
    forwards: int
