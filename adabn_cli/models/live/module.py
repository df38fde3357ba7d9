"""A live `nn.Module` as a `Model`: hooks at its sites suspend its forward. Knows no file.

Shapes: N images, K classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adabn_cli.errors import ModelError, UsageError
from adabn_cli.model import Boxes, Conduct, FixedLayer, InputSize, Outputs, Signal, Site, Suspended
from adabn_cli.models.live.output_layers import OutputLayer
from adabn_cli.models.live.sites import (
    distinct_layers,
    find_output_layers,
    find_sites,
    first_floating,
    input_channels,
    named_layers,
    unwrap,
)
from adabn_cli.models.live.suspension import current_call, suspend
from adabn_cli.models.state import replace_values
from adabn_cli.preprocessing import Preprocessing

#: Keys under which models that return a dict or dataclass keep their logits.
LOGITS_KEYS = ("logits", "out", "output", "pred", "preds")


@dataclass
class EagerModel:
    """A live module, unwrapped. Its mode, hooks and requires_grad are as before after each call.

    `output` picks the logits if the module returns a dict, a dataclass (a key) or a tuple (an
    index). `write` saves changed entries in the format the module was read from. With `bf16` it
    computes in bfloat16 where torch's autocast does; what it is measured by stays float32.
    """

    module: nn.Module
    architecture: str = ""
    architecture_source: str = "live module"
    preprocessing: Preprocessing | None = None
    classes: Sequence[str] | None = None
    output: str | None = None
    write: Callable[[Path, Mapping[str, Tensor]], None] | None = None
    bf16: bool = False
    input_size: InputSize = (None, None)
    sites: list[Site] = field(init=False)
    fixed: list[FixedLayer] = field(init=False)
    input_channels: int | None = field(init=False)
    conduct: Conduct = field(init=False, default=Conduct())

    def __post_init__(self) -> None:
        self.module = unwrap(self.module)
        self.architecture = self.architecture or type(self.module).__name__
        self.sites, self._layers, self.fixed = find_sites(self.module)
        self.input_channels = input_channels(self.module)
        self._state = _state_of(self.module)
        self._outputs: list[OutputLayer] = []
        if not self.sites:
            # Behind a normalizer nothing is left to match: it takes out what a scale puts in.
            self._outputs, unmatched = find_output_layers(self.module)
            self.sites = [layer.site for layer in self._outputs]
            self.fixed = [*self.fixed, *unmatched]
            for layer in self._outputs:
                self._state.update(layer.entries)
        self._changed: set[str] = set()
        self._running = 0
        self._undo = ExitStack()

    @property
    def dtype(self) -> str:
        """In which precision it computes, e.g. "float32"."""
        if self.bf16:
            return "bfloat16"
        like = first_floating(self.module)
        return str(like.dtype if like is not None else torch.float32).removeprefix("torch.")

    @property
    def device(self) -> str:
        """Where it computes, e.g. "cpu" or "cuda:0"."""
        like = first_floating(self.module)
        return str(like.device) if like is not None else "cpu"

    def settle(self, conduct: Conduct) -> None:
        """Takes pictures, and puts its sites in order, as running it has shown."""
        self.conduct, self.sites = conduct, conduct.in_order(self.sites)

    def forward(self, images: Tensor) -> Outputs:
        """The logits of images [N, C, H, W]."""
        with self._ready(), torch.no_grad():
            return self._logits(images)

    def suspended(self, images: Tensor) -> Suspended:
        """The same forward, waiting at every site."""
        with self._ready():
            given = [images]
            del images  # Or it would wait beside the copy that the forward works on.
            call = suspend(lambda: self._logits(given.pop()))
            try:
                while True:
                    signal = call.advance()
                    if signal is None:
                        return call.result
                    yield signal
                    del signal  # Or the activation would live through the stretch behind it.
            finally:
                call.close()

    def state(self) -> Mapping[str, Tensor]:
        """All parameters and buffers under every name they have, and every scale and shift."""
        return self._state

    def load_state(self, entries: Mapping[str, Tensor]) -> None:
        """Replaces the named entries in place."""
        replace_values(self._state, entries, self.architecture)
        self._changed |= entries.keys()

    def folded(self) -> Mapping[str, Tensor]:
        """Weights and biases with the scale and shift of their outputs in them, where any is."""
        return {k: x for layer in self._outputs for k, x in layer.folded().items()}

    def fold(self) -> None:
        """Puts scale and shift of every output into the weights of the live module."""
        folded = self.folded()
        for layer in self._outputs:
            layer.scale_C.fill_(1)
            layer.shift_C.fill_(0)
        self.load_state(folded)

    def save(self, path: Path) -> None:
        """Writes the file the module was read from, with the changed entries replaced."""
        if self.write is None:
            raise UsageError(
                "This model was not read from a file, so there is no format to write.",
                hint="Save it yourself: torch.save(model.state_dict(), path).",
            )
        # By address: a layer that is registered twice has its entries under both names.
        virtual = {key for layer in self._outputs for key in layer.entries}
        new = {self._state[key].data_ptr(): self._state[key] for key in self._changed - virtual}
        new |= {self._state[key].data_ptr(): value for key, value in self.folded().items()}
        entries = {key: new.get(tensor.data_ptr()) for key, tensor in self._state.items()}
        self.write(path, {key: value for key, value in entries.items() if value is not None})

    def _logits(self, images: Tensor) -> Outputs:
        like = first_floating(self.module)
        images = self.conduct.entering(images, images if like is None else like)
        # Casts are not kept: a scale that is adapted on the way would be the source's for good.
        with torch.autocast(
            images.device.type, torch.bfloat16, enabled=self.bf16, cache_enabled=False
        ):
            count = len(images)  # Before the module, which may change them in place.
            outputs = pick_outputs(self.module(images), self.output)
        return self.conduct.leaving(outputs, count)

    @contextmanager
    def _ready(self) -> Iterator[None]:
        """In eval mode with a hook at every site while any forward is under way."""
        self._running += 1
        try:
            if self._running == 1:
                self._prepare(self._undo)
            yield
        finally:
            self._running -= 1
            if self._running == 0:
                self._undo.close()

    def _prepare(self, undo: ExitStack) -> None:
        """Registers with `undo` how each thing it changes is put back."""
        for _, layer in distinct_layers(self.module):
            # Set the flag itself: `train()` is overridden here and there to merge weights or to
            # refuse, and would not put back a mix of modes.
            if layer.training:
                undo.callback(setattr, layer, "training", True)
                layer.training = False
            # An observer of quantization-aware training follows what it sees in eval mode too.
            observes = layer._buffers.get("observer_enabled")
            if observes is not None and observes.any():
                undo.callback(observes.copy_, observes.clone())
                observes.zero_()
            # A layer that was compiled in place runs as it was written: a compiled one cannot wait.
            if layer._compiled_call_impl is not None:
                undo.callback(setattr, layer, "_compiled_call_impl", layer._compiled_call_impl)
                layer._compiled_call_impl = None
        for name, layer in self._layers.items():
            site = next(site for site in self.sites if site.name == name)
            hook = layer.register_forward_pre_hook(_signal_at(site), with_kwargs=True)
            undo.callback(hook.remove)
        for output in self._outputs:
            undo.callback(output.layer.register_forward_hook(_signal_behind(output)).remove)


def _state_of(module: nn.Module) -> dict[str, Tensor]:
    entries: dict[str, Tensor] = {}
    for prefix, layer in named_layers(module):
        for name, tensor in {**layer._parameters, **layer._buffers}.items():
            if tensor is not None:
                entries[f"{prefix}.{name}" if prefix else name] = tensor.detach()
    return entries


def _signal_at(site: Site) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = current_call()
        if call is not None:
            call.wait(Signal(site, _activation(site, args, kwargs)))

    return hook


def _signal_behind(layer: OutputLayer) -> Callable[[nn.Module, tuple[Any, ...], Any], Tensor]:
    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> Tensor:
        call = current_call()
        if call is not None:
            call.wait(Signal(layer.site, layer.activation(output)))
        return layer.adapted(output)

    return hook


def _activation(site: Site, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            return activation_of(site, value)
    raise ModelError(f"The layer {site.name} was called without a tensor.")


def activation_of(site: Site, value: Tensor) -> Tensor:
    """What is measured at a site. Raises ModelError if it does not have the site's channels."""
    if value.dim() < 2 or value.shape[1] != site.channels:
        raise ModelError(
            f"The input of {site.name} has shape {tuple(value.shape)}; "
            f"its {site.channels} channels belong in dimension 1.",
            hint=f"Leave the layer as it is: --layers '!{site.name}'.",
        )
    return value.detach()  # Some models take gradients inside their forward.


