"""A record to change: of a real run, as it was written in version 1 of the schema."""

from __future__ import annotations

from pathlib import Path

import pytest

from adabn_cli.record import Record


@pytest.fixture
def record() -> Record:
    file = Path(__file__).parents[1] / "records" / "schema_1.json"
    return Record.model_validate_json(file.read_text(encoding="utf-8"))
