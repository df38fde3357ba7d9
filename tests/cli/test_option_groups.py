"""A command names groups of options; Typer sees an option for each."""

from __future__ import annotations

from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from adabn_cli.cli.app import COMMANDS
from adabn_cli.cli.option_groups.option import Group, Option
from adabn_cli.cli.option_groups.spread import Without, settings_of, spread


class Shape(Group):
    sides: Annotated[int, Option("--sides", help="How many.")] = 3
    fill: Annotated[bool, Option("--fill", said="settings")] = False
    names: Annotated[list[str] | None, Option("--name", said="line")] = None

    def told(self) -> str:
        return f"{self.sides} {self.fill} {self.names}"


class Square(Shape):
    sides: Annotated[int, Option("--sides")] = 4


def draw(
    *,
    size: Annotated[int, Option("--line-size")] = 1,
    shape: Shape,
    last: Annotated[bool, Option("--last")] = False,
) -> int:
    typer.echo(f"{size} {shape.told()} {last}")
    return 0


def plain(*, shape: Annotated[Square, Without("names", "fill")]) -> int:
    typer.echo(shape.told())
    return 0


def told(command, *arguments, **variables):
    app = typer.Typer()
    app.command()(spread(command))
    return CliRunner().invoke(app, arguments, env=variables).output.strip()


def test_a_group_is_made_from_the_options_of_its_fields():
    assert told(draw) == "1 3 False None False"
    given = ("--sides", "5", "--name", "a", "--name", "b", "--fill", "--last", "--line-size", "2")
    assert told(draw, *given) == "2 5 True ['a', 'b'] True"


def test_a_subclass_changes_a_default_and_a_command_leaves_options_out():
    assert told(plain) == "4 False None"
    assert "--fill" not in told(plain, "--help")


def test_an_option_says_where_else_it_may_be_said():
    assert told(draw, ADABN_SIDES="7", ADABN_LINE_SIZE="8") == "8 7 False None False"
    assert told(draw, ADABN_FILL="1", ADABN_NAME="x") == "1 3 False None False"
    settings = [(x.key, x.parameter, x.repeated) for x in settings_of(spread(draw))]
    assert settings == [
        ("line-size", "size", False),
        ("sides", "sides", False),
        ("fill", "fill", False),
        ("last", "last", False),
    ]


@pytest.mark.parametrize("key", ["trust-pickle", "force", "target", "out", "resume", "json"])
def test_what_loosens_safety_or_replaces_files_is_no_setting(key):
    assert not [1 for x in COMMANDS.values() if key in {one.key for one in settings_of(x)}]
