"""Which architecture a state dict belongs to, by its keys and shapes.

Knows the index and how to build what it names; knows no checkpoint file. A name counts only if
the installed library builds just these keys and shapes. If several do, they count as one if they
compute the same; if they do not, that is an error: equal keys do not make an equal network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from adabn_cli.errors import ModelError, UsageError
from adabn_cli.models.architectures.build import (
    Architecture,
    Differences,
    build_named,
    load_entries,
)
from adabn_cli.models.architectures.index import ArchitectureIndex, preference
from adabn_cli.models.architectures.libraries import (
    LIBRARIES,
    Shapes,
    installed_libraries,
    shapes_of,
)
from adabn_cli.models.architectures.unknown_weights import not_for_pictures, renamed_by_a_tool
from adabn_cli.text import first_few

_NEAREST = 3
_TOLERANCE = 1e-4


def recognize_architecture(
    entries: Mapping[str, Tensor], claimed: str | None = None
) -> Architecture:
    """The architecture of torchvision or timm that fits the state dict, sized like it.

    `claimed` is a name from the checkpoint's metadata, with or without its library. It decides
    between names that fit, and is passed over if it does not fit or is of another package.
    Raises ModelError if none fits, naming the nearest and what differs, and if several fit
    that give other outputs for the same picture.
    """
    shapes = shapes_of(entries)
    index = ArchitectureIndex.shipped()
    confirmed = _fitting(_claims(claimed), shapes)
    fitting = confirmed or _fitting(index.names(shapes), shapes)
    if not fitting:
        raise _unknown(index, shapes)
    likely, unlikely = _by_published_weights(list(fitting))
    first = fitting[likely[0]]
    stranger = _first_that_differs([fitting[name] for name in likely], entries)
    if stranger is not None:
        raise ModelError(
            f"The weights fit {len(likely)} architectures that do not all compute the same: "
            f"{_listed(likely)}.",
            where=f"{first.name} and {stranger} give other outputs for the same picture",
            hint=f"Say which it is, for example --arch {first.name}.",
        )
    origin = "checkpoint metadata" if confirmed else "matched by keys and shapes"
    return replace(first, source=_source(origin, likely, unlikely))


def _claims(claimed: str | None) -> list[str]:
    """The full names that a claim may mean; none for one that would import anything else."""
    if not claimed:
        return []
    package, colon, _ = claimed.partition(":")
    if colon:
        return [claimed] if package in LIBRARIES else []
    return [f"{library}:{claimed}" for library in LIBRARIES]


def _by_published_weights(names: list[str]) -> tuple[list[str], list[str]]:
    """The names that have published weights, and the others; all are the first if none has.

    Nearly every checkpoint was made from published weights or from an architecture that has them.
    Without this a plain ResNet-18 would be refused for timm's resnetblur18, which has none.
    """
    libraries = installed_libraries()

    def is_published(full_name: str) -> bool:
        package, _, name = full_name.partition(":")
        return libraries[package].published(name).preprocessing is not None

    published = [name for name in names if is_published(name)]
    if not published:
        return names, []
    return published, [name for name in names if name not in published]


def _source(origin: str, likely: list[str], unlikely: list[str]) -> str:
    source = f"{origin} ({likely[0].partition(':')[0]})"
    if likely[1:]:
        source += f"; computes the same as {_listed(likely[1:])}"
    if unlikely:
        source += f"; {_listed(unlikely)} would fit too, but has no published weights"
    return source


def _listed(names: list[str], shown: int = 12) -> str:
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")


def _fitting(names: list[str], shapes: Shapes) -> dict[str, Architecture]:
    """The names whose installed builder gives these shapes, the preferred one first."""
    fitting = {}
    for name in sorted(names, key=preference):
        built = _built(name, shapes)
        if built is not None and _differences(built, shapes).count == 0:
            fitting[name] = built
    return fitting


def _built(full_name: str, shapes: Shapes) -> Architecture | None:
    """The architecture; None if the installed libraries do not have it, or not any more."""
    package, _, name = full_name.partition(":")
    try:
        return build_named(package, name, {}, shapes)
    except UsageError:
        return None


def _differences(architecture: Architecture, shapes: Shapes) -> Differences:
    return Differences.between(shapes_of(architecture.module.state_dict()), shapes)


def _first_that_differs(
    candidates: list[Architecture], entries: Mapping[str, Tensor]
) -> str | None:
    """The name of the first whose outputs for a fixed picture are not those of the one in front."""
    first, *others = candidates
    if not others:
        return None
    picture = _picture(first, entries)
    expected = _outputs(first, entries, picture)
    for other in others:
        if not _same(_outputs(other, entries, picture), expected):
            return other.name
    return None


def _picture(architecture: Architecture, entries: Mapping[str, Tensor]) -> Tensor:
    """Fixed noise [1, C, H, W] of the published size, C as the first convolution takes it."""
    published = architecture.preprocessing
    height, width = published.size if published else (224, 224)
    first = next((tensor for tensor in entries.values() if tensor.dim() == 4), None)
    channels = 3 if first is None else int(first.shape[1])
    return torch.randn(1, channels, height, width, generator=torch.Generator().manual_seed(0))


def _outputs(
    architecture: Architecture, entries: Mapping[str, Tensor], picture: Tensor
) -> list[Tensor]:
    """Outputs with the weights loaded; none if the architecture refuses the picture's size."""
    load_entries(architecture.module, entries, architecture.name)
    try:
        with torch.no_grad():
            return list(_tensors(architecture.module.eval()(picture)))
    except (RuntimeError, AssertionError):
        return []


