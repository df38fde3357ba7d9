"""Settings from `adabn.toml` or `[tool.adabn]` in `pyproject.toml`, beneath options and ADABN_*."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from adabn_cli.errors import UsageError


def read_settings(folder: Path) -> tuple[Path | None, dict[str, Any]]:
    """The file that holds settings for this folder and what is in it; (None, {}) without one.

    `adabn.toml` comes before `pyproject.toml`. Raises UsageError where a file is no TOML.
    """
    own = folder / "adabn.toml"
    if own.is_file():
        return own, _parsed(own)
    project = folder / "pyproject.toml"
    if project.is_file():
        settings = _parsed(project).get("tool", {}).get("adabn")
        if isinstance(settings, dict):
            return project, settings
    return None, {}


def _parsed(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UsageError(
            "The settings cannot be read.", where=f"{file}: {error}", hint="Correct that line."
        ) from error


def defaults_by_command(
    settings: Mapping[str, Any], options: Mapping[str, frozenset[str]], file: Path | None
) -> dict[str, dict[str, Any]]:
    """Settings as defaults of every command that has such an option.

    `options` maps a command to its options that may stand in a file. Raises UsageError for a key
    that no command has, with the nearest that one has.
    """
    known = sorted(set().union(*options.values()))
    defaults: dict[str, dict[str, Any]] = {command: {} for command in options}
    for key, value in settings.items():
        name = key.replace("-", "_")
        if name not in known:
            near = get_close_matches(name, known, n=1)
            raise UsageError(
                f"There is no setting {key!r}.",
                where=str(file),
                hint=f"Did you mean {near[0].replace('_', '-')!r}?"
                if near
                else f"Settings are: {', '.join(known).replace('_', '-')}.",
            )
        for command, names in options.items():
            if name in names:
                defaults[command][name] = _as_option(value)
    return defaults


def _as_option(value: Any) -> Any:
    """Lists as the comma-separated text that the option takes."""
    return ",".join(str(item) for item in value) if isinstance(value, list) else value
