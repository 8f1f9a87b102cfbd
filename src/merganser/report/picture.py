"""The map of an index as inline SVG: areas are sizes, colours say how long ago a file changed."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from merganser.humanize import show_age, show_bytes
from merganser.report.treemap import HEADER, Box, map_sources

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from merganser.report.treemap import Cell, Node

WIDTH, HEIGHT = 1040, 520
_CHARACTER = 6.4  # of the 11 px font, on average
_LINE = 13.0

# Days since the last change, words for the legend, fill and text. One hue by lightness, so that it
# is told apart without colour too, with text at a contrast of 4.5 or more.
_AGES: tuple[tuple[float, str, str, str], ...] = (
    (1, "a day", "#08458f", "#fff"),
    (7, "a week", "#1f6fbf", "#fff"),
    (30, "a month", "#6fa8dc", "#111"),
    (90, "three months", "#a4c8ea", "#111"),
    (365, "a year", "#cfdfee", "#111"),
    (float("inf"), "longer", "#dedede", "#111"),
)


def draw_map(top: Node, now: datetime) -> str:
    """Draw what is below a node; every cell has a title with its path and figures."""
    cells = map_sources(top, Box(0, 0, WIDTH, HEIGHT))
    parts = "".join(_cell(cell, now) for cell in cells)
    what = f"Map of {top.files:,} sources, {show_bytes(top.size_bytes)}"
    return (
        f'<svg class="map" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{what}">'
        f"<title>{what}</title>{parts}</svg>"
    )


def draw_legend() -> str:
    """Say what the colours mean."""
    items = "".join(
        f'<li><span style="background:{fill}"></span>{words}</li>' for _, words, fill, _ in _AGES
    )
    return f'<ul class="legend"><li>changed within</li>{items}</ul>'


def _cell(cell: Cell, now: datetime) -> str:
    box, node = cell.box, cell.node
    _, _, fill, ink = _shade(node.newest_ns, now)
    kind = "frame" if cell.is_frame else "cell"
    paint = "" if cell.is_frame else f' fill="{fill}"'
    rectangle = (
        f'<rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" '
        f'height="{box.height:.1f}"{paint}/>'
    )
    text = "".join(_texts(cell, ink))
    return f'<g class="{kind}"><title>{escape(_title(node, now))}</title>{rectangle}{text}</g>'


def _title(node: Node, now: datetime) -> str:
    files = f"{node.files:,} files, " if node.files > 1 else ""
    changed = show_age(now.timestamp() - node.newest_ns / 1e9)
    return (
        f"{node.path}: {files}{show_bytes(node.size_bytes)}, {node.chunks:,} chunks, "
        f"changed {changed} ago"
    )


def _texts(cell: Cell, ink: str) -> Iterator[str]:
    box = cell.box
    room = int((box.width - 8) / _CHARACTER)
    if room < 3 or box.height < _LINE + 2:
        return
    paint = "" if cell.is_frame else f' fill="{ink}"'
    lines = [_shorten(cell.label, room)]
    if cell.is_frame:
        size = show_bytes(cell.node.size_bytes)
        if len(lines[0]) + len(size) + 2 <= room:
            lines[0] += f"  {size}"
    elif box.height >= 2 * _LINE + 4 and room >= len(size := show_bytes(cell.node.size_bytes)):
        lines.append(size)
    y = box.y + (HEADER - 4 if cell.is_frame else _LINE)
    for number, line in enumerate(lines):
        place = f'x="{box.x + 4:.1f}" y="{y + number * _LINE:.1f}"'
        yield f"<text {place}{paint}>{escape(line)}</text>"


def _shorten(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _shade(changed_ns: int, now: datetime) -> tuple[float, str, str, str]:
    days = (now.timestamp() - changed_ns / 1e9) / 86400
    return next(shade for shade in _AGES if days <= shade[0])
