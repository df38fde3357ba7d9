"""A record to change: of a real run, as it was written in version 1 of the schema."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from adabn_cli.record import Record

sys.path.insert(0, str(Path(__file__).parent))  # For report_cases: no package holds the tests.


@pytest.fixture
def record() -> Record:
    file = Path(__file__).parents[1] / "records" / "schema_1.json"
    return Record.model_validate_json(file.read_text(encoding="utf-8"))
