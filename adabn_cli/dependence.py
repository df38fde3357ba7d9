"""What a result depends on: all that is asked for, but what says of itself that it does not.

So an option that is added counts, for going on with a run and for merging shards, until its field
says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

#: Metadata of a field that no result depends on, or only by what is found and compared itself:
#: pictures by their digest, not by their path.
FREE = MappingProxyType({"free": True})


def option(name: str) -> dict[str, str]:
    """Metadata of a field whose option has another name."""
    return {"option": name}


class Setting(NamedTuple):
    """What was asked for with an option; `given` unless it is the default."""

    option: str
    value: Any
    given: bool


def settings(request: Any) -> Iterator[Setting]:
    """All that a result depends on in a request, a dataclass, and in the requests in it."""
    for item in fields(request):
        value, name = getattr(request, item.name), f"--{item.name.replace('_', '-')}"
        if "free" in item.metadata:
            continue
        if is_dataclass(value):
            yield from settings(value)
        else:
            given = value not in (item.default, None, (), {})
            yield Setting(item.metadata.get("option", name), value, given)
