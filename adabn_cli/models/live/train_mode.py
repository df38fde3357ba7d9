"""Files that were saved in train mode: what is said of them, and live modules put in eval mode."""

from __future__ import annotations

from torch import nn

from adabn_cli.models.live.sites import distinct_layers

#: Of a file whose layers hold a flag, which is written anew.
SAVED_IN_TRAIN_MODE = (
    "The file was saved in train mode, in which it normalizes by each batch. It is run in eval "
    "mode, and what is written from it is in eval mode."
)
#: Of a graph that knows no other mode.
EXPORTED_IN_TRAIN_MODE = (
    "The file was saved in train mode, and as a graph it stays so: deployed, it normalizes by each "
    "batch, and so does what is written from it. Export it again after model.eval()."
)


def trains(module: nn.Module) -> bool:
    """Whether any layer of a module is in train mode."""
    return any(layer.training for _, layer in distinct_layers(module))


def put_in_eval_mode(module: nn.Module) -> None:
    """Sets the flags themselves: `train()` is overridden to merge weights, or to refuse."""
    for _, layer in distinct_layers(module):
        layer.training = False
