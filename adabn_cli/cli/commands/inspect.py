"""`adabn inspect`: what is in a model file."""

from __future__ import annotations

from typing import Annotated

from adabn_cli.cli.option_groups.model import ModelOptions, ModelPath
from adabn_cli.cli.option_groups.output import OutputOptions
from adabn_cli.cli.option_groups.spread import Without
from adabn_cli.errors import UnsafeError


def inspect(
    *,
    model: ModelPath,
    loading: Annotated[ModelOptions, Without("output")],
    tells: Annotated[OutputOptions, Without("quiet")],
) -> int:
    """Show format, architecture, sites, preprocessing and classes, and where each is known from.

    Changes nothing and executes nothing that the file names. Exit code 3 where loading the file
    would run code.
    """
    from adabn_cli.jobs.inspect import inspect as inspect_model
    from adabn_cli.reports.terminal.inspection import render

    found = inspect_model(loading.request(model))
    tells.show(found.model_dump_json(), model, lambda: render(found))
    unsafe = found.unsafe_imports and not loading.trust_pickle
    return UnsafeError.exit_code if unsafe else 0
