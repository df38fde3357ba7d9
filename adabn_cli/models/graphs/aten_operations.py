"""What part torch's own operators play beside normalizers, for TorchScript and exported programs.

Knows their names; runs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from adabn_cli.models.graphs.fold_places import Operation, Role, standing_as_folded, told

#: With the input, weight and bias first.
CONVOLUTIONS = ("conv1d", "conv2d", "conv3d", "convolution", "_convolution", "conv_transpose2d")
_ROLES: dict[Role, tuple[str, ...]] = {
    "activation": (
        *(
            "relu",
            "relu6",
            "leaky_relu",
            "prelu",
            "_prelu_kernel",
            "hardtanh",
            "clamp",
            "clamp_min",
        ),
        *("elu", "selu", "celu", "gelu", "silu", "hardswish", "mish", "softplus", "tanh"),
    ),
    "gate": ("sigmoid",),
    "product": ("mul",),
    "pool": ("adaptive_avg_pool2d", "_adaptive_avg_pool2d", "adaptive_max_pool2d", "mean"),
    "passed": (*CONVOLUTIONS, "view", "reshape"),
}

_LEFT = (
    "Layers that a BatchNorm is folded into are left as they are in this format. Give the "
    "checkpoint from before the fold, or its ONNX export with --reference or --source."
)


def operation(name: str, takes: Sequence[str], gives: Sequence[str], *, biased: bool) -> Operation:
    """The operator of that name, without namespace and overload; `biased` if it has a bias."""
    name = name if name.startswith("_") else name.removesuffix("_")  # relu_ works in place.
    role: Role = next((role for role, names in _ROLES.items() if name in names), "other")
    return Operation("convolution" if name in CONVOLUTIONS and biased else role, takes, gives)


def fold_notes(operations: Sequence[Operation], kept: int) -> tuple[str, ...]:
    """That BatchNorm may be folded into some layers beside those kept; nothing if into none."""
    maybe = len(standing_as_folded(operations))
    return (told([f"{kept} BatchNorm kept"], maybe), _LEFT) if maybe else ()
