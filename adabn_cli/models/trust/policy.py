"""Which classes and functions a checkpoint's pickle may use. Decides before anything is loaded.

torch's restricted unpickler calls, builds and imports nothing that is not on a list, but whatever
is on it may be called with any arguments. So the pickle is audited first: modules may only be made
empty and filled once, never called; functions may be called only where they are listed here, and
numpy's only for plain numbers (a forged dtype makes numpy read any address).
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from pathlib import PurePosixPath, PureWindowsPath
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np
import torch
from torch import nn

from adabn_cli.errors import UnsafeError
from adabn_cli.models.trust.audit import Act, Made, Named, PickleAudit

#: Packages whose nn.Module classes may be rebuilt; importing these is ours to do.
_MODULE_PACKAGES = (
    "torch.nn.",
    "torch.optim.swa_utils.",
    "torchvision.models.",
    "torchvision.ops.",
    "timm.",
    "adabn_cli.normalizers.",
)
_ENUM_PACKAGES = ("torchvision.transforms.", "torchvision.models.", "timm.")
#: It joins a process group when it is filled.
_REFUSED_CLASSES = frozenset({"torch.nn.parallel.distributed.DistributedDataParallel"})

#: Classes that only hold what they are given, made empty and filled.
_RECORDS = frozenset(
    {
        "argparse.Namespace",
        "torch.nn.utils.weight_norm.WeightNorm",
        "torch.nn.utils.spectral_norm.SpectralNorm",
        "timm.models._features.FeatureInfo",
    }
)
#: Tuples made of plain numbers and nothing else -> how many.
_NUMBER_TUPLES = {"adabn_cli.normalizers.batch_renorm.ClippingSchedule": 5}
_PATHS: dict[str, type] = {
    f"{module}.{pure}{kind}Path": PureWindowsPath if kind == "Windows" else PurePosixPath
    for module in ("pathlib", "pathlib._local")
    for pure in ("", "Pure")
    for kind in ("", "Posix", "Windows")
}
_REBUILD = frozenset(
    f"torch._utils._rebuild_{what}"
    for what in (
        "parameter",
        "parameter_with_state",
        "qtensor",
        "sparse_tensor",
        "tensor",
        "tensor_v2",
        "tensor_v3",
    )
)
_WITH_TYPE = "torch._tensor._rebuild_from_type_v2"
_CALLS = (
    _REBUILD
    | _PATHS.keys()
    | {
        "builtins.complex",
        "builtins.set",
        "collections.Counter",
        "collections.OrderedDict",
        "torch.Size",
        "torch.device",
        "torch.serialization._get_layout",
    }
)
_TENSOR_CLASSES = frozenset({"torch.Tensor", "torch.nn.parameter.Parameter"})
_STORAGE = re.compile(r"torch\.(cuda\.|storage\.)?\w*Storage")

_NUMPY_CORES = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMPY: dict[str, Any] = {
    "numpy.dtype": np.dtype,
    "numpy.ndarray": np.ndarray,
    **{f"{core}.scalar": np.float64(0).__reduce__()[0] for core in _NUMPY_CORES},
    **{f"{core}._reconstruct": np.empty(0).__reduce__()[0] for core in _NUMPY_CORES},
}
_NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")

#: As torch.serialization.safe_globals takes them: what a name stands for, and the name.
Allowed = list[Callable[..., Any] | tuple[Callable[..., Any], str]]


def allowed_globals(audits: Sequence[PickleAudit], where: str) -> Allowed:
    """What torch's restricted unpickler has to be allowed for these pickles.

    Raises UnsafeError, listing what would be imported, where that is not on the list.
    """
    refused = refusals(audits)
    if refused:
        reasons = [name + (f" ({reason})" if reason else "") for name, reason in refused.items()]
        shown = ", ".join(reasons[:8]) + (", ..." if len(reasons) > 8 else "")
        raise UnsafeError(
            f"Loading this checkpoint could run code. It would use: {shown}.",
            where=where,
            hint="Give a state dict (torch.save(model.state_dict(), ...)) or a safetensors file, "
            f"or add {_cure(refused)} if you trust where this file comes from.",
        )
    allowed: Allowed = []
    for name in dict.fromkeys(name for audit in audits for name in audit.imports):
        if name in _NUMPY:
            # What torch checks when a dtype is filled is its own class, numpy.dtypes.Float64DType.
            allowed += [(_NUMPY[name], name)]
            allowed += [(type(np.dtype(code)), f"{name}[{code}]") for code in _NUMBERS]
        elif not _known_to_torch(name):
            allowed.append((_resolve(name), name))
    return allowed


def _cure(refused: Iterable[str]) -> str:
    """The options that load it: a class of a script is in that script's file alone."""
    prefix = "__main__."
    name = next((name.removeprefix(prefix) for name in refused if name.startswith(prefix)), None)
    return "--trust-pickle" + (f" --arch path/to/script.py:{name}" if name else "")


