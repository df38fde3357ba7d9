"""Why a model does not run on a picture, and what to do about it: by the error, and by trying.

Knows what torch says of channels and arguments; no file and no option but those it names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from adabn_cli.errors import AdabnError, ModelError, UsageError
from adabn_cli.model import Model
from adabn_cli.models.architectures.libraries import shapes_of
from adabn_cli.models.architectures.unknown_weights import not_for_pictures

#: Who gave the pictures: options of a command, or Python code that has them as tensors.
Door = Literal["options", "tensors"]

# What torch says of a convolution, and of a normalizer, that got other channels than it takes.
_CHANNELS = (
    re.compile(r"to have (?P<takes>\d+) channels, but got (?P<got>\d+) channels"),
    re.compile(r"running_mean should contain (?P<got>\d+) elements not (?P<takes>\d+)"),
)
_ARGUMENTS = re.compile(r"missing (?:\d+ required positional|value for) arguments?:? (?P<names>.+)")
# Sides in pixels that networks are trained for, from MNIST to detectors.
_SIDES = (28, 32, 48, 64, 96, 112, 128, 160, 192, 224, 240, 256, 299, 320, 384, 448, 512)


def cannot_run(error: Exception, model: Model, pictures: Tensor, door: Door) -> AdabnError:
    """The error to raise in place of the one that a forward of pictures [n, C, H, W] raised."""
    if not pictures.is_floating_point():
        return UsageError(
            f"The images are {str(pictures.dtype).removeprefix('torch.')}, and the model takes "
            "floats.",
            hint="Give them as the model takes them, e.g. images.float() / 255, normalized as in "
            "training.",
        )
    why, hint = next(_reasons(error, model, pictures, door))
    return ModelError(
        f"The model cannot run on a picture of shape {tuple(pictures.shape[1:])}{why}.",
        where=f"{type(error).__name__}: {error}".strip().splitlines()[-1],
        hint=hint,
    )


def instead_of_pictures(model: Model, door: Door) -> tuple[str, str] | None:
    """What a model takes by the look of its convolutions, and what to do; None if pictures."""
    return not_for_pictures(shapes_of(model.state()), vectors=False) if door == "options" else None


def runs(model: Model, pictures: Tensor) -> bool:
    """Whether the model runs on such pictures."""
    try:
        model.forward(pictures)
    except MemoryError:
        raise
    except Exception:  # The network's code may raise whatever it likes.
        return False
    return True


def _reasons(
    error: Exception, model: Model, pictures: Tensor, door: Door
) -> Iterator[tuple[str, str]]:
    """What is wrong and what to do, the surest first; the last one is always there."""
    text, channels = str(error), pictures.shape[1]
    if unlike := instead_of_pictures(model, door):
        yield f". {unlike[0].rstrip('.')}", unlike[1]
    if names := _ARGUMENTS.search(text):
        asked = names["names"].splitlines()[0].replace("'", "").rstrip(".")
        hint = f"Wrap it in a module whose forward(images) gives {asked} itself, and give that one."
        yield f" alone: its forward takes {asked} too", hint
    if takes := channels_asked(error, channels):
        yield f": it takes {channel_count(takes)}", _with_channels(takes, door)
    if len(pictures) > 1 and runs(model, pictures[:1]):
        hint = "Give --batch-size 1." if door == "options" else "Give batches of one image."
        yield " among others: it takes one at a time", hint
    for side in _SIDES if pictures.dim() == 4 else ():
        if runs(model, torch.zeros(1, channels, side, side)):
            yield (
                f": it does on one of {side} x {side} pixels",
                "Give --img-size as in training."
                if door == "options"
                else "Give images of the size in training.",
            )
    yield (
        "",
        "See that it runs on such a tensor in plain PyTorch; then check --arch and --img-size."
        if door == "options"
        else "See that it runs on such a tensor in plain PyTorch.",
    )


def channels_asked(error: Exception, channels: int) -> int | None:
    """How many channels the network takes, where it failed because pictures have `channels`."""
    for pattern in _CHANNELS:
        found = pattern.search(str(error))
        if found and int(found["got"]) == channels:
            return int(found["takes"])
    return None


def channel_count(count: int) -> str:
    """A number of channels in words."""
    return "1 channel" if count == 1 else f"{count} channels"


def _with_channels(takes: int, door: Door) -> str:
    if door == "tensors":
        return f"Give images [n, {takes}, H, W]."
    if takes not in (1, 3):
        return "Only models of gray or RGB pictures can be adapted."
    return f"Give {takes} number{'s' * (takes > 1)} to --mean and --std."
