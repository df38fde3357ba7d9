"""Under which names a state dict's entries may be meant: as they are, with a prefix, without one.

A training module keeps its network as a part of itself, under a name of its choice, and losses and
metrics beside it. Which view is meant shows if an architecture has just its keys. Knows no
architecture and no file.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

#: Beginnings of names that a training module gives to what is not its network.
_BESIDE_NETWORK = (
    "acc",
    "auc",
    "augment",
    "auroc",
    "class_weight",
    "criterion",
    "f1",
    "loss",
    "metric",
    "mixup",
    "test_",
    "train_",
    "val_",
    "valid_",
)
#: timm's split BatchNorm keeps one more for each further split; only training runs them.
_SPLIT = re.compile(r"\.aux_bn\.\d+(\.|$)")
#: What moving averages count beside the weights.
AVERAGE_COUNTERS = frozenset({"n_averaged", "num_updates", "decay"})
#: Averages that are kept among the weights under names without dots.
_COPY = re.compile(r"(ema_|model_ema\.)\w+$")


@dataclass(frozen=True)
class KeyView:
    """Entries by the name they are seen under -> their key; `left_out` are the keys of the others.

    `whole` says that nothing of a network is left out.
    """

    names: dict[str, str]
    left_out: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether what is left out belongs to training, by its name."""
        return all(
            _is_aside(key) or key.lower().startswith(_BESIDE_NETWORK) for key in self.left_out
        )


def key_views(keys: Collection[str], stripped: Sequence[str]) -> Iterator[KeyView]:
    """The views of a state dict, the plain one first.

    Before those of all entries come those without what training alone reads: further BatchNorms of
    a split one, counters and copies of a moving average. A network that has these itself has more
    keys in common with the others.
    """
    aside = tuple(key for key in keys if _is_aside(key))
    if aside:
        for view in _views([key for key in keys if key not in aside], stripped):
            yield replace(view, left_out=(*aside, *view.left_out))
    yield from _views(keys, stripped)


def _is_aside(key: str) -> bool:
    return key in AVERAGE_COUNTERS or is_of_further_split(key) or _COPY.match(key) is not None


def is_of_further_split(name: str) -> bool:
    """Whether a layer or an entry is of a split BatchNorm's further ones."""
    return _SPLIT.search(name) is not None


def _views(keys: Collection[str], stripped: Sequence[str]) -> Iterator[KeyView]:
    """The plain view first.

    Then those with prefixes that were `stripped` from all keys (a network may have a single part of
    that name), and those of one part alone, the larger parts first.
    """
    yield KeyView({key: key for key in keys})
    for start in reversed(range(len(stripped))):
        prefix = "".join(stripped[start:])
        yield KeyView({prefix + key: key for key in keys})
    parts: dict[str, list[str]] = {}
    for key in keys:
        parts.setdefault(key.partition(".")[0], []).append(key)
    for part in sorted(parts, key=lambda name: -len(parts[name])):
        inside = {key.removeprefix(f"{part}."): key for key in parts[part] if key != part}
        taken = set(inside.values())
        left_out = tuple(key for key in keys if key not in taken)
        while inside:
            yield KeyView(inside, left_out)
            inside = _without_shared_part(inside)


def _without_shared_part(names: dict[str, str]) -> dict[str, str]:
    """The names without their first part, where they share it; none if they do not."""
    parts = {name.partition(".")[0] for name in names}
    if len(parts) != 1 or parts & names.keys():
        return {}
    prefix = f"{parts.pop()}."
    return {name.removeprefix(prefix): key for name, key in names.items()}
