"""From `--arch` to a network without weights, and a state dict into it.

Knows the forms of an architecture's name; knows no checkpoint file. Code outside torchvision and
timm is imported only where the command line names it, never from what a checkpoint says.
"""

from __future__ import annotations

import ast
import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from adabn_cli.errors import ModelError, UsageError
from adabn_cli.models.architectures.index import without_counters
from adabn_cli.models.architectures.libraries import (
    LIBRARIES,
    Library,
    Published,
    Shapes,
    build_empty,
    inferred_arguments,
    installed_libraries,
    installed_library,
    shapes_of,
)
from adabn_cli.models.architectures.unknown_weights import is_simulated, renamed_by_a_tool
from adabn_cli.models.trust.named_code import NamedCode
from adabn_cli.preprocessing import Preprocessing

_T = TypeVar("_T")
_FORMS = "torchvision:NAME, timm:NAME, package.module:CALLABLE or path/to/file.py:CALLABLE"
_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A network on the CPU, its weights still to be loaded, and what its publisher says of it.

    `source` says where `name` is known from. `classes` is there only for as many outputs.
    """

    name: str
    source: str
    module: nn.Module
    preprocessing: Preprocessing | None
    classes: tuple[str, ...] | None


def parse_arch_args(text: str) -> dict[str, object]:
    """The arguments in "key=value,key=[1, 2],name=abc" or in a JSON object.

    Values are Python literals or JSON, otherwise text. Raises UsageError for a part that is no
    key=value, for a key given twice, and for a list or object that is of neither form.
    """
    if text.strip().startswith("{"):
        pairs = _json_pairs(text)
    else:
        pairs = [_key_and_value(part, text) for part in _split_at_commas(text)]
    arguments: dict[str, object] = {}
    for key, value in pairs:
        if not key.isidentifier():
            raise _no_arch_args(f'"{key}" is not the name of an argument.', text)
        if key in arguments:
            raise _no_arch_args(f'"{key}" is given twice.', text)
        arguments[key] = value
    return arguments


def _no_arch_args(what: str, text: str) -> UsageError:
    return UsageError(
        what,
        where=f"--arch-args {text}",
        hint="Write --arch-args num_classes=10,depths=[2,2], or a JSON object in quotes.",
    )


def _json_pairs(text: str) -> list[tuple[str, object]]:
    try:
        values = json.loads(text)
        pairs = json.loads(text, object_pairs_hook=list)  # Shows what is there twice, too.
    except ValueError as error:
        raise _no_arch_args(f"This is not a JSON object: {error}.", text) from error
    return [(key, values[key]) for key, _ in pairs]


def _key_and_value(part: str, text: str) -> tuple[str, object]:
    key, equals, value = (piece.strip() for piece in part.partition("="))
    if not equals:
        raise _no_arch_args(f'"{part.strip()}" is not of the form key=value.', text)
    for read in (ast.literal_eval, json.loads):
        try:
            return key, read(value)
        except (ValueError, SyntaxError, TypeError):  # {[1]: 2} is a TypeError.
            continue
    if value.startswith(("[", "{", "(")):
        raise _no_arch_args(f'"{value}" is neither a Python literal nor JSON.', text)
    return key, value


def _split_at_commas(text: str) -> list[str]:
    """The parts between commas that are in no bracket and no quotes; none for blank text."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if character == "," and depth == 0 and not quote:
            parts.append("")
            continue
        parts[-1] += character
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        else:
            depth += (character in "([{") - (character in ")]}")
    return parts if text.strip() else []


def build_architecture(
    spec: str, arch_args: Mapping[str, object], entries: Mapping[str, Tensor]
) -> Architecture:
    """The architecture that `--arch` names, sized to fit the state dict `entries`.

    For torchvision and timm, the number of classes and (timm) of input channels come from the
    entries unless `arch_args` give them; other builders get `arch_args` alone. Raises UsageError
    for a name, file or callable that is not there, and for arguments that its builder refuses.
    """
    code = named_code(spec)
    if code is None:
        package, _, name = spec.partition(":")
        return build_named(package, name, arch_args, shapes_of(entries))
    builder = code.callable
    module = _built(lambda: builder(**arch_args), spec, arch_args)
    if not isinstance(module, nn.Module):
        raise UsageError(
            f"{code.callee} returned a {type(module).__name__}, not a torch.nn.Module.",
            where=f"--arch {spec}",
            hint="Name a class or function that returns the network.",
        )
    return Architecture(name=spec, source="--arch", module=module, preprocessing=None, classes=None)


def build_named(
    package: str, name: str, arguments: Mapping[str, object], shapes: Shapes
) -> Architecture:
    """The architecture `name` of torchvision or timm, sized to fit a state dict's shapes."""
    library = installed_library(package)
    spec = f"{package}:{name}"
    if name not in library.names():
        raise _unknown(spec, name)
    # Size the network first: wrong arguments show there too.
    inferred = _built(lambda: inferred_arguments(library, name, arguments, shapes), spec, arguments)
    module = _built(lambda: build_empty(library, name, inferred), spec, arguments)
    published = _applicable(library, name, inferred)
    return Architecture(
        name=spec,
        source="--arch",
        module=module,
        preprocessing=published.preprocessing,
        classes=published.classes,
    )


