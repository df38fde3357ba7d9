"""An exported program as a network: what its inputs stand for, and batches of the size it takes.

Knows the signature of a program and its graph; no file and no engine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adabn_cli.errors import ModelError
from adabn_cli.model import FixedLayer, InputSize, Signal, Site, by_image, to_the_end
from adabn_cli.models.graphs.aten_operations import fold_notes
from adabn_cli.models.graphs.exported_graph import DTYPES, Graph
from adabn_cli.models.graphs.model import GraphRun, Network, stored_sites
from adabn_cli.models.live.module import activation_of
from adabn_cli.models.live.train_mode import EXPORTED_IN_TRAIN_MODE

_SYMBOL = re.compile(r"Symbol\('(\w+)'[^()]*\)|(\w+)")

_PICTURE_ONLY = "Export it with one input, a batch of pictures [N, C, H, W] of floating values."
_ALONE = "normalizes each picture by itself; it stores no statistics"
#: Operators that normalize without statistics.
_NORMALIZE_ALONE = ("group_norm", "native_group_norm", "layer_norm", "native_layer_norm")


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What a program takes and gives. `tensors` maps names in the graph to those of its entries.

    `smallest` and `largest` bound its batch; `size` is None if height or width is free. `keys`
    name the results if they are a dict.
    """

    picture: str
    channels: int | None
    size: InputSize
    smallest: int
    largest: int | None
    tensors: Mapping[str, str]
    numbers: Mapping[str, Any]
    results: Sequence[Mapping[str, Any]]
    keys: Sequence[str] | None


def read_signature(program: Mapping[str, Any]) -> Signature:
    """The signature in a program's JSON. Raises ModelError if it takes more than pictures."""
    graph, signature = program["graph_module"]["graph"], program["graph_module"]["signature"]
    tensors: dict[str, str] = {}
    numbers: dict[str, Any] = {}
    pictures: list[str] = []
    for union in signature["input_specs"]:
        ((kind, spec),) = union.items()
        if kind == "user_input" and "as_tensor" in spec["arg"]:
            pictures.append(spec["arg"]["as_tensor"]["name"])
        elif kind == "constant_input":
            ((what, value),) = spec["value"].items()
            numbers[spec["name"]] = None if what == "as_none" else value
        elif kind in ("parameter", "buffer", "tensor_constant"):
            tensors[spec["arg"]["name"]] = spec[f"{kind}_name"]
        else:
            raise ModelError(f"The program has an input that is a {kind}.", hint=_PICTURE_ONLY)
    if len(pictures) != 1:
        raise ModelError(
            f"The program takes {len(pictures)} tensors: {', '.join(pictures)}.", hint=_PICTURE_ONLY
        )
    meta = graph["tensor_values"][pictures[0]]
    dtype, sizes = DTYPES.get(meta["dtype"]), [item.get("as_int") for item in meta["sizes"]]
    if len(sizes) != 4 or dtype is None or not dtype.is_floating_point:
        raise ModelError("The program's input is not a batch of pictures.", hint=_PICTURE_ONLY)
    smallest, largest = _batch(meta["sizes"][0], program.get("range_constraints", {}))
    outputs = [
        union["user_output"] for union in signature["output_specs"] if "user_output" in union
    ]
    return Signature(
        picture=pictures[0],
        channels=sizes[1],
        size=(sizes[2], sizes[3]),
        smallest=smallest,
        largest=largest,
        tensors=tensors,
        numbers=numbers,
        results=[output["arg"] for output in outputs],
        keys=_keys(program["graph_module"]["module_call_graph"], len(outputs)),
    )


def _batch(size: Mapping[str, Any], ranges: Mapping[str, Any]) -> tuple[int, int | None]:
    """The smallest and the largest batch that a program takes."""
    if "as_int" in size:
        return size["as_int"], size["as_int"]
    symbol = _SYMBOL.fullmatch(size["as_expr"]["expr_str"])
    limits = ranges.get(symbol[1] or symbol[2], {}) if symbol else {}
    return max(limits.get("min_val") or 1, 1), limits.get("max_val")


def _keys(calls: Sequence[Mapping[str, Any]], count: int) -> list[str] | None:
    """The names of the results, where the program gives a dict of tensors."""
    signature = next((call["signature"] for call in calls if call["fqn"] == ""), None)
    if signature is None:
        return None
    _, spec = json.loads(signature["out_spec"])
    if spec["type"] not in ("builtins.dict", "collections.OrderedDict"):
        return None
    keys = [str(key) for key in json.loads(spec["context"])]
    # What a key holds besides tensors spreads over several results.
    return keys if len(keys) == count else None


