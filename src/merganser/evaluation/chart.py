"""A chart of metrics over evaluations, as an SVG without any external resource.

Prefect's old and new UI both render it offline as an image with a data URI in markdown; they strip
inline SVG, and only the new one draws mermaid.
"""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from merganser.store.evaluations import EvaluationRow

_WIDTH, _HEIGHT = 640, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 130, 16, 34
_COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b")
"""They differ in lightness too, for people with the common forms of color blindness."""


def draw_trend(rows: Sequence[EvaluationRow], title: str = "") -> str:
    """Draw the metrics of evaluations as an SVG document.

    Args:
        rows: Oldest first, at least one; the metrics of the newest are drawn.
        title: What it shows, for screen readers; an image in markdown has its own.
    """
    names = [row.metric for row in rows[-1].metrics]
    parts = [*_axes(rows)]
    for number, name in enumerate(dict.fromkeys(names)):
        parts += _line(rows, name, number)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="11" role="img">'
        f"<title>{escape(title)}</title>"
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>{"".join(parts)}</svg>'
    )


def as_image(svg: str, title: str) -> str:
    """Return an SVG as a markdown image with its data inside."""
    return f"![{title}](data:image/svg+xml;base64,{b64encode(svg.encode()).decode()})"


def _axes(rows: Sequence[EvaluationRow]) -> Iterator[str]:
    right = _WIDTH - _RIGHT
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _y(tick)
        yield f'<line x1="{_LEFT}" y1="{y}" x2="{right}" y2="{y}" stroke="#ddd"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end" fill="#555">{tick:g}</text>'
    dates = [f"{row.started:%Y-%m-%d %H:%M}" for row in rows]
    y = _HEIGHT - 12
    yield f'<text x="{_LEFT}" y="{y}" fill="#555">{dates[0]}</text>'
    if len(rows) > 1:
        yield f'<text x="{right}" y="{y}" text-anchor="end" fill="#555">{dates[-1]}</text>'


def _line(rows: Sequence[EvaluationRow], name: str, number: int) -> Iterator[str]:
    color = _COLORS[number % len(_COLORS)]
    points = [
        (_x(place, len(rows)), _y(row.values[name]), row)
        for place, row in enumerate(rows)
        if name in row.values
    ]
    path = " ".join(f"{x:g},{y:g}" for x, y, _ in points)
    yield f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>'
    for x, y, row in points:
        # A hollow point is an evaluation that failed a threshold.
        fill = color if row.passed else "#fff"
        yield f'<circle cx="{x:g}" cy="{y:g}" r="3.5" fill="{fill}" stroke="{color}"/>'
    y = _TOP + 14 + 18 * number
    x = _WIDTH - _RIGHT + 18
    yield f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{color}"/>'
    text = f"{escape(name)} {rows[-1].values[name]:.3f}"
    yield f'<text x="{x + 16}" y="{y}" fill="#222">{text}</text>'


def _x(place: int, count: int) -> float:
    room = _WIDTH - _LEFT - _RIGHT
    return round(_LEFT + (room * place / (count - 1) if count > 1 else room / 2), 1)


def _y(value: float) -> float:
    return round(_HEIGHT - _BOTTOM - value * (_HEIGHT - _TOP - _BOTTOM), 1)
