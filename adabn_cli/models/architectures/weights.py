"""Where in a loaded checkpoint its weights are: which of several state dicts, under which key.

Knows the habits of training scripts (torchvision's and timm's, Lightning); knows no file.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from adabn_cli.errors import ModelError, UsageError
from adabn_cli.models.architectures.key_views import AVERAGE_COUNTERS

#: Keys that hold the weights as trained, the first found wins.
_MODEL_KEYS = (
    "current_model_state",
    "state_dict",
    "model",
    "model_state_dict",
    "model_state",
    "net",
    "network",
    "net_state_dict",
    "weights",
    "params",
    "module",
)
#: Keys that hold a moving average of them.
_EMA_KEYS = ("state_dict_ema", "model_ema", "ema", "ema_state_dict", "ema_model", "params_ema")
#: Where Lightning's WeightAveraging puts the weights as trained; its average is the state_dict.
_BESIDE_AVERAGE = "current_model_state"
_NOT_WEIGHTS = (
    "optimizer",
    "optim",
    "scheduler",
    "scaler",
    "lr_sched",
    "criterion",
    "averaging_state",
    "callbacks",
    "loops",
    "hyper_parameters",
    "datamodule_hyper_parameters",
)
_PREFIXES = ("module.", "_orig_mod.", "model.")

#: Where torch_ema puts its average: a list, without names.
_UNNAMED_AVERAGE = "shadow_params"
#: How the keys of torch's quantized linear layers end.
_PACKED = "._packed_params._packed_params"

_Value = TypeVar("_Value")


@dataclass(frozen=True, kw_only=True)
class Weights:
    """One set of weights: entries by clean key, or a whole module, and the key it was under.

    `stripped` are the prefixes that the keys had in the file, the outermost first.
    """

    key: str
    entries: Mapping[str, Tensor]
    module: nn.Module | None
    notes: tuple[str, ...] = ()
    stripped: tuple[str, ...] = ()


def find_weights(root: Any, choice: str | None, where: str) -> Weights:
    """The weights in a loaded checkpoint.

    `choice` is "ema", "model" or a key. Without one a moving average comes before the weights as
    trained: torchvision's script tests with it, timm's create_model loads it, and it is what gets
    published.
    Raises ModelError if there are none or the choice is open, UsageError for a wrong choice.
    """
    candidates = _candidates(root)
    if not candidates:
        unnamed = isinstance(root, Mapping) and _UNNAMED_AVERAGE in root
        raise ModelError(
            "There are no weights in this checkpoint.",
            where=f"{where}: {_describe(root)}",
            hint='Save them as torch.save(model.state_dict(), "model.pth")'
            + (", after ema.copy_to(model.parameters())." if unnamed else "."),
        )
    key = _choose(candidates, choice, where)
    notes = _note_on_others(candidates, key) if choice is None else []
    found = candidates[key]
    if isinstance(found, nn.Module):
        return Weights(key=key, entries={}, module=_unwrapped(found), notes=tuple(notes))
    _require_unquantized(found, where)
    tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    left_out = [name for name in found if name not in tensors]
    if left_out and key:
        notes.append(f"not tensors, left alone: {', '.join(left_out[:5])}")
    entries, stripped = clean_keys(tensors)
    return Weights(key=key, entries=entries, module=None, notes=tuple(notes), stripped=stripped)


def _require_unquantized(found: Mapping[str, Any], where: str) -> None:
    for name, value in found.items():
        if name.endswith(_PACKED) or (isinstance(value, Tensor) and value.is_quantized):
            raise ModelError(
                "The weights are quantized: their layers compute in integers.",
                where=f"{where}: {name}",
                hint="Give the checkpoint from before it was quantized, and quantize it again.",
            )


def clean_keys(entries: Mapping[str, _Value]) -> tuple[dict[str, _Value], tuple[str, ...]]:
    """Entries without the prefixes that all keys share (module., model., _orig_mod.), and these.

    A layer that was compiled by itself has its _orig_mod. in the middle of its keys.
    """
    clean, stripped = dict(entries), []
    while prefix := next((p for p in _PREFIXES if _share(clean, p)), ""):
        clean = {
            key.removeprefix(prefix): value
            for key, value in clean.items()
            if key not in AVERAGE_COUNTERS
        }
        stripped.append(prefix)
    plain = {key.replace("._orig_mod.", "."): value for key, value in clean.items()}
    return (plain if len(plain) == len(clean) else clean), tuple(stripped)


def _share(entries: Mapping[str, object], prefix: str) -> bool:
    names = [key for key in entries if key not in AVERAGE_COUNTERS]
    return bool(names) and all(key.startswith(prefix) and key != prefix for key in names)


def _candidates(root: Any) -> dict[str, Any]:
    """Dotted key -> state dict or module, for the root and two levels below it."""
    if isinstance(root, nn.Module):
        return {"": root}
    if not isinstance(root, Mapping):
        return {}
    nested: dict[str, Any] = {}
    for key, value in root.items():
        if not isinstance(key, str) or key.startswith(_NOT_WEIGHTS):
            continue
        if isinstance(value, nn.Module):
            nested[key] = value
        elif _is_state_dict(value):
            nested |= _with_average_apart(key, value)
        elif isinstance(value, Mapping):
            nested |= {f"{key}.{k}": v for k, v in value.items() if _is_weights(k, v)}
    return nested or (_with_average_apart("", root) if _is_state_dict(root) else {})


def _with_average_apart(key: str, state: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict, without the average that a training module kept as its part `ema_model.`."""
    name = next((n for n in _EMA_KEYS if any(k.startswith(f"{n}.") for k in state)), None)
    if name is None or all(k.startswith(f"{name}.") for k in state):
        return {key: state}
    average = {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}
    rest = {k: v for k, v in state.items() if not k.startswith(f"{name}.")}
    if _has_statistics(rest) and not _has_statistics(average):
        return {key: state}  # Of parameters alone, under other names: no model.
    found = {key: rest, f"{key}.{name}".lstrip("."): average}
    return {k: v for k, v in found.items() if _is_state_dict(v)}