@dataclass(frozen=True, kw_only=True)
class ExportedNetwork:
    """A program with its tensors. `name` is what the network is called."""

    name: str
    graph: Graph
    signature: Signature
    entries: Mapping[str, Tensor]
    constants: Mapping[str, Tensor]

    def network(self, where: str) -> Network:
        """The same for a GraphModel. Raises ModelError if it has nothing that can be adapted."""
        names = self.signature.tensors
        visited = {
            names[node.statistics].rpartition(".")[0]: node.eps
            for node in self.graph.nodes
            if node.statistics is not None and node.statistics in names
        }
        sites, by_path = stored_sites(self.entries, visited)
        if not visited:
            kinds = ", ".join(sorted({site.kind for site in sites}))
            raise ModelError(
                f"The statistics of this program ({kinds}) are used by plain arithmetic, in which "
                "no site can be recognized."
                if sites
                else "No layer of this program stores statistics: it never had a normalizer that "
                "does, or they are folded into its convolutions.",
                where=where,
                hint="Export it before normalizers are fused, or give the checkpoint that it was "
                "made from.",
            )
        signalling = {by_path[path].name for path in visited}
        others = [x for x in sites if x.name not in signalling and self._only_read(x)]
        sites = [site for site in sites if site not in others]
        told = fold_notes([node.operation for node in self.graph.nodes], len(sites))
        return Network(
            name=self.name,
            sites=sites,
            fixed=[*self._alone(), *map(_in_its_own_way, others)],
            input_channels=self.signature.channels,
            input_size=self.signature.size,
            entries=self.entries,
            run=lambda images: self._run(images, by_path),
            whole=self._whole,
            notes=(*told, *([EXPORTED_IN_TRAIN_MODE] if self.graph.trains else [])),
        )

    def _only_read(self, site: Site) -> bool:
        """Whether a site's statistics are read, though no operator that normalizes takes them."""
        read = {name for node in self.graph.nodes for name in node.reads}
        names = self.signature.tensors
        return any(names.get(name) in site.keys.values() for name in read)

    def _alone(self) -> Iterator[FixedLayer]:
        for node in self.graph.nodes:
            kind = node.target.split(".")[-2]
            if kind in _NORMALIZE_ALONE:
                name = node.gives if isinstance(node.gives, str) else node.gives[0]
                yield FixedLayer(name, kind, _ALONE)

    def _whole(self, images: Tensor) -> Any:
        return to_the_end(self._run(images, {}))

    def _run(self, images: Tensor, sites: Mapping[str, Site]) -> GraphRun:
        """One forward; batches that the program does not take are cut, or filled up."""
        pieces = [(rows, len(piece), self._piece(piece)) for piece, rows in self._pieces(images)]
        del images
        while True:
            arrived: list[Tensor] = []
            ended: list[list[Any]] = []
            for rows, size, run in pieces:
                try:
                    statistics, activation = next(run)
                    arrived.append(_real(activation, rows, size))
                except StopIteration as end:
                    ended.append([_output(value, rows, size) for value in end.value])
            if ended:
                return self._joined(ended)
            path = self.signature.tensors.get(statistics, "").rpartition(".")[0]
            if path in sites:
                yield Signal(sites[path], activation_of(sites[path], _cat(arrived)))
            del arrived, activation

    def _piece(self, images: Tensor) -> Generator[tuple[str, Tensor], None, list[Any]]:
        held = {**self.constants, **self.entries}
        values: dict[str, Any] = {**self.signature.numbers, self.signature.picture: images}
        for name, key in self.signature.tensors.items():
            # A program of training mode counts its batches in place; the model stays as it is.
            values[name] = held[key] if held[key].is_floating_point() else held[key].clone()
        del images
        return self.graph.run(values)

    def _pieces(self, images: Tensor) -> Iterator[tuple[Tensor, int]]:
        """Images as the program takes them, and how many rows of each are real."""
        for given, fixed in zip(images.shape[2:], self.signature.size, strict=True):
            if fixed not in (None, given):
                height, width = self.signature.size
                raise ModelError(
                    f"The model takes pictures of {height} x {width} pixels (height, width), not "
                    f"{images.shape[2]} x {images.shape[3]}.",
                    hint=f"Give --img-size {height},{width}.",
                )
        for piece in torch.split(images, self.signature.largest or len(images)):
            missing = max(0, self.signature.smallest - len(piece))
            filled = torch.cat([piece, piece[-1:].expand(missing, -1, -1, -1)])
            yield (filled if missing else piece), len(piece)

    def _joined(self, results: Sequence[Sequence[Any]]) -> Any:
        joined = [_cat(values) for values in zip(*results, strict=True)]
        if self.signature.keys is not None:
            return dict(zip(self.signature.keys, joined, strict=True))
        return joined[0] if len(joined) == 1 else tuple(joined)


def _in_its_own_way(site: Site) -> FixedLayer:
    return FixedLayer(
        site.name, site.kind, "normalizes by arithmetic of its own, which is not recognized"
    )


def _real(value: Any, rows: int, size: int) -> Any:
    """The rows of real pictures, of which there may be several a picture."""
    if not isinstance(value, Tensor) or rows == size or value.dim() == 0 or len(value) % size:
        return value
    return value[: rows * (len(value) // size)]


def _output(value: Any, rows: int, size: int) -> Any:
    """What the program gives for the real pictures of a batch of `size`, an entry for each."""
    whole = by_image(value, size) if isinstance(value, Tensor) else None
    return whole if whole is None else whole[:rows]


def _cat(values: Sequence[Any]) -> Any:
    return torch.cat(list(values)) if len(values) > 1 and _all_tensors(values) else values[0]


def _all_tensors(values: Sequence[Any]) -> bool:
    return all(isinstance(value, Tensor) and value.dim() > 0 for value in values)
