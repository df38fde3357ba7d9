"""How figures are written, the same in every rendering."""

from __future__ import annotations

from adabn_cli.text import count

__all__ = [
    "count",
    "number",
    "p_value",
    "percent",
    "percent_interval",
    "points",
    "points_interval",
]


def percent(share: float | None, digits: int = 1) -> str:
    """A fraction as "73.2%"; "–" where there is none."""
    return "–" if share is None else f"{100 * share:.{digits}f}%"


def points(difference: float | None) -> str:
    """A difference of fractions as "+5.8 pp"."""
    return "–" if difference is None else f"{100 * difference:+.1f} pp"


def points_interval(interval: tuple[float, float] | None) -> str:
    """An interval of differences as "+4.1 to +7.5 pp"."""
    if interval is None:
        return "–"
    return f"{100 * interval[0]:+.1f} to {100 * interval[1]:+.1f} pp"


def percent_interval(interval: tuple[float, float] | None) -> str:
    """An interval of fractions as "71.1–75.2%"."""
    return "–" if interval is None else f"{100 * interval[0]:.1f}–{100 * interval[1]:.1f}%"


def number(value: float | None, digits: int = 3) -> str:
    """A number to three significant digits, without an exponent where that is readable."""
    if value is None:
        return "–"
    text = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e" in text and 1 <= abs(value) < 1e6 else text


def p_value(p: float | None) -> str:
    """A p-value as "p = 0.03" or "p < 0.001"."""
    if p is None:
        return "–"
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
