"""Figures as people read them."""

from __future__ import annotations


def show_bytes(count: int) -> str:
    """Write a size in the unit that suits it: ``4.2 kB``."""
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= factor:
            return f"{count / factor:,.1f} {unit}"
    return f"{count} B"


def show_age(seconds: float) -> str:
    """Say how long ago something was, in the largest unit that fits twice."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0.0):.0f} seconds"
