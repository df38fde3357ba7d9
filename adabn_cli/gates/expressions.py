"""What a gate asks, read from its text: `accuracy_drop>0.5pp`. Knows no record.

    gate     =  MEASURE [".change"] ("<" | ">") NUMBER ["%" | "pp"]
              | "verdict==" ("help" | "harm" | "cannot-tell")
              | "collapse"

An expression says what is not wanted: the gate fails where it holds. `.change` is the value less
that of the baseline.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite
from typing import Literal, cast

from adabn_cli.errors import UsageError
from adabn_cli.gates.measures import MEASURES

VERDICT = "verdict"
OUTCOMES = {"help": "help", "harm": "harm", "cannot-tell": "cannot tell"}
COMPARED: dict[str, Callable[[float, float], bool]] = {">": operator.gt, "<": operator.lt}
_LIMITED = re.compile(
    r"\s*([a-z0-9_]+)(\.change)?\s*(?:([<>])\s*([-+0-9.eE]+)\s*(pp|%)?)?\s*", re.ASCII
)
_VERDICT = re.compile(rf"\s*{VERDICT}\s*==\s*({'|'.join(OUTCOMES)})\s*")
#: Measures that are a gate by their name alone, and the limit that is meant.
_ALONE: dict[str, tuple[Literal[">", "<"], float]] = {"collapse": (">", 0.5)}


@dataclass(frozen=True, kw_only=True)
class Expression:
    """One gate as it was asked for; `limit` is a fraction where it was written with % or pp.

    `limit` is None and `outcome` one of the verdict's where it is the verdict that is asked for.
    """

    text: str
    measure: str
    operator: Literal[">", "<", "=="]
    limit: float | None = None
    change: bool = False
    as_share: bool = False
    outcome: str | None = None

    @property
    def name(self) -> str:
        """The measure as it is written, with `.change`."""
        return f"{self.measure}.change" if self.change else self.measure


def parse_gate(text: str, option: str = "--fail-on") -> Expression:
    """The gate that the text asks for.

    Raises UsageError, naming `option`, for a text that is none, with the nearest measure.
    """
    verdict = _VERDICT.fullmatch(text)
    if verdict:
        return Expression(text=text, measure=VERDICT, operator="==", outcome=OUTCOMES[verdict[1]])
    match = _LIMITED.fullmatch(text)
    name, change, sign, number, unit = match.groups() if match else ("", None, None, None, None)
    if name == VERDICT or text.strip().startswith(VERDICT):
        raise UsageError(
            f"{option} {text} asks for no verdict there is.",
            hint=f"Write one of {', '.join(f'{VERDICT}=={outcome}' for outcome in OUTCOMES)}.",
        )
    if name not in MEASURES:
        raise _no_measure(text, name, option)
    if sign is None:
        return _alone(text, name, option, change=bool(change))
    limit = _limit(text, name, (number or "", unit), option)
    sign = cast('Literal[">", "<"]', sign)
    return Expression(
        text=text,
        measure=name,
        operator=sign,
        limit=limit,
        change=bool(change),
        as_share=bool(unit),
    )


def _no_measure(text: str, name: str, option: str) -> UsageError:
    measure = re.match(r"\s*([a-z0-9_]+)(\.change)?(?![a-z0-9_.])", text)
    if not name and measure and measure[1] in MEASURES:
        return UsageError(
            f"{option} {text} is not understood.",
            hint=f"Write '{measure[1]}>LIMIT' or '{measure[1]}<LIMIT', in quotes.",
        )
    known = [*MEASURES, VERDICT]
    near = get_close_matches(name or text, known, n=1)
    return UsageError(
        f"{option} {text} names no measure.",
        hint=f"Did you mean {near[0]}?" if near else f"Measures: {', '.join(known)}.",
    )


def _alone(text: str, measure: str, option: str, *, change: bool) -> Expression:
    if measure not in _ALONE or change:
        raise UsageError(
            f"{option} {text} lacks a limit.",
            hint=f"Write '{text.strip()}>LIMIT' or '{text.strip()}<LIMIT', in quotes.",
        )
    sign, limit = _ALONE[measure]
    return Expression(text=text, measure=measure, operator=sign, limit=limit)


def _limit(text: str, measure: str, written: tuple[str, str | None], option: str) -> float:
    number, suffix = written
    unit = MEASURES[measure].unit
    try:
        limit = float(number)
    except ValueError as error:
        raise UsageError(
            f"{option} {text}: {number} is not a number.", hint=f"Write {measure}>0.5."
        ) from error
    if not isfinite(limit):
        raise UsageError(f"{option} {text}: {number} is too large.", hint="Write a smaller limit.")
    if suffix and (unit == "number" or (unit == "count" and suffix == "pp")):
        other = "a number or %" if unit == "count" else "a number"
        raise UsageError(
            f"{option} {text}: {measure} has no limit in {suffix}.",
            hint=f"Give {other}, in the measure's own unit.",
        )
    limit = limit / 100 if suffix else limit
    if unit == "share" and abs(limit) > 1:
        raise UsageError(
            f"{option} {text} is beyond what {measure} can be: it is a fraction of 1.",
            hint=f"Write {number}pp, or a fraction." if not suffix else "Write 100% at most.",
        )
    return limit
