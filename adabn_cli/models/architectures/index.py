"""What every architecture's state dict looks like: names and shapes, in an index that ships.

Knows keys, shapes and hashes. Builds nothing and knows no library: the names in the index are only
claims, for whoever asks to verify.

    keys hash -> tensors, sketch, free dimensions -> shapes hash -> parameters, names

Free dimensions are those that follow the number of classes or of input channels; they are left out
of the shapes hash. BatchNorm's `num_batches_tracked` is left out of everything.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]
Dimension = tuple[str, int]

FILE_NAME = "architecture_index.json"
_SKETCH_SIZE = 16
# Half of one's keys in common is a third of all; a sketch of 16 tells that to within a tenth.
_FAR = 0.75


def without_counters(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """The shapes of all entries but the batch counters, which old checkpoints lack."""
    return {key: shape for key, shape in shapes.items() if not is_counter(key)}


def is_counter(key: str) -> bool:
    """True for BatchNorm's batch counters, which no eval forward reads."""
    return key.rpartition(".")[2] == "num_batches_tracked"


@dataclass(frozen=True)
class Entry:
    """One architecture's shapes, as a builder gives them, and which dimensions are free."""

    name: str
    shapes: Shapes
    free: frozenset[Dimension]


class ArchitectureIndex:
    """The index, read from its JSON document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.versions: Mapping[str, str] = document["versions"]
        self._groups: Mapping[str, Any] = document["architectures"]

    @classmethod
    def shipped(cls) -> ArchitectureIndex:
        """The one that comes with this package."""
        text = (
            files("adabn_cli.models.architectures").joinpath(FILE_NAME).read_text(encoding="utf-8")
        )
        return cls(json.loads(text))

    def names(self, shapes: Shapes) -> list[str]:
        """The architectures with just these keys and shapes, free dimensions aside."""
        shapes = without_counters(shapes)
        group = self._groups.get(keys_hash(shapes))
        if group is None:
            return []
        free = {(key, axis) for key, axes in group["free"].items() for axis in axes}
        match = group["shapes"].get(shapes_hash(shapes, free))
        return [] if match is None else list(match["names"])

    def nearest(self, shapes: Shapes) -> list[str]:
        """The names that may share half of their keys, most alike first; then by parameters.

        Architectures of the same shapes stand together, so only the first of them is listed.
        """
        shapes = without_counters(shapes)
        sketch, parameters = key_sketch(shapes), parameter_count(shapes)
        ranked: list[tuple[float, float, str]] = []
        for group in self._groups.values():
            distance = 1.0 - similarity(sketch, _unpacked(group["sketch"]))
            if distance > _FAR:
                continue
            for match in group["shapes"].values():
                ratio = abs(math.log((match["parameters"] + 1) / (parameters + 1)))
                ranked.append((distance, ratio, match["names"][0]))
        return [name for _, _, name in sorted(ranked)]


def document_of(versions: Mapping[str, str], entries: Iterable[Entry]) -> dict[str, Any]:
    """The index of these architectures as a JSON document, the same for any order of them."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(keys_hash(without_counters(entry.shapes)), []).append(entry)
    architectures = {key: _group(groups[key]) for key in sorted(groups)}
    return {"versions": dict(sorted(versions.items())), "architectures": architectures}


def _group(entries: list[Entry]) -> dict[str, Any]:
    # One architecture may fix a dimension that another of the same keys leaves free; the shapes
    # hash needs one list for both. A name too many is dropped when it is built.
    free = frozenset[Dimension]().union(*(entry.free for entry in entries))
    matches: dict[str, dict[str, Any]] = {}
    for entry in sorted(entries, key=lambda entry: preference(entry.name)):
        shapes = without_counters(entry.shapes)
        counted = {
            key: tuple(1 if (key, axis) in free else size for axis, size in enumerate(shape))
            for key, shape in shapes.items()
        }
        match = matches.setdefault(
            shapes_hash(shapes, free), {"parameters": parameter_count(counted), "names": []}
        )
        if entry.name not in match["names"]:
            match["names"].append(entry.name)
    axes: dict[str, list[int]] = {}
    for key, axis in sorted(free):
        axes.setdefault(key, []).append(axis)
    shapes = without_counters(entries[0].shapes)
    sketch = "".join(f"{value:08x}" for value in key_sketch(shapes))
    return {"free": axes, "sketch": sketch, "shapes": dict(sorted(matches.items()))}


def preference(name: str) -> tuple[bool, int, str]:
    """Sorts torchvision before timm, then the shortest name first."""
    return (not name.startswith("torchvision:"), len(name), name)


def keys_hash(shapes: Shapes) -> str:
    """16 hex digits of the sorted keys."""
    return _hash("\n".join(sorted(shapes)))


def shapes_hash(shapes: Shapes, free: Iterable[Dimension]) -> str:
    """16 hex digits of the shapes in order of their keys, free dimensions left out."""
    skipped = set(free)
    lines = (
        ",".join("*" if (key, axis) in skipped else str(size) for axis, size in enumerate(shape))
        for key, shape in sorted(shapes.items())
    )
    return _hash("\n".join(lines))


def parameter_count(shapes: Shapes) -> int:
    """How many numbers the state holds."""
    return sum(math.prod(shape) for shape in shapes.values())


def key_sketch(keys: Iterable[str]) -> tuple[int, ...]:
    """The smallest 32-bit hashes of the keys: a bottom-k sketch (Broder 1997)."""
    return tuple(sorted(int(_hash(key)[:8], 16) for key in keys)[:_SKETCH_SIZE])


def similarity(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """Estimated share of keys that both have, of those that either has: 0 to 1."""
    smallest = set(sorted({*one, *other})[:_SKETCH_SIZE])
    shared = smallest & set(one) & set(other)
    return len(shared) / len(smallest) if smallest else 0.0


def _unpacked(sketch: str) -> tuple[int, ...]:
    return tuple(int(sketch[start : start + 8], 16) for start in range(0, len(sketch), 8))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