def _applicable(library: Library, name: str, arguments: Mapping[str, object]) -> Published:
    """What is published, as far as it holds for a network of these sizes."""
    published = library.published(name)
    preprocessing, classes = published.preprocessing, published.classes
    if preprocessing and arguments.get("in_chans", 3) != preprocessing.channels:
        preprocessing = None
    if classes and arguments.get("num_classes") != len(classes):
        classes = None
    return Published(preprocessing, classes)


def named_code(spec: str) -> NamedCode | None:
    """The code that `--arch` names; None for an architecture of torchvision or timm.

    Raises UsageError for what is of neither form. Imports nothing yet.
    """
    package, colon, name = spec.partition(":")
    if colon and name and package in LIBRARIES:
        return None
    where, colon, callee = spec.rpartition(":")  # A path may have a colon of its own.
    if colon and where and callee:
        return NamedCode(where, callee)
    raise _unknown(spec, spec)


def _unknown(spec: str, name: str) -> UsageError:
    known = [
        f"{package}:{known}"
        for package, library in installed_libraries().items()
        for known in library.names()
    ]
    # One list of bare names, as people forget the package too; then all packages that have them.
    bare = difflib.get_close_matches(name, {full.partition(":")[2] for full in known}, _SHOWN)
    near = [full for close in bare for full in known if full.partition(":")[2] == close]
    hint = f"Did you mean {', '.join(near)}?" if near else f"Write --arch as {_FORMS}."
    return UsageError(f'There is no architecture "{spec}".', where=f"--arch {spec}", hint=hint)


def _built(build: Callable[[], _T], spec: str, arguments: Mapping[str, object]) -> _T:
    """What the builder returns; UsageError in one line where it raises anything."""
    try:
        return build()
    except (Exception, SystemExit) as error:
        # Code that the user named, or a library's: any error is its answer.
        given = ",".join(f"{key}={value}" for key, value in arguments.items())
        reason = " ".join(str(error).split())
        raise UsageError(
            f"The architecture cannot be built: {type(error).__name__}: {reason}.",
            where=f"--arch {spec}" + (f" --arch-args {given}" if given else ""),
            hint="Give the arguments of its builder with --arch-args key=value,key=value.",
        ) from error


@dataclass(frozen=True)
class Differences:
    """How a state dict's shapes differ from a network's; batch counters aside."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]

    @classmethod
    def between(cls, network: Shapes, entries: Shapes) -> Differences:
        """Missing are those that only the network has, in its order."""
        network, entries = without_counters(network), without_counters(entries)
        return cls(
            tuple(key for key in network if key not in entries),
            tuple(key for key in entries if key not in network),
            tuple(
                f"{key} {list(entries[key])} instead of {list(shape)}"
                for key, shape in network.items()
                if key in entries and entries[key] != shape
            ),
        )

    @property
    def count(self) -> int:
        """How many entries differ."""
        return len(self.missing) + len(self.unexpected) + len(self.misshapen)

    def listed(self, shown: int = _SHOWN) -> str:
        """How many entries differ in which way, each with the first `shown` of them."""
        lists = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "of another shape": self.misshapen,
        }
        return "; ".join(
            f"{len(keys)} {what}: {', '.join(keys[:shown])}{', …' if len(keys) > shown else ''}"
            for what, keys in lists.items()
            if keys
        )


def load_entries(module: nn.Module, entries: Mapping[str, Tensor], where: str) -> list[str]:
    """Loads the state dict into the module; notes on what was let pass.

    Only BatchNorm's batch counters may be missing (they become 0) or left over: no eval forward
    reads them, and old checkpoints lack them. Raises ModelError if anything else differs.
    """
    state = module.state_dict()
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    resized = {key for key in tensors.keys() & entries.keys() if is_simulated(key)}
    network, given = (
        shapes_of({key: tensor for key, tensor in held.items() if key not in resized})
        for held in (tensors, entries)
    )
    differences = Differences.between(network, given)
    if differences.count:
        if renamed := renamed_by_a_tool(entries, tensors):
            raise ModelError(renamed[0], where=f"{where}: {differences.listed(1)}", hint=renamed[1])
        raise ModelError(
            f"The weights do not fit the architecture: {differences.listed()}.",
            where=where,
            hint="Name another with --arch, or its sizes with --arch-args num_classes=10.",
        )
    missing = [key for key in tensors if key not in entries]
    extra = [key for key in entries if key not in tensors]
    counters = {key: torch.zeros_like(tensors[key]) for key in missing}
    kept = {key: tensor for key, tensor in entries.items() if key in tensors}
    # Into the module's own state dict: some networks refuse one without their version number.
    state.update({**kept, **counters})
    module.load_state_dict(state)
    notes = []
    if missing:
        notes.append(f"{len(missing)} num_batches_tracked counters are missing: set to 0")
    if extra:
        notes.append(f"{len(extra)} num_batches_tracked counters are left over: ignored")
    return notes
