"""Train-mode statistics in one pass, as peers compute them, for comparison.

Each batch is normalized by its own statistics while it is measured, so what a site sees depends on
the batch size and on the order. Better than the peers in two things that cost nothing: batches
count by their size, and the variance between batches is kept. Dropout stays off.
"""

from __future__ import annotations

from collections.abc import Mapping

from adabn_cli.adaptation.engines.observe import OneBatch, observe, over_all, watched
from adabn_cli.adaptation.engines.passes import Estimate, Passes
from adabn_cli.adaptation.installer import Installer
from adabn_cli.model import Outputs, OutputSink, Progress, Site, Suspended, no_output
from adabn_cli.moments import Moments, SiteMoments

side_by_side, is_stream = False, False


def estimate(
    installer: Installer, passes: Passes, on_outputs: OutputSink, progress: Progress
) -> Estimate:
    """Adapts in one pass; a second one, in eval mode, scores and measures the adapted model."""
    model, count = installer.model, len(passes.batches)
    seen = over_all(
        model,
        passes,
        train_mode(installer),
        no_output,
        lambda done, of: progress(done, 2 * count),
    )
    installed = install_seen(installer, seen)
    measured = observe(
        model,
        passes,
        on_outputs,
        lambda done, of: progress(count + done, 2 * count),
        installer.measure,
    )
    return Estimate(installed, measured, forwards=2)


def train_mode(installer: Installer) -> OneBatch:
    """Measures a batch that is normalized by itself at every selected site; gives no outputs."""

    def at_site(site: Site, moments: SiteMoments) -> None:
        if site.name in installer.selected and moments.pixels.count:
            installer.install(site, moments.pixels)

    def one_batch(run: Suspended, index: int) -> tuple[dict[str, SiteMoments], Outputs]:
        return watched(run, installer.measure, index, at_site)[0], None

    return one_batch


def install_seen(installer: Installer, seen: Mapping[str, SiteMoments]) -> dict[str, Moments]:
    """Installs at every selected site what all batches showed there; returns that, by site."""
    installed = {
        name: installer.wanted(installer.sites[name], moments)
        for name, moments in seen.items()
        if name in installer.selected and moments.pixels.count
    }
    for name, wanted in installed.items():
        installer.install(installer.sites[name], wanted)
    return installed
