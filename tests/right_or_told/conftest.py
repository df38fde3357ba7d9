"""Commands run in a folder of their own."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _alone(in_an_empty_folder: None) -> None:
    """Every command here runs so."""