def _tensors(outputs: object) -> Iterator[Tensor]:
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, Mapping):
        for value in outputs.values():
            yield from _tensors(value)
    elif isinstance(outputs, (tuple, list)):
        for value in outputs:
            yield from _tensors(value)


def _same(outputs: list[Tensor], expected: list[Tensor]) -> bool:
    if not expected or len(outputs) != len(expected):
        return False
    return all(
        one.shape == other.shape
        and torch.allclose(one, other, rtol=0, atol=_TOLERANCE * float(other.abs().max()))
        for one, other in zip(outputs, expected, strict=True)
    )


def _unknown(index: ArchitectureIndex, shapes: Shapes) -> ModelError:
    """What the weights are, as far as it shows, and what to do with them."""
    what, where = "The weights fit no architecture that is known here.", _first_entries(shapes)
    if told := renamed_by_a_tool(shapes) or not_for_pictures(shapes):
        return ModelError(f"{what} {told[0]}", where=where, hint=told[1])
    if not any(len(shape) > 1 for shape in shapes.values()):
        hint = 'Save a network: torch.save(model.state_dict(), "model.pth").'
        return ModelError(f"{what} There is nothing to adapt in them.", where=where, hint=hint)
    nearest = "; ".join(_nearest(index, shapes))
    where = f"Nearest: {nearest}" if nearest else where
    named = "--arch (package.module:CALLABLE or path/to/file.py:CALLABLE)"
    if any(key.endswith("running_mean") for key in shapes):
        return ModelError(what, where=where, hint=f"Name it with {named}.")
    return ModelError(
        f"{what} No entry is a normalizer's statistics: without a source profile there is "
        "nothing to adapt.",
        where=where,
        hint=f"Give --profile, and name it with {named}.",
    )


def _first_entries(shapes: Shapes) -> str:
    return f"entries: {first_few(list(shapes), 3)}" if shapes else "no entries"


def _nearest(index: ArchitectureIndex, shapes: Shapes) -> list[str]:
    """The most similar architectures that have half of the entries, each with what differs."""
    lines: list[tuple[int, str]] = []
    for name in index.nearest(shapes)[:_NEAREST]:
        built = _built(name, shapes)
        if built is None:
            continue
        network = shapes_of(built.module.state_dict())
        if 2 * len(network.items() & shapes.items()) >= max(len(network), len(shapes)):
            differences = Differences.between(network, shapes)
            lines.append((differences.count, f"{name} ({differences.listed(1)})"))
    return [line for _, line in sorted(lines)]
