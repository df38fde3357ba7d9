"""What `--help` says, kept in help/ as it is at 100 columns.

`ADABN_UPDATE_GOLDEN=1 pytest tests/cli/test_help.py` keeps what it says now; look at the
difference. Other versions of Typer and Rich draw it otherwise: with these the names of options are
compared.
"""

from __future__ import annotations

import json
import os
import re
from importlib.metadata import version
from pathlib import Path

import pytest

KEPT = Path(__file__).parent / "help"
DRAWN_BY = KEPT / "drawn_by.json"
UPDATE = bool(os.environ.get("ADABN_UPDATE_GOLDEN"))  # A fixture takes it away from the commands.
COMMANDS = (
    "adapt", "apply", "collect", "convert", "demo", "evaluate", "inspect", "merge", "profile",
    "report", "watch",
)  # fmt: skip


@pytest.mark.parametrize("name", ["adabn", *COMMANDS])
def test_help_says_what_it_said_before(command, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "100")
    done = command(*([] if name == "adabn" else [name]), "--help")
    assert (done.code, done.err) == (0, "")
    told = "".join(f"{line.rstrip()}\n" for line in done.out.splitlines())
    kept, drawn_by = KEPT / f"{name}.txt", {x: version(x) for x in ("typer", "rich")}
    if UPDATE:
        kept.write_text(told, encoding="utf-8")
        DRAWN_BY.write_text(json.dumps(drawn_by, indent=1) + "\n", encoding="utf-8")
    before = kept.read_text(encoding="utf-8")
    if json.loads(DRAWN_BY.read_text(encoding="utf-8")) == drawn_by:
        assert told == before
    else:
        assert options(told) == options(before)


def options(text: str) -> set[str]:
    """The options that rows begin with; what is said of them stands further to the right."""
    return set(re.findall(r"^\W{1,7}(--[a-z0-9-]+)", text, flags=re.MULTILINE))


def test_help_of_every_command_is_kept():
    assert {path.stem for path in KEPT.glob("*.txt")} == {"adabn", *COMMANDS}
