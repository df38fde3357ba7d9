"""An ONNX graph as a `Model`: run by onnxruntime in stages that end at the sites.

Knows how statistics are fed to the stages and how scale and shift fold into weights. Shapes: N
images, C channels, K classes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adabn_cli.errors import ModelError, UsageError
from adabn_cli.model import (
    Conduct,
    FixedLayer,
    Outputs,
    Signal,
    Site,
    Suspended,
    by_image,
    to_the_end,
)
from adabn_cli.models.live.module import LOGITS_KEYS
from adabn_cli.models.live.train_mode import EXPORTED_IN_TRAIN_MODE
from adabn_cli.models.metadata import Metadata
from adabn_cli.models.onnx.file import OnnxFile, as_message, as_torch
from adabn_cli.models.onnx.folding import folded
from adabn_cli.models.onnx.graph import Graph, attribute_of
from adabn_cli.models.onnx.input import image_input, require_no_other_input
from adabn_cli.models.onnx.reference import Reference, with_reference
from adabn_cli.models.onnx.sessions import Sessions, require_onnxruntime
from adabn_cli.models.onnx.sites import GraphSite, lay_out
from adabn_cli.models.onnx.stages import Stop, plan
from adabn_cli.models.state import replace_values
from adabn_cli.preprocessing import Preprocessing

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto


class OnnxModel:
    """A graph read from a file. Statistics are fed to its sessions, which are made once.

    `output` is the name or the number of the output that is the logits, `input_name` the input that
    takes pictures if there are several. With a `reference` the layers that a normalizer of the
    unfolded checkpoint is folded into are told by it.
    """

    def __init__(
        self,
        file: OnnxFile,
        metadata: Metadata,
        *,
        output: str | None = None,
        device: torch.device | None = None,
        input_name: str | None = None,
        reference: Reference | None = None,
    ) -> None:
        self._device = device or torch.device("cpu")
        require_onnxruntime(self._device)
        self._file = file
        self._graph = Graph(proto=file.proto.graph, given=input_name)
        layout = lay_out(self._graph, every_layer=reference is not None)
        if reference is not None:
            layout = with_reference(layout, self._graph, reference)
        self.notes = (*self._modes(), *layout.counts, *layout.shared)
        self._entries = layout.entries
        self._graph_sites = {found.site.name: found for found in layout.sites}
        self.sites: Sequence[Site] = [found.site for found in layout.sites]
        self.fixed: Sequence[FixedLayer] = layout.fixed
        self.architecture = metadata.architecture or f"ONNX graph {file.proto.graph.name}".strip()
        self.architecture_source = metadata.architecture_source or "the file itself"
        self.preprocessing: Preprocessing | None = metadata.preprocessing
        self.classes: Sequence[str] | None = metadata.classes
        self._input = image_input(self._graph, input_name)
        self.input_channels, self.conduct = self._input.channels, Conduct()
        self.input_size = self._input.size
        self._changed: set[str] = set()
        self._fed_dtypes: dict[str, np.dtype[Any]] = {}
        # The statistics of the normalizers behind layers: means of 0 and variances of 1.
        self._units: dict[str, Tensor] = {}
        self._state = self._entry_tensors()
        nodes, constants = self._nodes(), self._constants()
        stops = self._stops(_pick_output([x.name for x in file.proto.graph.output], output))
        self._stages = plan(nodes, self._input.name, constants, stops)
        require_no_other_input(self._graph, self._input.name, self._stages)
        self._sessions = Sessions(
            proto=file.proto, stored=self._stored, fed=self._fed, device=self._device
        )

    def _modes(self) -> tuple[str, ...]:
        modes = [attribute_of(node, "training_mode") for node in self._graph.nodes]
        return (EXPORTED_IN_TRAIN_MODE,) if any(mode and mode.i for mode in modes) else ()

    @property
    def dtype(self) -> str:
        """In which precision it computes, e.g. "float32"."""
        return self._input.dtype.name

    @property
    def device(self) -> str:
        """Where it computes, e.g. "cpu" or "cuda:0"."""
        return str(self._device)

    def settle(self, conduct: Conduct) -> None:
        """Puts its sites in order as running it has shown; its pictures are contiguous anyway."""
        self.conduct, self.sites = conduct, conduct.in_order(self.sites)

    def forward(self, images: Tensor) -> Outputs:
        """The output of images [N, C, H, W]."""
        return to_the_end(self.suspended(images))

    def suspended(self, images: Tensor) -> Suspended:
        """The same forward, waiting at every site."""
        count = len(images)
        pieces = [
            _Piece({self._input.name: array}, rows, len(array))
            for array, rows in self._input.pieces(images)
        ]
        del images
        for stage in self._stages:
            for piece in pieces:
                if stage.gives:
                    made = self._sessions.run(stage, piece.values)
                    piece.values.update(zip(stage.gives, made, strict=True))
                    del made
                piece.keep(stage.keeps | {stage.stop.value})
            if stage.stop.site is None:
                return self.conduct.leaving(_outputs(pieces, stage.stop.value), count)
            activation = _activation(stage.stop.site, pieces, stage.stop.value)
            yield Signal(stage.stop.site, activation, [piece.values for piece in pieces])
            del activation
            for piece in pieces:
                piece.keep(stage.keeps)
        return None

    def state(self) -> Mapping[str, Tensor]:
        """All floating constants that nodes read, by name, and every scale and shift."""
        return self._state

    def load_state(self, entries: Mapping[str, Tensor]) -> None:
        """Replaces the named entries in place."""
        replace_values(self._state, entries, self.architecture)
        self._changed |= entries.keys() & self._entries.keys()
        if not entries.keys() <= self._fed_dtypes.keys():
            self._sessions.forget()

    def folded(self) -> Mapping[str, Tensor]:
        """Weights and biases with the scale and shift of their outputs in them, where any is."""
        return {
            key: value
            for found in self._graph_sites.values()
            if _at_output(found)
            for key, value in folded(self._graph, found, self._state).items()
        }

    def save(self, path: Path) -> None:
        """Writes the file that was read, with the changed entries replaced."""
        new = {key: self._state[key] for key in self._changed} | dict(self.folded())
        self._file.write(path, {key: (self._entries[key], value) for key, value in new.items()})

    def _entry_tensors(self) -> dict[str, Tensor]:
        """The state; and the graph's nodes are made to read every entry by its key."""
        state = {
            key: as_torch(self._graph.tensors[entry.root]) for key, entry in self._entries.items()
        }
        for key, entry in self._entries.items():
            for place, index in entry.readers:
                self._graph.nodes[place].input[index] = key
        for found in self._graph_sites.values():
            if _at_output(found):
                ones_C = torch.ones(found.site.channels, dtype=torch.float64)
                state[found.site.keys["scale"]] = ones_C
                state[found.site.keys["shift"]] = torch.zeros_like(ones_C)
                like = state[found.inputs["weight"]]
                self._units[f"{found.site.keys['scale']}/var"] = ones_C.to(like.dtype)
                self._units[f"{found.site.keys['shift']}/mean"] = torch.zeros_like(ones_C).to(like)
            else:
                like = state[found.inputs["mean"]]
            self._fed_dtypes |= dict.fromkeys(found.site.keys.values(), like.numpy().dtype)
        return state

    def _nodes(self) -> list[NodeProto]:
        """The graph's own nodes without its constants, with a normalizer behind every output."""
        from onnx import helper

        nodes: list[NodeProto] = []
        outputs = {
            found.places[0]: found for found in self._graph_sites.values() if _at_output(found)
        }
        for place, node in enumerate(self._graph.nodes[: self._graph.top]):
            if self._graph.root(node.output[0]) is not None:
                continue
            nodes.append(node)
            if place in outputs:
                # With a mean of 0, a variance of 1 and no eps it is scale and shift to the bit.
                name, keys = node.output[0], outputs[place].site.keys
                node.output[0] = f"{name}/plain"
                inputs = [node.output[0], keys["scale"], keys["shift"]]
                inputs += [f"{keys['shift']}/mean", f"{keys['scale']}/var"]
                nodes.append(helper.make_node("BatchNormalization", inputs, [name], epsilon=0.0))
        return nodes

    def _stops(self, output: str) -> list[Stop]:
        """Where a forward waits, in the order of the graph, and its output."""
        nodes = self._graph.nodes
        places = sorted(
            (place, found) for found in self._graph_sites.values() for place in found.places
        )
        stops = [
            Stop(found.site, (nodes[place].output if _at_output(found) else nodes[place].input)[0])
            for place, found in places
        ]
        return [*stops, Stop(None, output)]

    def _constants(self) -> frozenset[str]:
        """The names that need no picture: stored ones, and those that are fed."""
        names = {name for node in self._graph.nodes for name in node.input}
        constants = {name for name in names if self._graph.root(name) is not None}
        return frozenset(constants | self._state.keys() | self._units.keys())

    def _stored(self, name: str) -> TensorProto | None:
        """What a session holds under a name: constants that are not fed."""
        value = self._units.get(name, self._state.get(name))
        if value is not None:
            return as_message(name, value)
        found = self._graph.tensor(name)
        if found is None:
            return None
        renamed = type(found)()
        renamed.CopyFrom(found)
        renamed.name = name
        return renamed

    def _fed(self, name: str) -> NDArray[Any] | None:
        """The statistic of that name as it is now; None if it is no statistic."""
        dtype = self._fed_dtypes.get(name)
        return None if dtype is None else self._state[name].numpy().astype(dtype)


