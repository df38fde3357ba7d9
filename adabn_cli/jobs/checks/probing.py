"""What a model does with two pictures, before the long work: how it takes them, what it gives.

Order in memory, channels, order of the sites and entries of the outputs are found by running, never
read off the definition. Knows no label and no file.
"""

from __future__ import annotations

from contextlib import closing

import torch
from torch import Tensor

from adabn_cli.errors import AdabnError
from adabn_cli.jobs.checks.failed_forward import (
    Door,
    cannot_run,
    channels_asked,
    instead_of_pictures,
)
from adabn_cli.model import Boxes, Conduct, Model, Outputs

# Of the largest output. Another order in memory is another order of additions: 1e-6 on ResNet-18,
# 1e-3 where a GPU multiplies in TF32.
_ROUNDING = 1e-2


def first_outputs(model: Model, pictures: Tensor, door: Door = "options") -> Outputs:
    """What the model makes of one picture; it is settled to go by what running it shows.

    `pictures` [n, C, H, W] are one or two, in memory as all others will be. None if the outputs
    have no entry for each picture. Raises ModelError with the reason if the model does not take
    such pictures, UsageError if they are integers and it takes floats.
    """
    model.settle(Conduct())
    plain = pictures.contiguous()
    try:
        alone, order = in_stretches(model, plain[:1])
        as_is = None if pictures.is_contiguous() else _if_it_runs(model, pictures)
        contiguous = not (pictures.is_contiguous() or _alike(_first_of(as_is), alone))
        two = model.forward(plain) if as_is is None or contiguous else as_is
    except MemoryError:
        raise
    except Exception as error:  # The network's code may raise whatever it likes.
        if isinstance(error, AdabnError) and instead_of_pictures(model, door) is None:
            raise
        raise cannot_run(error, model, pictures, door) from error
    if len(pictures) == 1:  # A network that takes one at a time has an entry for it.
        two = _if_it_runs(model, torch.cat([plain, plain]))
        two = alone if two is None else two
    by_image = _of_each_picture(alone, two)
    model.settle(Conduct(contiguous, by_image, order))
    return alone if by_image else None


def channels_taken(model: Model, size: tuple[int, int], given: int | None = None) -> int | None:
    """How many channels the model takes, by running it on a picture of `size` (height, width).

    Tried are the channels `given`, 3, 1, and those of the first layer that is defined. If that
    layer takes three and one number is given, three come first: the number is for all of them.
    Where it runs on none, the first that it does not refuse: the size may be wrong. None if it
    refuses all.
    """
    defined, others = model.input_channels, []
    guesses = [3 if (given, defined) == (1, 3) else given, given, 3, 1, defined]
    for channels in dict.fromkeys(guess for guess in guesses if guess is not None):
        try:
            model.forward(torch.zeros(1, channels, *size))
        except MemoryError:
            raise
        except Exception as error:  # The network's code may raise whatever it likes.
            if channels_asked(error, channels) is None:
                others.append(channels)
        else:
            return channels
    return others[0] if others else None


def _if_it_runs(model: Model, pictures: Tensor) -> Outputs:
    """The outputs of the pictures; None where it fails, as `x.view(len(x), -1)` does."""
    try:
        return model.forward(pictures)
    except MemoryError:
        raise
    except Exception:  # The network's code may raise whatever it likes.
        return None


def _first_of(outputs: Outputs) -> Outputs:
    """What the outputs of several pictures say of the first."""
    if isinstance(outputs, Boxes):
        of_first_D = outputs.image_D == 0
        found = (outputs.image_D, outputs.class_D, outputs.scores_D)
        return Boxes(1, *(column_D[of_first_D] for column_D in found))
    return None if outputs is None else outputs[:1]


def in_stretches(model: Model, picture: Tensor) -> tuple[Outputs, tuple[str, ...]]:
    """The outputs of a forward that waits at every site, and the sites in its order."""
    order = []
    with closing(model.suspended(picture)) as forward:
        while True:
            try:
                order.append(next(forward).site.name)
            except StopIteration as end:
                return end.value, tuple(order)


def _alike(some: Outputs, others: Outputs) -> bool:
    """Whether outputs are the same up to rounding; not where there are none."""
    if isinstance(some, Boxes) and isinstance(others, Boxes):
        some, others = some.scores_D, others.scores_D
    if not (isinstance(some, Tensor) and isinstance(others, Tensor)):
        return False
    if some.shape != others.shape or not some.is_floating_point():
        return some.shape == others.shape and bool((some == others).all())
    rounding = max(_ROUNDING, 8 * torch.finfo(some.dtype).eps)
    some, others = some.double().nan_to_num(), others.double().nan_to_num()
    largest = float(others.abs().max()) if others.numel() else 0.0
    return bool(((some - others).abs() <= rounding * largest).all())


def _of_each_picture(alone: Outputs, two: Outputs) -> bool:
    """Whether there is an entry for each picture: of one shape, alone and beside another."""
    if isinstance(alone, Tensor) and isinstance(two, Tensor):
        return alone.shape[1:] == two.shape[1:]
    return isinstance(alone, Boxes)
