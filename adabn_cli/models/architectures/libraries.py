"""torchvision's and timm's builders, and what both publish about preprocessing and classes.

Knows the two libraries; knows no checkpoint file, and never builds with weights or from a location.
Both are imported when first asked for: torchvision alone costs a second.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from adabn_cli.errors import UsageError
from adabn_cli.preprocessing import Preprocessing
from adabn_cli.torchvision_import import torchvision_models

Shapes = dict[str, tuple[int, ...]]
#: A size that the builder was asked for: argument, and how often it is in the dimension.
Probed = tuple[str, int]


@dataclass(frozen=True)
class Published:
    """What a library says of an architecture's weights; None if it has none."""

    preprocessing: Preprocessing | None = None
    classes: tuple[str, ...] | None = None


class Library(Protocol):
    """A package of model builders, each with a name."""

    package: str
    #: What pip is given to install it.
    requirement: str
    #: Sizes that the builders take, and a prime for each that is in no network of theirs: a
    #: dimension that is a multiple of it depends on that size.
    probes: Mapping[str, int]

    def names(self) -> list[str]:
        """All names that `build` takes, sorted."""

    def indexed_names(self) -> list[str]:
        """The names of image models with a tensor of logits, one for each architecture."""

    def build(self, name: str, arguments: Mapping[str, object]) -> nn.Module:
        """The architecture on the current default device, with random weights."""

    def optional_parts(self, name: str) -> dict[str, str]:
        """Boolean arguments that a state dict answers, each with the prefix of its keys."""

    def published(self, name: str) -> Published:
        """Preprocessing and categories of the weights published under this name."""


class Torchvision:
    """torchvision.models; without detection, video, flow and quantized models in the index."""

    package = requirement = "torchvision"
    probes: Mapping[str, int] = {"num_classes": 1009}

    def names(self) -> list[str]:
        """All names that torchvision registers."""
        models = torchvision_models()
        return sorted(models.list_models())

    def indexed_names(self) -> list[str]:
        """Classification and segmentation."""
        models = torchvision_models()
        wanted = models.list_models(module=models)
        return sorted(wanted + models.list_models(module=models.segmentation))

    def build(self, name: str, arguments: Mapping[str, object]) -> nn.Module:
        """The architecture without weights, its backbone's included."""
        models = torchvision_models()
        fixed: dict[str, object] = {"weights": None}
        if "weights_backbone" in inspect.signature(models.get_model_builder(name)).parameters:
            fixed["weights_backbone"] = None
        if name in {"googlenet", "inception_v3"} and "init_weights" not in arguments:
            fixed["init_weights"] = False  # Their default draws with scipy for half a minute.
        module: nn.Module = models.get_model(name, **fixed, **arguments)
        return module

    def optional_parts(self, name: str) -> dict[str, str]:
        """Auxiliary classifiers: published weights and own training differ in having them."""
        if name == "googlenet":
            return {"aux_logits": "aux1."}
        if name == "inception_v3":
            return {"aux_logits": "AuxLogits."}
        return {"aux_loss": "aux_classifier."} if name.startswith(("fcn_", "deeplabv3_")) else {}

    def published(self, name: str) -> Published:
        """Of the default weights."""
        models = torchvision_models()
        weights = getattr(models.get_model_weights(name), "DEFAULT", None)
        if weights is None:
            return Published()
        transforms = weights.transforms()
        classes = weights.meta.get("categories")
        return Published(
            _torchvision_preprocessing(transforms, f"torchvision {weights}"),
            tuple(classes) if classes else None,
        )


class Timm:
    """timm; names may carry the tag of published weights, as in resnet50.a1_in1k."""

    package = "timm"
    requirement = '"adabn[timm]"'
    probes: Mapping[str, int] = {"num_classes": 1009, "in_chans": 1013}

    def names(self) -> list[str]:
        """All architectures, with every tag too."""
        import timm

        return sorted({*timm.list_models(), *timm.list_pretrained()})

    def indexed_names(self) -> list[str]:
        """All architectures, without tags."""
        import timm

        return sorted(timm.list_models())

    def build(self, name: str, arguments: Mapping[str, object]) -> nn.Module:
        """The architecture without weights."""
        timm: Any = import_module("timm")
        module: nn.Module = timm.create_model(name, pretrained=False, **arguments)
        return module

    def optional_parts(self, name: str) -> dict[str, str]:
        """None."""
        return {}

    def published(self, name: str) -> Published:
        """Of the tag, or of the default one."""
        timm: Any = import_module("timm")
        config = timm.get_pretrained_cfg(name)
        if config is None or not config.has_weights:
            return Published()
        preprocessing = Preprocessing(
            size=(config.input_size[1], config.input_size[2]),
            mean=tuple(config.mean),
            std=tuple(config.std),
            crop_pct=config.crop_pct,
            interpolation=config.interpolation,
            source=f"timm {config.architecture}.{config.tag}",
        )
        if config.num_classes != 1000:
            return Published(preprocessing)
        names = timm.data.ImageNetInfo("imagenet-1k").label_descriptions()
        return Published(preprocessing, tuple(names))


_LIBRARIES: tuple[Library, ...] = (Torchvision(), Timm())
LIBRARIES = {library.package: library for library in _LIBRARIES}


def installed_libraries() -> dict[str, Library]:
    """The libraries that can be imported here, torchvision first."""
    return {name: library for name, library in LIBRARIES.items() if find_spec(name) is not None}


