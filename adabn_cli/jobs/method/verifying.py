"""Whether the adapted model sees what was installed: one more pass, and the worst site."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from adabn_cli.adaptation.engines.observe import observe
from adabn_cli.adaptation.engines.passes import Estimate, Passes
from adabn_cli.adaptation.installer import Installer
from adabn_cli.adaptation.rules import RULES
from adabn_cli.measures.residual import WorstResidual, residual, worst
from adabn_cli.model import Model, Progress, Signal, no_output
from adabn_cli.moments import Moments, SiteMoments


def as_written(installer: Installer, passes: Passes, progress: Progress) -> dict[str, SiteMoments]:
    """What the sites show in the adapted model as it will be written.

    Scale and shift are in its weights then, rounded as they are stored. They are taken out of what
    is measured, for their sites' statistics are of the outputs without them.
    """
    state = installer.model.state()
    outputs = {
        site.name: [state[site.keys[role]].clone() for role in ("shift", "scale")]
        for site in installer.model.sites
        if "scale" in site.keys
    }

    def measure(signal: Signal, batch: int) -> SiteMoments:
        if signal.site.name in outputs:
            signal = signal._replace(
                activation=_undone(signal.activation, *outputs[signal.site.name])
            )
        return installer.measure(signal, batch)

    with _folded(installer.model):
        return observe(installer.model, passes, no_output, progress, measure)


def _undone(output: Tensor, shift_C: Tensor, scale_C: Tensor) -> Tensor:
    """The output [n, C, *] as it is without shift and scale."""
    shape = [1, -1] + [1] * (output.dim() - 2)
    return (output - shift_C.to(output).view(shape)) / scale_C.to(output).view(shape)


@contextmanager
def _folded(model: Model) -> Iterator[None]:
    """Inside, scale and shift of every output are in the weights."""
    state, new = model.state(), dict(model.folded())
    for site in model.sites if new else ():
        if "scale" in site.keys:
            new[site.keys["scale"]] = torch.ones_like(state[site.keys["scale"]])
            new[site.keys["shift"]] = torch.zeros_like(state[site.keys["shift"]])
    held = {key: state[key].clone() for key in new}
    model.load_state(new)
    try:
        yield
    finally:
        model.load_state(held)


def worst_residual(
    installer: Installer, estimate: Estimate, seen: Mapping[str, SiteMoments]
) -> WorstResidual | None:
    """The worst difference between what the model holds and what `seen` asks for, and its site.

    A kind that keeps all of what it absorbs is compared with that itself: by way of `absorb`, an
    error in it would be on both sides.
    """
    sites, state = installer.sites, installer.model.state()
    residuals = {}
    for name in estimate.installed:
        site, rule = sites[name], RULES[sites[name].kind]
        held = rule.believed(site, state)
        wanted: Moments | None = installer.wanted(site, seen[name])
        if wanted is not None and not rule.keeps_all:
            # What the site would believe if it had absorbed it.
            wanted = rule.believed(site, {**state, **rule.absorb(site, state, wanted)})
        if held is not None and wanted is not None:
            residuals[name] = residual(held, wanted, site.eps)
    return worst(residuals)
