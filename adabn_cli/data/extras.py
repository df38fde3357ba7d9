"""Packages that some readers need and that are not installed by default."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from adabn_cli.errors import TargetError


def required(module: str, extra: str, what: str, where: str = "") -> Any:
    """The module. Raises TargetError, saying what to install, where it is not there."""
    try:
        return import_module(module)
    except ImportError as error:
        raise TargetError(
            f"{what} needs the package {module.partition('.')[0]}, which is not installed.",
            where=where,
            hint=f'pip install "adabn[{extra}]"',
        ) from error
