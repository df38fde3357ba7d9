"""What a state dict that fits no architecture is, by its keys and shapes: a sentence and a hint.

Knows how training tools rename entries; knows no library, no file, and builds nothing.
"""

from __future__ import annotations

from collections.abc import Collection

from adabn_cli.models.architectures.index import Shapes

#: What a tool adds to the keys -> what the state is called, and what the network needs.
_SIMULATED = ("fake_quant", "activation_post_process")
_RENAMED = (
    (_SIMULATED, "of quantization-aware training", "its observers, as prepare_qat gives it"),
    (("weight_orig", "bias_orig"), "with weights computed from others, as pruning's",
     "the same pruning applied"),
    ((".parametrizations.",), "of a parametrized network", "the same parametrizations registered"),
    (("weight_g", "weight_v"), "with weight norm", "weight norm applied"),
)  # fmt: skip
#: Dimensions of a convolution's kernel -> what the network takes.
_TAKES = {3: ("1-d", "signals"), 5: ("3-d", "volumes")}
_IN_PYTHON = "Adapt it in Python: adabn_cli.adapt(model, batches)."
_FLATTENED = f"{_IN_PYTHON} If it flattens pictures itself, name it with --arch."
_BEFORE = (
    "Give the checkpoint from before prepare_qat: a fused layer quantizes its weight by the "
    "statistics that would be replaced."
)


def renamed_by_a_tool(
    entries: Collection[str], network: Collection[str] = ()
) -> tuple[str, str] | None:
    """What to say and to do of a state dict whose keys a training tool changed; None for others.

    Keys that the `network` has too say nothing.
    """
    keys = [key for key in entries if key not in network]
    fused = next((key for key in keys if _is_fused(key, entries, network)), None)
    for marks, state, needs in _RENAMED:
        key = next((key for key in keys if _has(key, marks)), None)
        if key is not None:
            hint = _BEFORE if fused and marks == _SIMULATED else _with(needs)
            return f"The file holds a state {state} ({key}).", hint
    if fused is None:
        return None
    return f"The file holds a state of fused layers in training ({fused}).", _with(
        "its convolutions fused, as fuse_modules_qat gives it"
    )


def not_for_pictures(shapes: Shapes, *, vectors: bool = True) -> tuple[str, str] | None:
    """What to say and to do of a network of 1-d or 3-d layers; None for what may take pictures.

    A net of linear layers may flatten them: without `vectors` nothing is said of it.
    """
    weights = [shape for key, shape in shapes.items() if key.endswith("weight")]
    if any(len(shape) == 4 for shape in weights):
        return None
    kernel = next((shape for shape in weights if len(shape) in _TAKES), None)
    if kernel is not None:
        layer, takes = _TAKES[len(kernel)]
        said = f"Its first convolution is {layer}: it takes {takes}, and adabn reads pictures."
        return said, _IN_PYTHON
    if vectors and weights and any(key.endswith("running_mean") for key in shapes):
        return "It has no convolution: it takes vectors, and adabn reads pictures.", _FLATTENED
    return None


def _has(key: str, marks: Collection[str]) -> bool:
    """Whether a mark is in the key; one of `weight_` and `bias_` is all of its last part."""
    last = key.rpartition(".")[2]
    return any(
        mark == last if mark.startswith(("weight_", "bias_")) else mark in key for mark in marks
    )


def is_simulated(key: str) -> bool:
    """Whether an entry is of simulated quantization; torch gives it the size of what is loaded."""
    return _has(key, _SIMULATED)


def _is_fused(key: str, entries: Collection[str], network: Collection[str]) -> bool:
    """Of quantization: BatchNorm inside a convolution, or behind it in what was one layer."""
    layer, bn, _ = key.partition(".bn.running_mean")
    if bn:
        return f"{layer}.weight" in entries
    layer, second, _ = key.partition(".1.running_mean")
    return bool(second) and f"{layer}.0.weight" in entries and f"{layer}.weight" in network


def _with(needs: str) -> str:
    return f"Name with --arch a function that returns the network with {needs}."
