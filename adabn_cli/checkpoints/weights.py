"""Where in a loaded checkpoint its weights are: which of several state dicts, under which key.

Knows the habits of training scripts; knows no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor, nn

from adabn_cli.errors import ModelError, UsageError

#: Keys that hold the weights as trained, the first found wins.
_MODEL_KEYS = (
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
_NOT_WEIGHTS = ("optimizer", "optim", "scheduler", "scaler", "lr_sched", "criterion")
_PREFIXES = ("module.", "_orig_mod.", "model.")
#: What torch's AveragedModel counts beside the weights.
_AVERAGE_COUNT = "n_averaged"

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Weights:
    """One set of weights: entries by clean key, or a whole module, and the key it was under."""

    key: str
    entries: Mapping[str, Tensor]
    module: nn.Module | None
    notes: tuple[str, ...] = ()


def find_weights(root: Any, choice: str | None, where: str) -> Weights:
    """The weights in a loaded checkpoint.

    `choice` is "ema", "model" or a key; without one the weights as trained come before an average.
    Raises ModelError where there are none or the choice is open, UsageError for a wrong choice.
    """
    candidates = _candidates(root)
    if not candidates:
        raise ModelError(
            "There are no weights in this checkpoint.",
            where=f"{where}: {_describe(root)}",
            hint='Save them as torch.save(model.state_dict(), "model.pth").',
        )
    key = _choose(candidates, choice, where)
    others = [other or "the root" for other in candidates if other != key]
    notes = []
    if others and choice is None:
        notes.append(
            f"weights were taken from {key or 'the root'}; there are also {', '.join(others)} "
            f"(--weights {others[0]})"
        )
    found = candidates[key]
    if isinstance(found, nn.Module):
        return Weights(key, {}, _unwrapped(found), tuple(notes))
    entries, left_out = _entries(found)
    if left_out and key:
        notes.append(f"not tensors, left alone: {', '.join(left_out[:5])}")
    return Weights(key, entries, None, tuple(notes))


def clean_keys(entries: Mapping[str, _Value]) -> dict[str, _Value]:
    """Entries without the prefixes that all keys share: module., model., _orig_mod., repeatedly."""
    clean = dict(entries)
    while prefix := next((p for p in _PREFIXES if _share(clean, p)), ""):
        clean = {key.removeprefix(prefix): value for key, value in clean.items()}
        clean.pop(_AVERAGE_COUNT, None)
    return clean


def _share(entries: Mapping[str, object], prefix: str) -> bool:
    names = [key for key in entries if key != _AVERAGE_COUNT]
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
        if isinstance(value, nn.Module) or _is_state_dict(value):
            nested[key] = value
        elif isinstance(value, Mapping):
            nested |= {f"{key}.{k}": v for k, v in value.items() if _is_weights(k, v)}
    return nested or ({"": root} if _is_state_dict(root) else {})


def _is_weights(key: Any, value: Any) -> bool:
    named = isinstance(key, str) and not key.startswith(_NOT_WEIGHTS)
    return named and (isinstance(value, nn.Module) or _is_state_dict(value))


def _is_state_dict(value: Any) -> bool:
    """A mapping of names to tensors; a plain number, or torch's extra state, may stand among them.

    A root that also holds an epoch and a best accuracy is one too, if nothing in it is.
    """
    return (
        isinstance(value, Mapping)
        and any(isinstance(item, Tensor) for item in value.values())
        and all(isinstance(key, str) for key in value)
    )


def _choose(candidates: Mapping[str, Any], choice: str | None, where: str) -> str:
    keys = list(candidates)
    if choice in candidates:
        return str(choice)
    averages = [key for key in keys if set(key.split(".")) & set(_EMA_KEYS)]
    trained = [key for key in keys if key not in averages]
    if choice == "ema" and averages:
        return averages[0]
    if choice not in (None, "model") or (choice == "model" and not trained):
        raise UsageError(
            f"There are no weights named {choice} in this checkpoint.",
            where=where,
            hint=f"--weights takes one of: {', '.join(key for key in keys if key) or 'nothing'}.",
        )
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


def _entries(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], list[str]]:
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    left_out = [key for key in state if key not in tensors]
    return clean_keys(tensors), left_out


def _unwrapped(module: nn.Module) -> nn.Module:
    """The module inside torch.nn.DataParallel, which asks for the devices it was saved on."""
    return module.module if isinstance(module, nn.DataParallel) else module


def _describe(root: Any) -> str:
    if isinstance(root, Mapping):
        return "keys " + ", ".join(str(key)[:40] for key in list(root)[:8]) if root else "empty"
    return f"a {type(root).__name__}"