def _has_statistics(state: Mapping[str, Any]) -> bool:
    return any(key.endswith(".running_mean") for key in state)


def _is_weights(key: Any, value: Any) -> bool:
    named = isinstance(key, str) and not key.startswith(_NOT_WEIGHTS)
    return named and (isinstance(value, nn.Module) or _is_state_dict(value))


def _is_state_dict(value: Any) -> bool:
    """A mapping of names to tensors; a plain number, or torch's extra state, may stand among them.

    A root that also holds an epoch and a best accuracy is one too, if nothing in it is.
    """
    return (
        isinstance(value, Mapping)
        and any(isinstance(item, Tensor) and item.dim() for item in value.values())
        and all(isinstance(key, str) for key in value)
    )


def _choose(candidates: Mapping[str, Any], choice: str | None, where: str) -> str:
    keys = list(candidates)
    if choice in candidates:
        return str(choice)
    averages = _averages(keys)
    trained = [key for key in keys if key not in averages]
    if choice == "ema" and averages:
        return averages[0]
    if choice not in (None, "model") or (choice == "model" and not trained):
        raise UsageError(
            f"There are no weights named {choice} in this checkpoint.",
            where=where,
            hint=f"--weights accepts one of: {', '.join(key for key in keys if key) or 'nothing'}.",
        )
    if choice is None and len(averages) == 1:
        return averages[0]
    for name in _MODEL_KEYS:
        for key in trained:
            if name in (key, key.split(".")[0], key.split(".")[-1]):
                return key
    pool = trained or averages
    if len(pool) > 1:
        raise ModelError(
            f"There are several sets of weights: {', '.join(pool)}.",
            where=where,
            hint=f"Choose one, for example --weights {pool[0]}.",
        )
    return pool[0]


def _averages(keys: Collection[str]) -> list[str]:
    """Those of the keys that hold a moving average."""
    known = {*_EMA_KEYS, *({"state_dict"} if _BESIDE_AVERAGE in keys else ())}
    return [key for key in keys if set(key.split(".")) & known]


def _note_on_others(candidates: Mapping[str, Any], key: str) -> list[str]:
    """Which weights were taken, and how to take the others, where there are any."""
    others = [other for other in candidates if other != key]
    if not others:
        return []
    average = key in _averages(list(candidates))
    kind = ", their moving average, as it is evaluated in training" if average else ""
    named = ", ".join(other or "the root" for other in others)
    choice = "model" if average else others[0] or "model"
    where = key or "the root"
    return [f"weights were taken from {where}{kind}; there are also {named} (--weights {choice})"]


def _unwrapped(module: nn.Module) -> nn.Module:
    """The module inside what keeps it: DataParallel asks for the devices it was saved on."""
    return module.module if isinstance(module, nn.DataParallel | AveragedModel) else module


def _describe(root: Any) -> str:
    if isinstance(root, Mapping):
        return "keys " + ", ".join(str(key)[:40] for key in list(root)[:8]) if root else "empty"
    return f"a {type(root).__name__}"
