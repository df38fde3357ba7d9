"""Which files a run is rendered into, and how they name others."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from adabn_cli.cli.option_groups.option import Group, Option

_option = partial(Option, rich_help_panel="Files, or - for stdout")

#: How renderings name files: relative to the run, the same on every machine, or as they were.
Paths = Literal["relative", "absolute"]


class RenderingOptions(Group):
    """A file for each rendering."""

    html: Annotated[
        str | None,
        _option(
            "--html",
            said="settings",
            metavar="FILE",
            help="One page with charts that opens anywhere. Needs matplotlib.",
        ),
    ] = None
    md: Annotated[
        str | None,
        _option(
            "--md",
            said="settings",
            metavar="FILE",
            help="Markdown for a job summary or a comment on a pull request.",
        ),
    ] = None
    junit: Annotated[
        str | None,
        _option(
            "--junit",
            said="settings",
            metavar="FILE",
            help="JUnit XML: one test case per gate.",
        ),
    ] = None
    openmetrics: Annotated[
        str | None,
        _option(
            "--openmetrics",
            said="settings",
            metavar="FILE",
            help="OpenMetrics text, for dashboards.",
        ),
    ] = None
    model_card: Annotated[
        str | None,
        _option(
            "--model-card",
            said="settings",
            metavar="FILE",
            help="A section for the model's card, in Markdown.",
        ),
    ] = None
    paths: Annotated[
        Paths,
        _option(
            "--paths",
            said="settings",
            help="How files of these renderings name model, target and run: relative to the run's "
            "folder, the same on every machine, or absolute.",
        ),
    ] = "relative"
    thumbnails: Annotated[
        bool,
        _option(
            "--thumbnails",
            said="settings",
            help="Put the worst broken pictures into the page of --html, read from the target.",
        ),
    ] = False

    @property
    def files(self) -> dict[str, str]:
        """The file that is asked for, by option."""
        asked = {
            "--html": self.html,
            "--md": self.md,
            "--junit": self.junit,
            "--openmetrics": self.openmetrics,
            "--model-card": self.model_card,
        }
        return {option: file for option, file in asked.items() if file is not None}
