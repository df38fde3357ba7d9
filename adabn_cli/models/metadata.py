"""What a checkpoint says about itself: architecture, preprocessing and classes.

Knows what training scripts leave beside the weights: adabn's own keys, timm's and torchvision's
training scripts, Lightning's hyperparameters, class lists under their usual names. What is there
but of the wrong shape is ignored and named in `notes`.
"""

from __future__ import annotations

import json
import math
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, TypeVar

from adabn_cli.preprocessing import INTERPOLATIONS, Preprocessing

#: How torchvision's training script normalizes, whatever its arguments.
_TORCHVISION_MEAN = (0.485, 0.456, 0.406)
_TORCHVISION_STD = (0.229, 0.224, 0.225)

_ARCHITECTURE_KEYS = ("arch", "architecture", "model_name")
#: What Lightning keeps of the arguments of a module and of its data.
_HYPER_PARAMETERS = ("hyper_parameters", "datamodule_hyper_parameters")
_SIZE_KEYS = ("size", "img_size", "input_size")
_PREPROCESSING_KEYS = (
    "preprocessing",
    "pretrained_cfg",
    "default_cfg",
    "config",
    "data_config",
    "args",
    *_HYPER_PARAMETERS,
)
_NAME_LISTS = ("classes", "class_names", "categories", "class_labels", "label_names", "names")
_NAME_TO_INDEX = ("class_to_idx", "label2id")
_INDEX_TO_NAME = ("idx_to_class", "id2label")
_CLASS_HOLDERS = ("config", "pretrained_cfg", "meta", "args", *_HYPER_PARAMETERS)

_Value = TypeVar("_Value")


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What the file says; None if it says nothing. Each `_source` names the key it came from."""

    architecture: str | None = None
    architecture_source: str = ""
    preprocessing: Preprocessing | None = None
    classes: tuple[str, ...] | None = None
    classes_source: str = ""
    notes: tuple[str, ...] = ()

    def noting(self, *notes: str) -> Metadata:
        """The same, with these notes after its own."""
        return replace(self, notes=(*self.notes, *notes))


def read_metadata(saved: Mapping[Any, Any]) -> Metadata:
    """The metadata in what was saved beside the weights.

    Strings that hold JSON are read as JSON (a safetensors header has nothing but strings).
    """
    plain = {key: _parsed(value) for key, value in _as_mapping(saved).items()}
    # A safetensors header may carry everything in one JSON entry.
    for key in ("adabn", "metadata", "meta"):
        if isinstance(plain.get(key), Mapping):
            plain = {**plain[key], **plain}
    notes: list[str] = []
    architecture, architecture_source = _architecture(plain, notes)
    classes, classes_source = _classes(plain, notes)
    return Metadata(
        architecture=architecture,
        architecture_source=architecture_source,
        preprocessing=_preprocessing(plain, notes),
        classes=classes,
        classes_source=classes_source,
        notes=tuple(notes),
    )


def _as_mapping(value: object) -> Mapping[str, Any]:
    """A mapping's, a Namespace's or an object's named values; empty for anything else."""
    if isinstance(value, Mapping):
        return {key: item for key, item in value.items() if isinstance(key, str)}
    if isinstance(value, Namespace) or (hasattr(value, "__dict__") and not isinstance(value, type)):
        return dict(vars(value))
    return {}


def _parsed(value: Any) -> Any:
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _architecture(saved: Mapping[str, Any], notes: list[str]) -> tuple[str | None, str]:
    arguments = _as_mapping(saved.get("args"))
    # Arguments that only one of the two training scripts has say whose names they are.
    library = "timm:" if "crop_pct" in arguments else ""
    library = library or ("torchvision:" if "val_crop_size" in arguments else "")
    found = [(key, saved.get(key)) for key in _ARCHITECTURE_KEYS]
    configured = _as_mapping(saved.get("pretrained_cfg")).get("architecture")
    found.append(("pretrained_cfg.architecture", configured))
    found += [(f"args.{key}", arguments.get(key)) for key in ("model", *_ARCHITECTURE_KEYS)]
    # A hyperparameter of that name may be anything: only a text counts, and nothing is remarked.
    hyper_parameters = _as_mapping(saved.get("hyper_parameters"))
    for key in (*_ARCHITECTURE_KEYS, "model_arch", "model", "backbone", "net"):
        if isinstance(hyper_parameters.get(key), str):
            found.append((f"hyper_parameters.{key}", hyper_parameters[key]))
    for source, name in found:
        if isinstance(name, str) and name.strip():
            prefix = "timm:" if source.startswith("pretrained_cfg") else library
            return name if ":" in name else prefix + name, source
        if name is not None:
            notes.append(f"{source} is ignored: a name is expected, not a {type(name).__name__}")
    return None, ""


def _classes(saved: Mapping[str, Any], notes: list[str]) -> tuple[tuple[str, ...] | None, str]:
    inner = {outer: _as_mapping(_parsed(saved.get(outer))) for outer in _CLASS_HOLDERS}
    for holder, given in {"": saved, **inner}.items():
        for key in (*_NAME_LISTS, *_NAME_TO_INDEX, *_INDEX_TO_NAME):
            value = _parsed(given.get(key))
            if value is None:
                continue
            source = f"{holder}.{key}".lstrip(".")
            names = _class_names(key, value)
            if names is not None:
                return names, source
            notes.append(f"{source} is ignored: it is not a list of distinct class names")
    return None, ""


