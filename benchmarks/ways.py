"""The ways to give a net the statistics of some batches: those of the peers, and adabn's.

Each changes the BatchNorm layers of the net it is given in place, in the words of its own manual.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adabn_cli.adaptation.engines import engine
from adabn_cli.adaptation.engines.passes import Passes
from adabn_cli.adaptation.installer import Installer
from adabn_cli.adaptation.methods import Adaptation
from adabn_cli.machine import keeping_freed
from adabn_cli.model import no_output, no_progress
from adabn_cli.models.live.module import EagerModel

Batches = Sequence[Tensor]

PLAIN = "plain eval pass"
KEPT = "plain eval pass, freed memory kept"
EXACT = "adabn exact"


@dataclass(frozen=True)
class Way:
    """`run` changes a net by some batches; `note` says what else the time holds, or lacks."""

    run: Callable[[nn.Module, Batches], None]
    note: str = ""


def plain(module: nn.Module, batches: Batches) -> None:
    """Changes nothing: one eval pass."""
    module.eval()
    with torch.inference_mode():
        for images in batches:
            module(images)


def plain_with_memory_kept(module: nn.Module, batches: Batches) -> None:
    """Changes nothing: one eval pass, as adabn would run it."""
    with keeping_freed():
        plain(module, batches)


def update_bn(module: nn.Module, batches: Batches) -> None:
    """The unweighted mean of the batches' means and variances."""
    torch.optim.swa_utils.update_bn(batches, module)
    module.eval()


def fvcore(module: nn.Module, batches: Batches) -> None:
    """Count-weighted sums of the batches' means and squares, in float32."""
    from fvcore.nn.precise_bn import update_bn_stats

    module.train()
    update_bn_stats(module, batches, num_iters=len(batches))
    module.eval()


def pytorch_adapt(module: nn.Module, batches: Batches) -> None:
    """A BatchNorm a domain, the target's a running average of momentum 0.1 from (0, 1)."""
    from pytorch_adapt.layers import AdaBNModel, AdaptiveBatchNorm2d

    of_both = AdaBNModel(copy.deepcopy(module), affine_domain=0)
    of_both.train()
    with torch.no_grad():
        for images in batches:
            of_both(images, domain=torch.ones(1, dtype=torch.long))
    for name, layer in of_both.model.named_modules():
        if isinstance(layer, AdaptiveBatchNorm2d):
            of_target = layer.bns[1]
            to = module.get_submodule(name)
            to.running_mean, to.running_var = of_target.running_mean, of_target.running_var
    module.eval()


def train_mode(module: nn.Module, batches: Batches) -> None:
    """The loop that one writes by hand: a running average of momentum 0.1 from the source's."""
    module.train()
    with torch.no_grad():
        for images in batches:
            module(images)
    module.eval()


def _adabn(name: str) -> Callable[[nn.Module, Batches], None]:
    def run(module: nn.Module, batches: Batches) -> None:
        count = sum(len(images) for images in batches)
        installer = Installer.of(EagerModel(module), Adaptation(), count)
        with keeping_freed():
            engine(name).estimate(installer, Passes.over(batches), no_output, no_progress)
        module.eval()

    return run


#: Name in the tables -> the way.
WAYS = {
    PLAIN: Way(plain, "the measure"),
    KEPT: Way(plain_with_memory_kept, "as adabn takes and gives back memory"),
    "torch update_bn": Way(update_bn, "scores nothing"),
    "fvcore update_bn_stats": Way(fvcore, "scores nothing"),
    "pytorch-adapt AdaBN": Way(pytorch_adapt, "scores nothing"),
    "train-mode loop": Way(train_mode, "scores nothing"),
    "adabn one-pass": Way(_adabn("one-pass"), "two passes: scores too"),
    EXACT: Way(_adabn("exact"), "scores too"),
}


def unavailable() -> dict[str, str]:
    """Ways that do not run here, and why."""
    found = {}
    for name, way in WAYS.items():
        try:
            net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
            way.run(net, (torch.zeros(2, 3, 2, 2),))
        except Exception as error:  # Of a third party: whatever it is, it is told.
            found[name] = f"{type(error).__name__}: {error}".splitlines()[0][:80]
    return found