def probe(
    library: Library, name: str, arguments: Mapping[str, object]
) -> tuple[Shapes, dict[tuple[str, int], Probed]]:
    """Shapes of an architecture built on no device, and which dimensions follow which size.

    Sizes that `arguments` give are not probed. Keys: state entry and dimension.
    """
    primes = {key: prime for key, prime in library.probes.items() if key not in arguments}
    module = _built_hollow(library, name, {**arguments, **primes})
    shapes = shapes_of(module.state_dict())
    free = {
        (entry, axis): (key, size // prime)
        for entry, shape in shapes.items()
        for axis, size in enumerate(shape)
        for key, prime in primes.items()
        if size and size % prime == 0
    }
    return shapes, free


def shapes_of(entries: Mapping[str, Tensor]) -> Shapes:
    """The shape of every entry."""
    return {key: tuple(tensor.shape) for key, tensor in entries.items()}


def inferred_arguments(
    library: Library, name: str, arguments: Mapping[str, object], shapes: Shapes
) -> dict[str, object]:
    """The arguments, with sizes and optional parts that the state dict's shapes answer."""
    inferred = dict(arguments)
    for part, prefix in library.optional_parts(name).items():
        inferred.setdefault(part, any(key.startswith(prefix) for key in shapes))
    _, free = probe(library, name, inferred)
    for (entry, axis), (argument, times) in free.items():
        shape = shapes.get(entry, ())
        if axis < len(shape):
            inferred.setdefault(argument, shape[axis] // times)
    return inferred


def build_empty(library: Library, name: str, arguments: Mapping[str, object]) -> nn.Module:
    """The architecture on the CPU, with zeros if its constructor draws random weights.

    Drawing takes 1.7 s for a ViT-B. What the constructor computes without drawing, such as index
    tables outside the state dict, is there.
    """
    module = _built_hollow(library, name, arguments)
    if _is_hollow_outside_state(module):
        return library.build(name, arguments)
    filled: dict[Tensor, Tensor] = {}  # Tied weights stay tied.
    for part in module.modules():
        for key, parameter in part._parameters.items():
            if parameter is not None and parameter.is_meta:
                zeros = nn.Parameter(_zeros_as(parameter))
                part._parameters[key] = filled.setdefault(parameter, zeros)  # type: ignore[assignment]
        for key, buffer in part._buffers.items():
            if buffer is not None and buffer.is_meta:
                part._buffers[key] = _zeros_as(buffer)
    return module


def _zeros_as(hollow: Tensor) -> Tensor:
    """Not `torch.zeros_like`, which would import sympy for a hollow tensor: 0.6 s."""
    return torch.zeros(hollow.shape, dtype=hollow.dtype)


_FILLS = {
    *(Tensor.normal_, Tensor.uniform_, Tensor.fill_, Tensor.zero_),
    *(Tensor.erfinv_, Tensor.clamp_),  # Of trunc_normal_.
    *(nn.init.normal_, nn.init.uniform_, nn.init.constant_, nn.init.kaiming_uniform_),
}


class _HollowTensors(TorchFunctionMode):
    """Gives `torch.empty` no memory: what layers allocate their weights with.

    `torch.device("meta")` would take values from everything: 15 architectures of torchvision and
    the index tables of most transformers compute with them.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _FILLS and (filled := args[0] if args else kwargs["tensor"]).is_meta:
            return filled  # torch would import its compiler, for 2 s, to fill nothing.
        if func is torch.empty and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def _built_hollow(library: Library, name: str, arguments: Mapping[str, object]) -> nn.Module:
    try:
        with _HollowTensors():
            return library.build(name, arguments)
    except RuntimeError:  # It reads values of its weights while it builds.
        return library.build(name, arguments)


def _is_hollow_outside_state(module: nn.Module) -> bool:
    state = module.state_dict()
    buffers = (buffer for key, buffer in module.named_buffers() if key not in state)
    attributes = (
        value
        for part in module.modules()
        for value in vars(part).values()
        if isinstance(value, Tensor)
    )
    return any(tensor.is_meta for tensor in (*buffers, *attributes))


def _torchvision_preprocessing(transforms: object, source: str) -> Preprocessing | None:
    """What a weights' preset does; None for one that is not an image's resize and normalization."""
    resize = getattr(transforms, "resize_size", None)
    mean = getattr(transforms, "mean", None)
    std = getattr(transforms, "std", None)
    interpolation = getattr(transforms, "interpolation", None)
    if not (resize and mean and std and interpolation):
        return None
    crop = getattr(transforms, "crop_size", None)
    if crop is None:  # Segmentation keeps the picture's aspect; batches need one size.
        source += f" (shorter side {resize[0]}, here cut to a square)"
        crop = resize
    return Preprocessing(
        size=(crop[0], crop[0]),
        mean=tuple(mean),
        std=tuple(std),
        crop_pct=_crop_pct(crop[0], resize[0]),
        interpolation=interpolation.value,
        source=source,
    )


def _crop_pct(crop: int, resize: int) -> float:
    """The ratio whose `floor(crop / ratio)` is `resize`, which crop / resize may miss by one."""
    ratio = crop / resize
    return ratio if math.floor(crop / ratio) == resize else math.nextafter(ratio, 0.0)


def installed_library(name: str) -> Library:
    """The library called `name`; UsageError if it is not installed."""
    if name not in installed_libraries():
        raise UsageError(
            f"{name} is not installed.",
            where="--arch",
            hint=f"Run pip install {LIBRARIES[name].requirement}.",
        )
    return LIBRARIES[name]