def _class_names(key: str, value: Any) -> tuple[str, ...] | None:
    """Names in the order of the outputs; None if they are not a complete list."""
    if isinstance(value, Mapping):
        pairs = [(index, name) for name, index in value.items()]
        pairs = pairs if key in _NAME_TO_INDEX or not _has_indices(value) else list(value.items())
        try:
            names = {int(index): name for index, name in pairs}
        except (TypeError, ValueError):
            return None
        if sorted(names) != list(range(len(value))):
            return None
        value = [names[index] for index in range(len(names))]
    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or not value:
        return None
    # Digits are often named by numbers.
    if not all(isinstance(name, str | int) and not isinstance(name, bool) for name in value):
        return None
    texts = tuple(str(name) for name in value)
    return texts if len(set(texts)) == len(texts) else None


def _has_indices(value: Mapping[Any, Any]) -> bool:
    """Whether a mapping goes from 0, 1, ... (JSON makes them text) to names."""
    return all(isinstance(key, int) or (isinstance(key, str) and key.isdigit()) for key in value)


def _preprocessing(saved: Mapping[str, Any], notes: list[str]) -> Preprocessing | None:
    for key in _PREPROCESSING_KEYS:
        value = _parsed(saved.get(key))
        if value is None:
            continue
        given = _as_mapping(value)
        if not given and key == "preprocessing":
            notes.append(f"preprocessing is ignored: it is a {type(value).__name__}")
        found = _from_torchvision(given) if key == "args" else None
        found = found or _from_fields(key, given, notes)
        if found is not None:
            return found
    return _from_fields("", saved, notes) if "mean" in saved and "std" in saved else None


def _from_torchvision(arguments: Mapping[str, Any]) -> Preprocessing | None:
    """What torchvision's training script does at evaluation, if these are its arguments."""
    crop, resize = arguments.get("val_crop_size"), arguments.get("val_resize_size")
    if not (isinstance(crop, int) and isinstance(resize, int) and 0 < crop <= resize):
        return None
    return Preprocessing(
        size=(crop, crop),
        mean=_TORCHVISION_MEAN,
        std=_TORCHVISION_STD,
        crop_pct=crop / resize,
        interpolation=_interpolation(arguments.get("interpolation")) or "bilinear",
        source="checkpoint: args of torchvision's training script",
    )


def _from_fields(key: str, given: Mapping[str, Any], notes: list[str]) -> Preprocessing | None:
    """Preprocessing from size, mean and std; None, and a note, where only some of them are."""
    read = _Reader(key, given, notes)
    sizes = [name for name in _SIZE_KEYS if given.get(name) is not None]
    size = read.field(sizes[0], _size, "a size in pixels") if sizes else None
    mean = read.field("mean", _numbers, "1 or 3 numbers")
    std = read.field("std", _positive, "1 or 3 positive numbers")
    if size is None or mean is None or std is None or len(mean) != len(std):
        # A size alone is common in configurations and says nothing about the values.
        if mean is not None or std is not None or (key == "preprocessing" and given):
            notes.append(
                f"{key or 'mean and std'} is not used: size, mean and std are needed together"
            )
        return None
    return Preprocessing(
        size=size,
        mean=mean,
        std=std,
        crop_pct=read.field("crop_pct", _fraction, "a number above 0 and up to 1") or 1.0,
        interpolation=read.field("interpolation", _interpolation, " or ".join(INTERPOLATIONS))
        or "bilinear",
        source=f"checkpoint: {key}" if key else "checkpoint",
        borrowed=read.field("borrowed", _names, "size, mean or std") or (),
    )


@dataclass(frozen=True)
class _Reader:
    """Reads fields of one mapping and notes those that are there but wrong."""

    holder: str
    given: Mapping[str, Any]
    notes: list[str]

    def field(
        self, name: str, read: Callable[[Any], _Value | None], expected: str
    ) -> _Value | None:
        value = _parsed(self.given.get(name))
        if value is None or value == "":
            return None
        found = read(value)
        if found is None:
            source = f"{self.holder}.{name}".lstrip(".")
            self.notes.append(f"{source} is ignored: {expected} expected, not {str(value)[:40]!r}")
        return found


def _size(value: Any) -> tuple[int, int] | None:
    """Height and width from n, [h, w] or [channels, h, w]."""
    sides = [value, value] if isinstance(value, int) else value
    if not isinstance(sides, Sequence) or isinstance(sides, str) or len(sides) not in (2, 3):
        return None
    height, width = sides[-2:]
    both = all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in (height, width))
    return (height, width) if both else None


def _numbers(value: Any) -> tuple[float, ...] | None:
    try:
        numbers = (float(value),) if isinstance(value, int | float) else tuple(map(float, value))
    except (TypeError, ValueError):
        return None
    usable = len(numbers) in (1, 3) and all(map(math.isfinite, numbers))
    return numbers if usable and not isinstance(value, bool | str) else None


def _positive(value: Any) -> tuple[float, ...] | None:
    numbers = _numbers(value)
    return numbers if numbers and min(numbers) > 0 else None


def _fraction(value: Any) -> float | None:
    numbers = _numbers(value)
    return numbers[0] if numbers and len(numbers) == 1 and 0 < numbers[0] <= 1 else None


def _names(value: Any) -> tuple[str, ...] | None:
    known = isinstance(value, list) and all(name in ("size", "mean", "std") for name in value)
    return tuple(value) if known else None


def _interpolation(value: Any) -> str | None:
    name = value.value if isinstance(value, Enum) else value
    return name if name in INTERPOLATIONS else None
