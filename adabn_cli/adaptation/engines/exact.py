"""Self-consistent statistics in one forward: every batch waits at a site until all have arrived.

Site k is measured while every site before it already runs with its final target statistics, which
is what the deployed model will see. Does not depend on batch size or order.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from adabn_cli.adaptation.engines.meeting import meet_at_every_site
from adabn_cli.adaptation.engines.observe import pool
from adabn_cli.adaptation.engines.passes import Estimate, Passes, PassNotes
from adabn_cli.adaptation.installer import Installer
from adabn_cli.model import Outputs, OutputSink, Progress, Signal, Site
from adabn_cli.moments import Moments, SiteMoments

side_by_side, is_stream = True, False

# A layer that is used again behind itself needs a fixed point; sequential reuse takes 5 to 20.
_MAX_FORWARDS = 30
_SETTLED = 1e-7


def estimate(
    installer: Installer, passes: Passes, on_outputs: OutputSink, progress: Progress
) -> Estimate:
    """Adapts in one forward, whose last stretch is the adapted model's own output.

    A site used several times in one forward pools its uses. What its first use does depends on
    what its last one will show, so such models repeat the forward, with those sites held at a
    damped average of the rounds, until they settle (1e-7 of a standard deviation) or 30 forwards.
    """
    notes = passes.begin()
    if (known := notes.estimate()) is not None:
        for index, outputs in notes.outputs():
            on_outputs(index, outputs)
        for name, moments in known.installed.items():
            installer.install(installer.sites[name], moments)
        return known

    def noted(index: int, outputs: Outputs) -> None:
        notes.note_outputs(index, outputs)
        on_outputs(index, outputs)

    found = _settled(installer, passes, noted, progress, notes)
    notes.note_estimate(found)
    return found


def _settled(
    installer: Installer,
    passes: Passes,
    on_outputs: OutputSink,
    progress: Progress,
    notes: PassNotes,
) -> Estimate:
    forward = _Forward(installer, {}, notes)
    forward.run(passes, on_outputs, progress)
    held = {name: forward.installed[name] for name in forward.reused & forward.installed.keys()}
    damping, last_gap, forwards = 1.0, float("inf"), 1
    while held and forwards < _MAX_FORWARDS:
        # Only the first forward is noted: few models need another.
        forward = _Forward(installer, held, PassNotes())
        forward.run(passes, on_outputs, progress)
        forwards += 1
        wanted = {name: forward.wanted(name) for name in held}
        gap = max(_distance(held[name], wanted[name], forward.sites[name].eps) for name in held)
        if gap < _SETTLED:
            break
        # Parallel reuse (a head shared by levels) settles undamped; sequential reuse may swing.
        damping = max(damping / 2, 0.25) if gap > last_gap / 2 else damping
        last_gap = gap
        if forwards < _MAX_FORWARDS:
            held = {name: _between(held[name], wanted[name], damping) for name in held}
    return Estimate(forward.installed, forward.measured, forwards)


class _Forward:
    """One forward of all batches side by side. `held` sites are installed before it starts."""

    def __init__(self, installer: Installer, held: dict[str, Moments], notes: PassNotes) -> None:
        self.installer = installer
        self.held = held
        self.notes = notes
        self.passed = 0
        self.sites: dict[str, Site] = {}
        self.measured: dict[str, SiteMoments] = {}
        self.installed: dict[str, Moments] = {}
        self.reused: set[str] = set()

    def run(self, passes: Passes, on_outputs: OutputSink, progress: Progress) -> None:
        for site in self.installer.model.sites:
            if site.name in self.held:
                self._install(site, self.held[site.name])
        for name, moments in _once_each(self.notes.sites()):
            self._take(self.installer.sites[name], moments)
            self.passed += 1
        meet_at_every_site(self.installer.model, passes, self, on_outputs, progress)

    def measure(self, signal: Signal, batch: int) -> SiteMoments:
        return self.installer.measure(signal, batch)

    def visit(self, site: Site, moments: SiteMoments) -> None:
        self.notes.note_site(site.name, moments)
        self._take(site, moments)

    def wanted(self, name: str) -> Moments:
        return self.installer.wanted(self.sites[name], self.measured[name])

    def _take(self, site: Site, moments: SiteMoments) -> None:
        if site.name in self.measured:
            self.reused.add(site.name)
        self.sites[site.name] = site
        pool(self.measured, site.name, moments)
        if not self.measured[site.name].pixels.count:
            return  # A box head shows nothing of pictures without a box.
        if site.name in self.installer.selected and site.name not in self.held:
            self._install(site, self.wanted(site.name))

    def _install(self, site: Site, moments: Moments) -> None:
        self.installed[site.name] = moments
        self.installer.install(site, moments)


def _once_each(sites: Sequence[tuple[str, SiteMoments]]) -> Sequence[tuple[str, SiteMoments]]:
    """The sites up to the first that comes again: until then each has had one statistic only."""
    names = [name for name, _ in sites]
    first = next((i for i, name in enumerate(names) if name in names[:i]), len(names))
    return sites[:first]


def _distance(a: Moments, b: Moments, eps: float) -> float:
    """The largest difference over channels, in standard deviations."""
    scale_C = (a.var_C + eps).sqrt()
    mean_C = (a.mean_C - b.mean_C).abs() / scale_C
    std_C = ((b.var_C + eps).sqrt() - scale_C).abs() / scale_C
    return float(torch.maximum(mean_C, std_C).max())


def _between(a: Moments, b: Moments, weight: float) -> Moments:
    """The point that lies `weight` of the way from a to b."""
    mean_C = a.mean_C + weight * (b.mean_C - a.mean_C)
    var_C = a.var_C + weight * (b.var_C - a.var_C)
    return Moments.of_variance(b.count, mean_C, var_C)
