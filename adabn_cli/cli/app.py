"""The commands, and the settings that stand beneath their options. No torch in sight."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from adabn_cli.cli.consoles import write
from adabn_cli.cli.option_groups.spread import settings_of, spread
from adabn_cli.cli.settings import defaults_by_command, read_settings
from adabn_cli.version import __version__

app = typer.Typer(
    name="adabn",
    help="Adapt a trained image model to a folder of unlabeled pictures: re-estimate the "
    "statistics of its normalization layers, and prove what that did.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
#: Each command in the order of --help, a function of its name in commands/, and an example of it.
_EXAMPLES = {
    "adapt": "adabn adapt model.pt --target photos/",
    "report": "adabn report --fail-on 'accuracy_drop>0.5pp' --html report.html",
    "inspect": "adabn inspect model.pt",
    "evaluate": "adabn evaluate model.pt --data labelled/ --pack pack.safetensors",
    "profile": "adabn profile model.pt --source train/",
    "apply": "adabn apply model.pt pack.safetensors --out adapted.pt",
    "convert": "adabn convert model.pt --out model.onnx",
    "collect": "adabn collect model.pt --target photos/ --shard 1/4",
    "merge": "adabn merge model.pt shard-*.safetensors --out pack.safetensors",
    "watch": "adabn watch model.pt incoming/ --out packs/",
    "demo": "adabn demo",
}
COMMANDS = {
    name: spread(getattr(import_module(f"adabn_cli.cli.commands.{name}"), name))
    for name in _EXAMPLES
}
for name, example in _EXAMPLES.items():
    app.command(epilog=f"Example: {example}")(COMMANDS[name])


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


def settings_for(arguments: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Defaults by command from the settings file of this folder; none where help is asked for."""
    if not arguments or {"-h", "--help", "--version"} & set(arguments):
        return {}
    file, settings = read_settings(Path.cwd())
    if not settings:
        return {}
    known = {name: settings_of(command) for name, command in COMMANDS.items()}
    return defaults_by_command(settings, known, file)
