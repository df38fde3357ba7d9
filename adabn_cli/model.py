"""What a model is to the rest of the program: sites, a forward that waits at each, what comes out.

Knows no format, no engine and no normalizer. Every checkpoint format implements `Model`.
"""

from __future__ import annotations

from collections.abc import (
    Callable,
    Container,
    Generator,
    Iterator,
    Mapping,
    MutableMapping,
    Sequence,
)
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from adabn_cli.moments import Moments
from adabn_cli.preprocessing import Preprocessing


@dataclass(frozen=True, eq=False)
class Boxes:
    """What a detector sees in `images` pictures: D boxes, of which picture, class and score.

    `image_D` and `class_D` are indices, int64 [D]; scores are in 0 to 1, [D].
    """

    images: int
    image_D: Tensor
    class_D: Tensor
    scores_D: Tensor


#: In a mask, the class of a pixel that counts for nothing.
IGNORED = 255

#: What a model's output was reduced to: a tensor of logits, [N, K] or [N, K, H, W], a detector's
#: boxes, or None where it is neither.
Outputs = Tensor | Boxes | None


def by_image(outputs: Tensor, images: int) -> Tensor | None:
    """The outputs with an entry for each of `images` images in dimension 0; None if there is none.

    [N * A, k], a row an anchor, becomes [N, A, k]; [k], squeezed for a single image, [1, k]. The
    vector of several images is not cut: [N * A] would look like class scores.
    """
    if outputs.dim() == 0:
        return outputs.reshape(1) if images == 1 else None
    rows = len(outputs)
    if rows == images:
        return outputs
    if rows == 0 or rows % images or (outputs.dim() == 1 and images > 1):
        return None
    return outputs.reshape(images, rows // images, *outputs.shape[1:])


@dataclass(frozen=True)
class Site:
    """A place where a normalizer's input is measured and its statistics are replaced.

    A layer without a normalizer is a site at its output, which is scaled and shifted instead.
    `keys` maps a role ("mean", "var"; "scale", "shift") to the state entry that holds it.
    `reference` is what a source profile says of the site, where there is one.
    """

    name: str
    kind: str
    channels: int
    eps: float
    keys: Mapping[str, str]
    reference: Moments | None = field(default=None, compare=False)


@dataclass(frozen=True)
class FixedLayer:
    """A normalizer that has nothing to adapt, and why."""

    name: str
    kind: str
    reason: str


class Signal(NamedTuple):
    """A forward waits at `site`; `activation` [n, C, *] is what is measured there.

    Where the site is a layer's output, it is the output as the source model gives it. `held` are
    arrays that wait beside torch's tensors: they may be taken out of their mappings for as long as
    the forward waits.
    """

    site: Site
    activation: Tensor
    held: Sequence[MutableMapping[str, Any]] = ()


#: A forward of one chunk that yields at each site and returns the outputs.
Suspended = Generator[Signal, None, Outputs]

_Returned = TypeVar("_Returned")


def to_the_end(forward: Generator[Any, None, _Returned]) -> _Returned:
    """What a forward returns that is waited for nowhere."""
    while True:
        try:
            next(forward)
        except StopIteration as end:
            returned: _Returned = end.value
            return returned


#: Height and width in pixels, None where any will do.
InputSize = tuple[int | None, int | None]

#: A site's name and a role there ("mean", "var").
Place = tuple[str, str]


@dataclass(frozen=True)
class Conduct:
    """What running a model on two pictures has shown of it; as it stands, nothing is known yet.

    `contiguous` if it takes pictures only in the order [N, C, H, W] in memory too; `by_image` if
    its outputs have an entry of one shape for each picture, alone and beside another. `order` are
    the names of the sites that a forward comes to, in its order.
    """

    contiguous: bool = False
    by_image: bool = True
    order: tuple[str, ...] = ()

    def in_order(self, sites: Sequence[Site]) -> list[Site]:
        """The sites in order of use; behind them, as they were, those it did not come to."""
        places = {name: place for place, name in enumerate(dict.fromkeys(self.order))}
        return sorted(sites, key=lambda site: places.get(site.name, len(places)))

    def entering(self, images: Tensor, like: Tensor) -> Tensor:
        """A copy of the images as the network takes them: some change their input in place.

        Integers are not cast: a network that takes floats would read 0 to 255 as 0 to 1.
        """
        layout = torch.contiguous_format if self.contiguous else torch.preserve_format
        dtype = like.dtype if images.is_floating_point() else images.dtype
        return images.to(device=like.device, dtype=dtype, copy=True, memory_format=layout)

    def leaving(self, outputs: Outputs, images: int) -> Outputs:
        """The outputs with an entry for each image, detached; None if there is none for each."""
        if isinstance(outputs, Tensor):
            return by_image(outputs.detach(), images) if self.by_image else None
        return outputs


class Model(Protocol):
    """A trained network of any format.

    It changes through `load_state` alone. `suspended` may be started for many chunks at once; each
    generator waits at every site until it is resumed, and close() ends it early.
    """

    @property
    def sites(self) -> Sequence[Site]:
        """Where statistics can be re-estimated: in order of use once that is settled.

        Outputs of layers without a normalizer only where no layer stores statistics, or where one
        that did may be folded into them.
        """

    @property
    def fixed(self) -> Sequence[FixedLayer]:
        """Normalizers without anything to adapt."""

    @property
    def architecture(self) -> str:
        """What the network is called, e.g. "torchvision:resnet18"."""

    @property
    def architecture_source(self) -> str:
        """Where the name of the architecture is known from."""

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How pictures are prepared, where the checkpoint or its architecture says so."""

    @property
    def input_channels(self) -> int | None:
        """Channels of the first layer that is defined, which need not be the first that is used.

        None where that cannot be told.
        """

    @property
    def input_size(self) -> InputSize:
        """Height and width of the only pictures that a graph takes; None where one is free."""

    @property
    def classes(self) -> Sequence[str] | None:
        """Class names in the order of the outputs, where the checkpoint says so."""

    @property
    def conduct(self) -> Conduct:
        """What running it has shown."""

    def settle(self, conduct: Conduct) -> None:
        """From now on it goes by what running it has shown."""

    def forward(self, images: Tensor) -> Outputs:
        """The logits of images [N, C, H, W], in eval mode and without gradient."""

    def suspended(self, images: Tensor) -> Suspended:
        """The same forward, waiting at every site."""

    def state(self) -> Mapping[str, Tensor]:
        """All parameters and buffers by name, live, not copied; with every scale and shift."""

    def load_state(self, entries: Mapping[str, Tensor]) -> None:
        """Replaces the named entries; values are cast to the dtype and shape that is there.

        Raises ModelError for an unknown name or a wrong number of values.
        """

    def folded(self) -> Mapping[str, Tensor]:
        """The weights and biases that scaled and shifted outputs come down to, where any is."""

    def save(self, path: Path) -> None:
        """Writes the model in the format it was read from; only changed entries differ."""


def statistics_of(model: Model, names: Container[str] | None = None) -> dict[Place, Tensor]:
    """A copy of the statistics at the named sites, or at all of them."""
    state = model.state()
    return {
        (site.name, role): state[key].detach().clone()
        for site in model.sites
        if names is None or site.name in names
        for role, key in site.keys.items()
    }


def entries_of(model: Model, statistics: Mapping[Place, Tensor]) -> dict[str, Tensor]:
    """The state entries that these statistics are in this model."""
    keys = {(site.name, role): key for site in model.sites for role, key in site.keys.items()}
    return {keys[place]: value for place, value in statistics.items()}


class Batches(Protocol):
    """Re-iterable batches: every pass yields the same [n, C, H, W] tensors in the same order."""

    def __iter__(self) -> Iterator[Tensor]: ...

    def __len__(self) -> int:
        """Number of batches."""


#: Called with (done, total) as work goes on.
Progress = Callable[[int, int], None]


class OutputSink(Protocol):
    """Takes the outputs of a batch as soon as they are there."""

    def __call__(self, index: int, outputs: Outputs) -> None:
        """The outputs of batch `index`; a second call with the same index replaces the first."""


def no_progress(done: int, total: int) -> None:
    """Tells nobody."""


def no_output(index: int, outputs: Outputs) -> None:
    """Drops the outputs."""
