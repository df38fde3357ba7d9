"""`adabn inspect`: what is in a model file."""

from __future__ import annotations

from json import loads

from adabn_cli.cli.consoles import show, write_json
from adabn_cli.cli.option_groups import shared as options
from adabn_cli.errors import UnsafeError


def inspect(
    model: options.ModelPath,
    arch: options.Arch = None,
    arch_args: options.ArchArgs = "",
    weights: options.Weights = None,
    input_name: options.InputName = None,
    trust_pickle: options.TrustPickle = False,
    json_: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Show format, architecture, sites, preprocessing and classes, and where each is known from.

    Changes nothing and executes nothing that the file names. Exit code 3 where loading the file
    would run code.
    """
    from adabn_cli.jobs.inspect import inspect as inspect_model
    from adabn_cli.models.architectures.build import parse_arch_args
    from adabn_cli.models.open import ModelRequest

    found = inspect_model(
        ModelRequest(
            model,
            arch=arch,
            arch_args=parse_arch_args(arch_args),
            weights=weights,
            trust_pickle=trust_pickle,
            input_name=input_name,
        )
    )
    if json_:
        write_json(loads(found.model_dump_json()))
    else:
        from adabn_cli.reports.terminal.inspection import render

        show(render(found))
    return UnsafeError.exit_code if found.unsafe_imports and not trust_pickle else 0