def pick_outputs(outputs: Any, key: str | None) -> Outputs:
    """The logits in what a module returned (a tensor, tuple, dict or dataclass), or the boxes.

    Without a key: the tensor itself, the entry called "logits" or "out", the boxes of a detector's
    list of dicts, or the first tensor of a tuple; None if there is none of these. Raises
    UsageError for a key that is not there.
    """
    if isinstance(outputs, Tensor):
        if key is not None:
            raise UsageError(
                f"--output {key}: The model's output is one tensor.", hint="Leave out --output."
            )
        return outputs
    if key is None and (boxes := _boxes(outputs)) is not None:
        return boxes
    if hasattr(outputs, "_asdict"):  # A named tuple.
        outputs = outputs._asdict()
    if dataclasses.is_dataclass(outputs) and not isinstance(outputs, Mapping | type):
        outputs = {f.name: getattr(outputs, f.name) for f in dataclasses.fields(outputs)}
    if isinstance(outputs, Mapping):
        named = {str(name): value for name, value in outputs.items()}
        defaults: Sequence[str] = LOGITS_KEYS
    elif isinstance(outputs, tuple | list):
        named = {str(index): value for index, value in enumerate(outputs)}
        defaults = tuple(named)
    else:
        return None
    if key is not None and not isinstance(named.get(key), Tensor):
        tensors = [name for name, value in named.items() if isinstance(value, Tensor)]
        raise UsageError(
            f"--output {key}: The model's output has no tensor of that name.",
            hint=f"It has: {', '.join(tensors) or 'no tensor at all'}.",
        )
    names = defaults if key is None else (key,)
    return next((named[name] for name in names if isinstance(named.get(name), Tensor)), None)


def _boxes(outputs: Any) -> Boxes | None:
    """The boxes in what torchvision's detectors return, a dict an image; None for all else."""
    if not isinstance(outputs, list | tuple) or not outputs:
        return None
    columns: list[tuple[Tensor, Tensor]] = []
    for found in outputs:
        labels, scores = (
            (found.get("labels"), found.get("scores"))
            if isinstance(found, Mapping)
            else (None,) * 2
        )
        if not isinstance(labels, Tensor) or not isinstance(scores, Tensor):
            return None
        columns.append((labels, scores))
    counts = torch.tensor([len(scores) for _, scores in columns])
    class_D, scores_D = (torch.cat(column).detach() for column in zip(*columns, strict=True))
    image_D = torch.repeat_interleave(torch.arange(len(counts)), counts)
    return Boxes(len(counts), image_D, class_D, scores_D)