@dataclass
class _Piece:
    """One batch on its way: values by name, and how many rows of them are of real pictures."""

    values: dict[str, NDArray[Any]]
    rows: int
    batch: int

    def keep(self, names: Collection[str]) -> None:
        """Lets go of all other values."""
        for name in self.values.keys() - names:
            del self.values[name]

    def tensor(self, name: str) -> Tensor | None:
        """The real rows of a value, which may be several an image; None if it is no tensor."""
        value = self.values[name]
        if not isinstance(value, np.ndarray):
            return None
        real = self.rows * (len(value) // self.batch) if value.ndim else 0
        whole = self.rows == self.batch or not value.ndim or len(value) % self.batch
        return torch.from_numpy(value if whole else value[:real])

    def output(self, name: str) -> Tensor | None:
        """A value with an entry for each real picture; None if it has none."""
        value = self.values[name]
        found = by_image(torch.as_tensor(value), self.batch) if hasattr(value, "dtype") else None
        return None if found is None else found[: self.rows]


def _joined(pieces: Sequence[_Piece], name: str) -> Tensor | None:
    """A value over all pieces; None if it is no tensor."""
    tensors = [tensor for piece in pieces if (tensor := piece.tensor(name)) is not None]
    if len(tensors) < len(pieces):
        return None
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)


