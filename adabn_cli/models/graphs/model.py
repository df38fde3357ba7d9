"""A network that came as a graph, as a `Model`. Knows neither how the graph runs nor its file.

Shapes: N images, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adabn_cli.adaptation.rules import STORED
from adabn_cli.model import Conduct, FixedLayer, InputSize, Outputs, Signal, Site, Suspended
from adabn_cli.models.live.module import pick_outputs
from adabn_cli.models.metadata import Metadata
from adabn_cli.models.state import replace_values
from adabn_cli.preprocessing import Preprocessing

#: A forward that waits at every site and returns whatever the network returns.
GraphRun = Generator[Signal, None, Any]


@dataclass(frozen=True, kw_only=True)
class Network:
    """What a graph is made of. `entries` are its live parameters and buffers, by name.

    `run` starts a forward that waits at every site; `whole` is the same forward in one; both are
    called in `mode`. `notes` are sentences that the user should read.
    """

    name: str
    sites: Sequence[Site]
    fixed: Sequence[FixedLayer]
    input_channels: int | None
    entries: Mapping[str, Tensor]
    run: Callable[[Tensor], GraphRun]
    whole: Callable[[Tensor], Any]
    mode: Callable[[], AbstractContextManager[Any]] = torch.no_grad
    notes: tuple[str, ...] = ()
    input_size: InputSize = (None, None)


@dataclass(kw_only=True)
class GraphModel:
    """A network read from a file, with what the file says beside it.

    `output` picks the logits if the network gives several outputs; `write` saves changed
    entries in the format that was read.
    """

    network: Network
    metadata: Metadata
    write: Callable[[Path, Mapping[str, Tensor]], None]
    output: str | None = None
    architecture: str = field(init=False)
    architecture_source: str = field(init=False)
    sites: list[Site] = field(init=False)
    conduct: Conduct = field(init=False, default=Conduct())

    def __post_init__(self) -> None:
        self.sites = list(self.network.sites)
        self.architecture = self.metadata.architecture or self.network.name
        self.architecture_source = self.metadata.architecture_source or "the file itself"
        self._changed: set[str] = set()

    @property
    def fixed(self) -> Sequence[FixedLayer]:
        """Normalizers without anything to adapt."""
        return self.network.fixed

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How pictures are prepared, where the file says so."""
        return self.metadata.preprocessing

    @property
    def classes(self) -> Sequence[str] | None:
        """Class names, where the file says so."""
        return self.metadata.classes

    @property
    def input_channels(self) -> int | None:
        """Channels that the network takes."""
        return self.network.input_channels

    @property
    def input_size(self) -> InputSize:
        """Height and width that the graph was exported for."""
        return self.network.input_size

    @property
    def dtype(self) -> str:
        """In which precision it computes, e.g. "float32"."""
        return str(self._like.dtype).removeprefix("torch.")

    @property
    def device(self) -> str:
        """Where it computes, e.g. "cpu" or "cuda:0"."""
        return str(self._like.device)

    def settle(self, conduct: Conduct) -> None:
        """Takes pictures, and puts its sites in order, as running it has shown."""
        self.conduct, self.sites = conduct, conduct.in_order(self.sites)

    def forward(self, images: Tensor) -> Outputs:
        """The logits of images [N, C, H, W]."""
        with self.network.mode():
            return self._logits(self.network.whole(self._input(images)), len(images))

    def suspended(self, images: Tensor) -> Suspended:
        """The same forward, waiting at every site."""
        count = len(images)
        run = self.network.run(self._input(images))
        del images
        try:
            while True:
                # Only while the graph runs: such modes are the thread's, and others run between.
                with self.network.mode():
                    signal = next(run)
                yield signal
                del signal  # Or the activation would live through the stretch behind it.
        except StopIteration as end:
            return self._logits(end.value, count)
        finally:
            run.close()

    def state(self) -> Mapping[str, Tensor]:
        """All parameters and buffers by name."""
        return self.network.entries

    def load_state(self, entries: Mapping[str, Tensor]) -> None:
        """Replaces the named entries in place."""
        replace_values(self.network.entries, entries, self.architecture)
        self._changed |= entries.keys()

    def folded(self) -> Mapping[str, Tensor]:
        """Nothing: only layers with stored statistics are sites here."""
        return {}

    def save(self, path: Path) -> None:
        """Writes the file that was read, with the changed entries replaced."""
        self.write(path, {key: self.network.entries[key] for key in sorted(self._changed)})

    def _input(self, images: Tensor) -> Tensor:
        return self.conduct.entering(images, self._like)

    def _logits(self, outputs: Any, images: int) -> Outputs:
        return self.conduct.leaving(pick_outputs(outputs, self.output), images)

    @property
    def _like(self) -> Tensor:
        """A tensor that shows the network's device and dtype."""
        floating = (x for x in self.network.entries.values() if x.is_floating_point())
        return next(floating, torch.empty(0))


#: Entries of a layer that are no statistics of it.
_NOT_STATISTICS = frozenset({"weight", "bias", "num_batches_tracked"})


def stored_sites(
    entries: Mapping[str, Tensor], eps_by_path: Mapping[str, float | None]
) -> tuple[list[Site], dict[str, Site]]:
    """The sites that the statistics among the entries stand for, and the same by every path.

    A layer whose eps is not known has torch's 1e-5. One that is registered twice is one site, under
    its first name, as in a live module.
    """
    first: dict[int, Site] = {}
    by_path: dict[str, Site] = {}
    for path, held in _by_layer(entries).items():
        eps = eps_by_path.get(path)
        site = _as_site(path, held, 1e-5 if eps is None else eps)
        if site is not None:
            address = entries[next(iter(site.keys.values()))].data_ptr()
            by_path[path] = first.setdefault(address, site)
    return list(first.values()), by_path


def _by_layer(entries: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The entries of each layer, by its path."""
    layers: dict[str, dict[str, Tensor]] = {}
    for key, tensor in entries.items():
        path, _, name = key.rpartition(".")
        layers.setdefault(path, {})[name] = tensor
    return layers


def _as_site(path: str, held: Mapping[str, Tensor], eps: float) -> Site | None:
    """The site of a layer that holds these tensors, told by them as in a live module."""
    for kind, rule in STORED.items():
        roles = rule.holds
        if not held.keys() >= set(roles.values()):
            continue
        sizes = {held[name].numel() for name in roles.values()}
        beside = held.keys() - set(roles.values()) - _NOT_STATISTICS
        if len(sizes) > 1 or (len(roles) == 1 and beside):
            continue
        prefix = f"{path}." if path else ""
        keys = {role: prefix + name for role, name in roles.items()}
        return Site(path or "model", kind, sizes.pop(), eps, keys)
    return None


def said_beside(extra_files: Mapping[str, str]) -> dict[str, str | list[str]]:
    """Files that were saved beside a network, by name without ending: JSON, or a text's lines."""
    return {
        name.removesuffix(".json").removesuffix(".txt"): text.splitlines()
        if name.endswith(".txt")
        else text
        for name, text in extra_files.items()
    }
