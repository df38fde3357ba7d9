"""Settings from `adabn.toml` or `[tool.adabn]` in `pyproject.toml`, beneath options and ADABN_*.

Those of gates may stand in a table of their own, `[gates]` or `[tool.adabn.gates]`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adabn_cli.errors import UsageError
from adabn_cli.files import SETTINGS

_GATES = "gates"
#: What the table of gates may hold, and what each is in words.
_GATE_SETTINGS: dict[str, tuple[tuple[type, ...], str]] = {
    "fail-on": ((str, list), "a gate or a list of them"),
    "warn-on": ((str, list), "a gate or a list of them"),
    "confidence": ((float,), "a number, as 0.95"),
    "allow-inconclusive": ((bool,), "true or false"),
    "allow-close-verdict": ((bool,), "true or false"),
    "baseline": ((str,), "a run"),
}


def read_settings(folder: Path) -> tuple[Path | None, dict[str, Any]]:
    """The file that holds settings for this folder and what is in it; (None, {}) without one.

    `adabn.toml` comes before `pyproject.toml`. Raises UsageError where a file is no TOML.
    """
    own, project = (folder / name for name in SETTINGS)
    if own.is_file():
        return own, _parsed(own)
    if project.is_file():
        settings = _parsed(project).get("tool", {}).get("adabn")
        if isinstance(settings, dict):
            return project, settings
    return None, {}


def _parsed(file: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UsageError(
            "The settings cannot be read.", where=f"{file}: {error}", hint="Correct that file."
        ) from error


@dataclass(frozen=True)
class Setting:
    """An option that a settings file may hold: its key there, its parameter, whether it repeats."""

    key: str
    parameter: str
    repeated: bool


def defaults_by_command(
    settings: Mapping[str, Any], options: Mapping[str, Sequence[Setting]], file: Path | None
) -> dict[str, dict[str, Any]]:
    """Settings as defaults, by parameter, of every command that has such an option.

    Raises UsageError for a key that no command has, with the nearest that one has.
    """
    known = {option.key for several in options.values() for option in several}
    values = _flat(settings, file)
    for key in values:
        if key not in known:
            raise _unknown(key, known, file)
    return {
        command: {
            option.parameter: _as_given(values[option.key], option)
            for option in several
            if option.key in values
        }
        for command, several in options.items()
    }


def gate_settings(settings: Mapping[str, Any], file: Path | None) -> dict[str, Any]:
    """The settings of gates, in their own table and beside it: lists where they repeat.

    Raises UsageError for a key of that table that is none, and for a value of another kind.
    """
    values = _flat(settings, file)
    return {
        key: _as_given(values[key], Setting(key, key, repeated=list in kinds))
        for key, (kinds, _) in _GATE_SETTINGS.items()
        if key in values
    }


def _flat(settings: Mapping[str, Any], file: Path | None) -> dict[str, Any]:
    """The settings by key as it is written in an option, the table of gates among them."""
    values = {key.replace("_", "-"): value for key, value in settings.items()}
    gates = values.pop(_GATES, {})
    if not isinstance(gates, dict):
        raise UsageError(
            f"The setting {_GATES!r} is a table.", where=str(file), hint="Write fail-on in it."
        )
    for name, value in gates.items():
        key = name.replace("_", "-")
        if key not in _GATE_SETTINGS:
            raise _unknown(key, _GATE_SETTINGS, file)
        if key in values:
            raise UsageError(
                f"The setting {key!r} is there twice.",
                where=str(file),
                hint=f"Leave it in the table {_GATES!r} alone.",
            )
        values[key] = value
    for key, (kinds, told) in _GATE_SETTINGS.items():
        if key in values and not isinstance(values[key], kinds):
            raise UsageError(f"The setting {key!r} is {told}.", where=str(file))
    return values


def _unknown(key: str, known: Collection[str], file: Path | None) -> UsageError:
    from difflib import get_close_matches

    near = get_close_matches(key, known, n=1)
    return UsageError(
        f"There is no setting {key!r}.",
        where=str(file),
        hint=f"Did you mean {near[0]!r}?" if near else f"Settings are: {', '.join(sorted(known))}.",
    )


def _as_given(value: Any, setting: Setting) -> Any:
    """The value as the command line gives it: lists as comma-separated text, or as repetitions."""
    if setting.repeated:
        return [str(item) for item in value] if isinstance(value, list) else [str(value)]
    return ",".join(map(str, value)) if isinstance(value, list) else value