def refusals(audits: Iterable[PickleAudit]) -> dict[str, str]:
    """The globals that are not allowed, and why if the name does not say it."""
    refused: dict[str, str] = {}
    for audit in audits:
        for name in audit.imports:
            reason = _why_not_named(name)
            if reason is not None:
                refused[name] = reason
        for act in audit.acts:
            if act.name not in refused and not _may(act):
                refused[act.name or _describe(act)] = _forbidden(act)
        if audit.unknown_opcodes:
            opcodes = " ".join(sorted(audit.unknown_opcodes))
            refused["a pickle protocol that the safe reader does not know"] = opcodes
    return refused


def check_rebuilt(modules: Iterable[nn.Module], where: str) -> None:
    """Raises UnsafeError if a rebuilt module's methods or hooks were replaced by its file."""
    for module in modules:
        for name, value in vars(module).items():
            shadows = isinstance(getattr(type(module), name, None), FunctionType)
            hooks = value.values() if name.endswith("_hooks") and hasattr(value, "values") else ()
            callables = (type, FunctionType, BuiltinFunctionType)
            hooked = any(isinstance(hook, callables) for hook in hooks)
            compiled = name == "_compiled_call_impl" and value is not None
            if shadows or hooked or compiled:
                raise UnsafeError(
                    f"The checkpoint replaces {type(module).__name__}.{name} by its own.",
                    where=where,
                    hint="Add --trust-pickle if you trust where this file comes from.",
                )


def _known_to_torch(name: str) -> bool:
    """Whether the name is a constant, a tensor type or a call that torch's own list has."""
    if name in _PATHS or name in _NUMPY:
        return False
    if name in _CALLS | _TENSOR_CLASSES | {_WITH_TYPE, "_codecs.encode"}:
        return True
    if _STORAGE.fullmatch(name):
        return True
    value = getattr(torch, name[6:], None) if name.startswith("torch.") else None
    constant = isinstance(value, (torch.dtype, torch.layout, torch.qscheme))
    return constant or re.fullmatch(r"torch\.(cuda\.)?\w+Tensor", name) is not None


def _why_not_named(name: str) -> str | None:
    """None if the pickle may name this global at all."""
    if name in _NUMPY or name in _PATHS or name in _RECORDS or _known_to_torch(name):
        return None if _known_to_torch(name) or _resolve(name) is not None else "not installed"
    if not name.startswith(_MODULE_PACKAGES + _ENUM_PACKAGES):
        return ""
    found = _resolve(name)
    if found is None:
        return "not in the installed version"
    harmless = name in _NUMBER_TUPLES or _is_module_class(name, found) or _is_enum(name, found)
    return None if harmless else "not a module class"


def _resolve(name: str) -> Any:
    """The object of an allowed name, None if it is not installed."""
    if name in _PATHS or name in _NUMPY:
        return _PATHS.get(name) or _NUMPY[name]
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        return None


def _is_module_class(name: str, found: Any) -> bool:
    """A module class whose bases too are on the list and which does nothing when made empty."""
    if name in _REFUSED_CLASSES or not isinstance(found, type) or not issubclass(found, nn.Module):
        return False
    bases = [f"{base.__module__}." for base in found.__mro__ if base.__module__ not in _NEUTRAL]
    return found.__new__ is object.__new__ and all(b.startswith(_MODULE_PACKAGES) for b in bases)


