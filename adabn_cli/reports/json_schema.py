"""The JSON Schema of `run.json`. Knows the record's shape and no record."""

from __future__ import annotations

from typing import Any

from adabn_cli.record import Record


def render() -> dict[str, Any]:
    """The schema (draft 2020-12) that every run of this schema version fits, old ones too.

    That of reading, not of writing: parts that came later are optional in it.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Record.model_json_schema(mode="validation"),
    }
