"""Writes a model in another format, after the written file was opened again and compared."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from adabn_cli.errors import InputError, ModelError, UsageError
from adabn_cli.files import appearing, may_write, require_apart
from adabn_cli.jobs.checks.believing import require_sound
from adabn_cli.jobs.checks.probing import channels_taken, first_outputs
from adabn_cli.model import Model
from adabn_cli.models.convert import (
    converted,
    in_float32,
    require_convertible,
    state_of,
)
from adabn_cli.models.formats.known import format_by_ending
from adabn_cli.models.open import ModelRequest, OpenedModel, open_model
from adabn_cli.models.open_checkpoint import open_checkpoint

#: Of the largest output. onnxruntime adds in another order than torch: 1e-6 on ResNet-18.
_ROUNDING = 1e-4
_PICTURES = 3
_REPORT = "Report it with the file, and convert to .pth or .safetensors meanwhile."


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What was written, and how it was held against the source.

    `difference` is the largest between outputs, as a share of the largest output; None where only
    the entries were compared, to the bit.
    """

    path: Path
    source_format: str
    format: str
    architecture: str
    sites: int
    difference: float | None
    notes: tuple[str, ...]


def convert(
    request: ModelRequest,
    out: Path,
    *,
    size: tuple[int, int] | None,
    force: bool,
    float32: bool = False,
) -> Converted:
    """Writes the model to `out`, in the format of its ending; `size` is a graph's input size.

    With `float32` all floating values become that, as a model takes whose statistics overflow.

    Raises UsageError for an ending or a size that is not known and where `out` is taken, ModelError
    where the model cannot be converted or the file written is not the same network.
    """
    may_write(out, inputs=request.files, force=force)
    to = format_by_ending(out)
    opened = open_model(request)
    require_apart(out, opened.files)
    require_convertible(opened, to, request.path)
    require_sound(opened.model, request.path)  # Outputs that are NaN cannot be compared.
    if float32:
        opened = in_float32(opened, request.path)
    known = opened.model.preprocessing
    size = size or (known.size if known else None)
    if to.is_graph and size is None:
        raise UsageError(
            "Nothing says which size of pictures the graph is to take.",
            where=str(request.path),
            hint="Give --img-size, as in training.",
        )
    images = None if size is None else _random_pictures(opened.model, size)
    expected = None if images is None else _outputs(opened.model, images)
    content = converted(opened, to, images)
    with appearing(out) as temporary:
        temporary.write_bytes(content)
        try:
            difference = (
                _compared(open_model(ModelRequest(temporary)), opened, images, expected)
                if to.is_graph
                else _compared_entries(temporary, request, opened, images, expected)
            )
        except ModelError as error:
            # The temporary file means nothing to the reader.
            where = error.where.replace(str(temporary), str(out))
            raise ModelError(error.what, where=where, hint=error.hint) from error
    return Converted(
        path=out,
        source_format=opened.checkpoint.kind,
        format=to.called,
        architecture=opened.model.architecture,
        sites=len(opened.model.sites),
        difference=difference,
        notes=opened.notes,
    )


def _random_pictures(model: Model, size: tuple[int, int]) -> Tensor:
    """Pictures [n, C, height, width] that the model runs on, the same each time.

    Raises ModelError with the reason where it runs on none of this size.
    """
    known = model.preprocessing.channels if model.preprocessing else None
    channels = channels_taken(model, size, known) or known or 3
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(_PICTURES, channels, *size, generator=generator)
    first_outputs(model, pictures[:2])
    return pictures


def _compared_entries(
    written: Path,
    request: ModelRequest,
    opened: OpenedModel,
    images: Tensor | None,
    expected: Tensor | None,
) -> float | None:
    """As `_compared` where the architecture is known; the entries have to be equal to the bit."""
    entries, state = open_checkpoint(written).entries, state_of(opened)
    if entries.keys() != state.keys() or not all(
        torch.equal(entries[key], state[key]) for key in state
    ):
        raise ModelError("The file written holds other values.", where=str(written), hint=_REPORT)
    try:
        again = open_model(
            replace(ModelRequest(written), arch=request.arch, arch_args=request.arch_args)
        )
    except (InputError, UsageError):
        # A network of one's own, or a class that needs arguments, which a whole pickle is opened
        # without: equal entries are all that can be shown.
        return None
    return _compared(again, opened, images, expected)


def _compared(
    again: OpenedModel, opened: OpenedModel, images: Tensor | None, expected: Tensor | None
) -> float | None:
    """How far the outputs of the file written are from the source's; None without outputs.

    Raises ModelError where that is more than rounding, or where its sites are others.
    """
    if _sites(again.model) != _sites(opened.model):
        raise ModelError(
            f"The file written has {len(again.model.sites)} normalizers that can be adapted, the "
            f"model has {len(opened.model.sites)}.",
            where=again.model.architecture,
            hint="Convert it to .pth or .safetensors, which keep every layer.",
        )
    if images is None or expected is None:
        return None
    outputs = _outputs(again.model, images)
    if outputs is None or outputs.shape != expected.shape:
        raise ModelError(
            "The file written gives outputs of another shape.",
            where=str(again.checkpoint.path),
            hint=_REPORT,
        )
    largest = max(float(expected.abs().max()), torch.finfo(expected.dtype).tiny)
    difference = float((outputs - expected).abs().max()) / largest
    if not difference <= max(_ROUNDING, 8 * torch.finfo(getattr(torch, again.model.dtype)).eps):
        raise ModelError(
            f"The file written gives other outputs: they differ by {difference:.2g} of the largest "
            "one on random pictures.",
            where=str(again.checkpoint.path),
            hint=_REPORT,
        )
    return difference


def _sites(model: Model) -> Counter[tuple[str, int, float]]:
    """What sites there are; an export may call them otherwise. eps is a float32 in a graph."""
    return Counter((site.kind, site.channels, round(site.eps, 9)) for site in model.sites)


def _outputs(model: Model, images: Tensor) -> Tensor | None:
    """The outputs in float32; None where they are no tensor."""
    outputs = model.forward(images)
    return outputs.float().cpu() if isinstance(outputs, Tensor) else None