_NEUTRAL = ("builtins", "abc", "typing")


def _is_enum(name: str, found: Any) -> bool:
    return name.startswith(_ENUM_PACKAGES) and isinstance(found, type) and issubclass(found, Enum)


def _may(act: Act) -> bool:
    """Whether an act is harmless, its global being allowed to be named."""
    if act.verb == "call":
        return _may_call(act.name, act.args)
    if act.verb == "new" and act.name in _NUMBER_TUPLES:
        return _are_numbers(act.args, _NUMBER_TUPLES[act.name])
    if act.verb == "new":
        return act.args == () and (act.name in _RECORDS or _is_module(act.name))
    if act.verb == "build":
        return not act.again and _may_build(act.name, act.args)
    return False


def _may_call(name: str, args: Any) -> bool:
    if not isinstance(args, tuple):
        return False
    checked = _CHECKED_CALLS.get(name)
    if checked is not None:
        return checked(args)
    # An Enum member is looked up by its value.
    looks_up = len(args) == 1 and isinstance(args[0], str | int)
    return name in _CALLS or (looks_up and _is_enum(name, _found(name)))


def _rebuilds_a_tensor(args: Any) -> bool:
    """torch's _rebuild_from_type_v2 calls its first argument, whatever it is."""
    return len(args) == 4 and _names(args[0], _REBUILD) and _names(args[1], _TENSOR_CLASSES)


def _encodes_bytes(args: Any) -> bool:
    return len(args) == 2 and isinstance(args[0], str) and args[1] in ("latin1", "latin-1")


def _are_numbers(args: Any, count: int) -> bool:
    if not isinstance(args, tuple) or len(args) != count:
        return False
    return all(type(arg) in (int, float) for arg in args)


def _is_number_type(args: Any) -> bool:
    return bool(args) and args[0] in _NUMBERS


def _is_number(args: Any) -> bool:
    return len(args) == 2 and _is_dtype(args[0]) and _is_bytes(args[1])


def _is_empty_array(args: Any) -> bool:
    return len(args) == 3 and _names(args[0], {"numpy.ndarray"}) and args[1] == (0,)


#: Calls that are harmless with some arguments only.
_CHECKED_CALLS: dict[str, Callable[[Any], bool]] = {
    _WITH_TYPE: _rebuilds_a_tensor,
    "_codecs.encode": _encodes_bytes,
    "numpy.dtype": _is_number_type,
    **{f"{core}.scalar": _is_number for core in _NUMPY_CORES},
    **{f"{core}._reconstruct": _is_empty_array for core in _NUMPY_CORES},
}


def _may_build(name: str, state: Any) -> bool:
    if name == "numpy.dtype":
        return (
            isinstance(state, tuple)
            and state[1:2] in (("<",), ("|",), ("=",))
            and state[2:] == (None, None, None, -1, -1, 0)
        )
    if name.endswith("multiarray._reconstruct"):
        return (
            isinstance(state, tuple)
            and len(state) == 5
            and _is_dtype(state[2])
            and _is_bytes(state[4])
        )
    return name in _RECORDS or name == "collections.OrderedDict" or _is_module(name)


def _is_module(name: str) -> bool:
    return name.startswith(_MODULE_PACKAGES) and _is_module_class(name, _found(name))


def _found(name: str) -> Any:
    return _resolve(name) if name.startswith(_MODULE_PACKAGES + _ENUM_PACKAGES) else None


def _names(value: Any, names: Iterable[str]) -> bool:
    return isinstance(value, Named) and value.name in names


def _is_dtype(value: Any) -> bool:
    return isinstance(value, Made) and value.by == "numpy.dtype"


def _is_bytes(value: Any) -> bool:
    return isinstance(value, bytes) or (isinstance(value, Made) and value.by == "_codecs.encode")


def _describe(act: Act) -> str:
    if act.verb == "refer":
        return f"a reference to a stored {str(act.args)[:40]!r}"
    return f"a {act.verb} on a value that it made"


def _forbidden(act: Act) -> str:
    verbs = {"call": "called", "new": "made with arguments", "build": "filled"}
    return f"must not be {verbs[act.verb]}" if act.name and act.verb in verbs else ""
