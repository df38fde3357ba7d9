"""Train-mode statistics in one pass, as peers compute them, for comparison.

Each batch is normalized by its own statistics while it is measured, so what a site sees depends on
the batch size and on the order. Better than the peers in two things that cost nothing: batches
count by their size, and the variance between batches is kept. Dropout stays off.
"""

from __future__ import annotations

from contextlib import closing

from adabn_cli.adaptation import Installer
from adabn_cli.batch import Batches, OutputSink, Progress
from adabn_cli.engines.estimate import Estimate
from adabn_cli.engines.observe import observe, pool
from adabn_cli.model import Site
from adabn_cli.moments import SiteMoments


def estimate(
    installer: Installer, batches: Batches, on_outputs: OutputSink, progress: Progress
) -> Estimate:
    """Adapts in one pass; a second one, in eval mode, scores and measures the adapted model."""
    model, total = installer.model, 2 * len(batches)
    seen: dict[str, SiteMoments] = {}
    sites: dict[str, Site] = {}
    for index, images in enumerate(batches):
        with closing(model.suspended(images)) as forward:
            for signal in forward:
                site, moments = signal.site, installer.measure(signal, index)
                sites[site.name] = site
                pool(seen, site.name, moments)
                if site.name in installer.selected:
                    installer.install(site, moments.pixels)
        progress(index + 1, total)
    installed = {
        name: installer.wanted(sites[name], moments)
        for name, moments in seen.items()
        if name in installer.selected
    }
    for name, wanted in installed.items():
        installer.install(sites[name], wanted)
    measured = observe(
        model,
        batches,
        on_outputs,
        lambda done, of: progress(len(batches) + done, total),
        installer.measure,
    )
    return Estimate(installed, measured, forwards=2)
