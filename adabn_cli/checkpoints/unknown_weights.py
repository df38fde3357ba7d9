"""What a state dict that fits no architecture is, by its keys and shapes: a sentence and a hint.

Knows how training tools rename entries; knows no library, no file, and builds nothing.
"""

from __future__ import annotations

from collections.abc import Collection

from adabn_cli.checkpoints.architecture_index import Shapes

#: What a tool adds to the keys -> what the state is called, and what the network needs.
_RENAMED = (
    (("fake_quant", "activation_post_process"), "of quantization-aware training",
     "its observers, as prepare_qat gives it"),
    (("weight_orig", "bias_orig"), "with weights computed from others, as spectral norm's or "
     "pruning's", "the same norm or pruning applied"),
    ((".parametrizations.",), "of a parametrized network", "the same parametrizations registered"),
    (("weight_g", "weight_v"), "with weight norm", "weight norm applied"),
)  # fmt: skip
#: Dimensions of a convolution's kernel -> what the network takes.
_TAKES = {3: ("1-d", "signals"), 5: ("3-d", "volumes")}
_IN_PYTHON = "Adapt it in Python: adabn_cli.adapt(model, batches)."


def renamed_by_a_tool(
    entries: Collection[str], network: Collection[str] = ()
) -> tuple[str, str] | None:
    """What to say and to do of a state dict whose keys a training tool changed; None for others.

    Keys that the `network` has too say nothing.
    """
    keys = [key for key in entries if key not in network]
    for marks, state, needs in _RENAMED:
        key = next((key for key in keys if _has(key, marks)), None)
        if key is not None:
            return f"The file holds a state {state} ({key}).", _with(needs)
    fused = next((key for key in keys if _is_fused(key, entries)), None)
    if fused is None:
        return None
    return f"The file holds a state of fused layers in training ({fused}).", _with(
        "its convolutions fused, as fuse_modules_qat gives it"
    )


def not_for_pictures(shapes: Shapes) -> tuple[str, str] | None:
    """What to say and to do of a network of 1-d or 3-d layers; None for what may take pictures."""
    weights = [shape for key, shape in shapes.items() if key.endswith("weight")]
    if any(len(shape) == 4 for shape in weights):
        return None
    kernel = next((shape for shape in weights if len(shape) in _TAKES), None)
    if kernel is not None:
        layer, takes = _TAKES[len(kernel)]
        said = f"Its first convolution is {layer}: it takes {takes}, and adabn reads pictures."
    elif weights and any(key.endswith("running_mean") for key in shapes):
        said = "It has no convolution: it takes vectors, and adabn reads pictures."
    else:
        return None
    return said, _IN_PYTHON


def _has(key: str, marks: Collection[str]) -> bool:
    """Whether a mark is in the key; one of `weight_` and `bias_` is all of its last part."""
    last = key.rpartition(".")[2]
    return any(
        mark == last if mark.startswith(("weight_", "bias_")) else mark in key for mark in marks
    )


def _is_fused(key: str, entries: Collection[str]) -> bool:
    """A ConvBn2d keeps its BatchNorm inside, beside its own weight."""
    layer, bn, _ = key.partition(".bn.running_mean")
    return bool(bn) and f"{layer}.weight" in entries


def _with(needs: str) -> str:
    return f"Name with --arch a function that returns the network with {needs}."
