"""The commands, and the settings that stand beneath their options. No torch in sight."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from adabn_cli.cli.commands.adapt import adapt
from adabn_cli.cli.commands.apply import apply
from adabn_cli.cli.commands.collect import collect
from adabn_cli.cli.commands.convert import convert
from adabn_cli.cli.commands.demo import demo
from adabn_cli.cli.commands.evaluate import evaluate
from adabn_cli.cli.commands.inspect import inspect
from adabn_cli.cli.commands.merge import merge
from adabn_cli.cli.commands.profile import profile
from adabn_cli.cli.commands.report import report
from adabn_cli.cli.commands.watch import watch
from adabn_cli.cli.consoles import write
from adabn_cli.cli.settings import Option, defaults_by_command, read_settings
from adabn_cli.version import __version__

app = typer.Typer(
    name="adabn",
    help="Adapt a trained image model to a folder of unlabeled pictures: re-estimate the "
    "statistics of its normalization layers, and prove what that did.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    adapt,
    report,
    inspect,
    evaluate,
    profile,
    apply,
    convert,
    collect,
    merge,
    watch,
    demo,
):
    app.command()(command)


def _version(value: bool) -> None:
    if value:
        write(f"adabn {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of `adabn` itself."""


# Only on the command line: what loosens safety or replaces files, what is different each time.
_NEVER_SETTINGS = {
    *("trust-pickle", "force", "revert"),
    *(
        "schema",
        "allow-different",
        "target",
        "data",
        "source",
        "profile",
        "pack",
        "out",
        "json",
        "debug",
        "dry-run",
        "resume",
        "once",
        "shard",
        "help",
    ),
}

# What a watched stream has under the name of something else in `adapt`.
_NEVER_SETTINGS_OF = {"watch": {"max-images", "momentum"}}


def settings_for(arguments: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Defaults by command from the settings file of this folder; none where help is asked for."""
    if not arguments or {"-h", "--help", "--version"} & set(arguments):
        return {}
    file, settings = read_settings(Path.cwd())
    if not settings:
        return {}
    group = typer.main.get_command(app)
    options = {
        name: [
            Option(key, str(parameter.name), parameter.multiple)
            for parameter in command.params
            if parameter.param_type_name == "option"
            and (key := parameter.opts[0].removeprefix("--")) not in _NEVER_SETTINGS
            and key not in _NEVER_SETTINGS_OF.get(name, ())
        ]
        for name, command in group.commands.items()  # type: ignore[attr-defined]
    }
    return defaults_by_command(settings, options, file)
