"""How a command tells what it did: for people, as JSON, or in one line."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from json import loads
from typing import TYPE_CHECKING, Annotated

from adabn_cli.cli.consoles import show, write, write_json
from adabn_cli.cli.option_groups.option import Group, Option

if TYPE_CHECKING:
    from rich.console import RenderableType

_option = partial(Option, rich_help_panel="Output")


Debug = Annotated[bool, _option("--debug", said="line", help="Show a traceback with an error.")]
Force = Annotated[bool, Option("--force", said="line", help="Replace the file that is there.")]


class OutputOptions(Group):
    """What goes to stdout. --debug is obeyed by boundary.py, before options are read."""

    json: Annotated[
        bool,
        _option(
            "--json",
            said="line",
            help="Print one JSON document, on failure too.",
        ),
    ] = False
    quiet: Annotated[
        bool, _option("--quiet", "-q", said="settings", help="Print the essential line alone.")
    ] = False
    debug: Debug = False

    @property
    def little(self) -> bool:
        """Whether progress and remarks are left out."""
        return self.quiet or self.json

    def show(self, document: str, essential: object, story: Callable[[], RenderableType]) -> None:
        """A result: its JSON `document`, its `essential` line, or for people its `story`."""
        if self.json:
            write_json(loads(document))
        elif self.quiet:
            write(str(essential))
        else:
            show(story())