def _outputs(pieces: Sequence[_Piece], name: str) -> Tensor | None:
    """What the graph gives under a name, an entry for each picture; None if it gives none."""
    parts = [part for piece in pieces if (part := piece.output(name)) is not None]
    if len(parts) < len(pieces):
        return None
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _activation(site: Site, pieces: Sequence[_Piece], name: str) -> Tensor:
    """What is measured at a site. Raises ModelError if it does not have the site's channels."""
    activation = _joined(pieces, name)
    if activation is None or activation.dim() < 2 or activation.shape[1] != site.channels:
        shape = None if activation is None else tuple(activation.shape)
        raise ModelError(
            f"The value at {site.name} has shape {shape}; "
            f"its {site.channels} channels belong in dimension 1.",
            hint=f"Leave it as it is: --layers '!{site.name}'.",
        )
    return activation


def _at_output(found: GraphSite) -> bool:
    return "weight" in found.inputs


def _pick_output(names: Sequence[str], choice: str | None) -> str:
    """The output that is the logits: chosen, called so, or the first. Raises UsageError."""
    if choice is None:
        return next((name for name in LOGITS_KEYS if name in names), names[0])
    if choice in names:
        return choice
    if choice.isdigit() and int(choice) < len(names):
        return names[int(choice)]
    raise UsageError(
        f"--output {choice}: The model has no output of that name.",
        hint=f"It has: {', '.join(names)}.",
    )
