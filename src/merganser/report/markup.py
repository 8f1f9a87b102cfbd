"""The few pieces of HTML of a report. Text is escaped here, and nowhere else let through."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime


_LONG = 14
_DATE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d")


@dataclass(frozen=True, slots=True)
class Marked:
    """A cell whose text has a colour: ``good``, ``warn`` or ``bad``."""

    text: str
    tone: str


def figure_list(figures: Iterable[tuple[str, str, str]]) -> str:
    """Give headline figures: what, how much, and a remark that may be empty."""
    items = "".join(_figure(*figure) for figure in figures)
    return f'<dl class="figures">{items}</dl>'


def _figure(what: str, much: str, remark: str) -> str:
    room = ' class="long"' if len(much) > _LONG else ""
    small = f"<small>{escape(remark)}</small>" if remark else ""
    return f"<div{room}><dt>{escape(what)}</dt><dd>{escape(much)}{small}</dd></div>"


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Give a table; integers and floats stand to the right.

    Args:
        caption: What it shows.
        heads: Of the columns.
        rows: Cells of text, numbers or ``Marked``.
    """
    lines = list(rows)
    numeric = [any(isinstance(row[n], int | float) for row in lines) for n in range(len(heads))]
    sides = [' class="number"' if right else "" for right in numeric]
    head = "".join(
        f'<th scope="col"{side}>{escape(text)}</th>'
        for side, text in zip(sides, heads, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{side or _side(value)}>{_cell(value)}</td>"
            for side, value in zip(sides, row, strict=True)
        )
        + "</tr>"
        for row in lines
    )
    return (
        f'<div class="wide"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def folded(summary: str, content: str) -> str:
    """Give content that opens with a click."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def show_time(when: datetime) -> str:
    """Write a moment, with its time zone."""
    return f"{show_minute(when)} UTC"


def show_minute(when: datetime) -> str:
    """Write a moment for a column that is in UTC."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M}"


def _side(value: object) -> str:
    """Keep dates on one line, and let long text break anywhere."""
    if not isinstance(value, str):
        return ""
    if _DATE.fullmatch(value):
        return ' class="when"'
    return ' class="path"' if len(value) > 3 * _LONG else ""


def _cell(value: object) -> str:
    if isinstance(value, Marked):
        return f'<span class="{value.tone}">{escape(value.text)}</span>'
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3f}" if isinstance(value, float) else escape(str(value))
