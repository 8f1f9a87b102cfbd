"""A map of an index: folders and files as rectangles whose areas are their sizes.

The layout is the squarified treemap of Bruls, Huizing and van Wijk (2000). Colours say how long ago
a file was changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import squarify

from merganser.humanize import show_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from merganser.store.catalogue import FileRow

_HEADER = 15.0  # height of a folder's name above what it holds
_PAD = 2.0
_CHARACTER = 6.4  # width of the 11 px font, on average
_LINE = 13.0
# Smaller ones cannot be hit with a pointer, and this bounds the number of cells.
_LEAST_AREA = 300.0
_LEAST_FRAME = (64.0, 44.0)


class Shade(NamedTuple):
    """The colours of an age.

    Attributes:
        days: Longest time since the last change.
        words: The same for the legend.
        fill: Colour of the rectangle.
        ink: Colour of its text, at a contrast of 4.5 or more.
    """

    days: float
    words: str
    fill: str
    ink: str


SHADES = (
    # One hue by lightness, so that ages are told apart without colour too.
    Shade(1, "a day", "#08458f", "#fff"),
    Shade(7, "a week", "#1f6fbf", "#fff"),
    Shade(30, "a month", "#6fa8dc", "#111"),
    Shade(90, "three months", "#a4c8ea", "#111"),
    Shade(365, "a year", "#cfdfee", "#111"),
    Shade(float("inf"), "longer", "#dedede", "#111"),
)


def shade(seconds: float) -> Shade:
    """Return the colours of what was changed so many seconds ago."""
    return next(one for one in SHADES if seconds / 86400 <= one.days)


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels; y grows downwards."""

    x: float
    y: float
    width: float
    height: float

    @property
    def area(self) -> float:
        """Square pixels."""
        return self.width * self.height


@dataclass(slots=True)
class Node:
    """A folder or a file, with the sums of what is below it.

    Attributes:
        path: From the top of the index; "" for the top.
        files: Number of files.
        size_bytes: Their sizes when they were last looked at.
        chunks: Number of their live chunks.
        newest_ns: Last change of any, in nanoseconds since the epoch.
        below: Folders and files in it, by name; empty for a file.
    """

    path: str
    files: int = 0
    size_bytes: int = 0
    chunks: int = 0
    newest_ns: int = 0
    below: dict[str, Node] = field(default_factory=dict[str, "Node"])

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def weight(self) -> float:
        """What its area is in proportion to; an empty file has some too."""
        return float(max(self.size_bytes, 1))

    def add(self, other: Node) -> None:
        """Add another node's numbers to this one's."""
        self.files += other.files
        self.size_bytes += other.size_bytes
        self.chunks += other.chunks
        self.newest_ns = max(self.newest_ns, other.newest_ns)

    def largest_first(self) -> list[Node]:
        """Return what is directly below, ordered by size, then path."""
        return sorted(self.below.values(), key=lambda node: (-node.size_bytes, node.path))


@dataclass(frozen=True, slots=True)
class Cell:
    """One rectangle of the map.

    Attributes:
        node: The folder or file.
        label: Its name for people.
        box: Its place.
        is_frame: Whether it is a folder whose parts are drawn in it.
    """

    node: Node
    label: str
    box: Box
    is_frame: bool

    def texts(self) -> Iterator[tuple[float, float, str]]:
        """Yield the lines that fit, name then size, with x and y of where each begins."""
        room = int((self.box.width - 8) / _CHARACTER)
        if room < 3 or self.box.height < _LINE + 2:
            return
        name, size = self.label, show_bytes(self.node.size_bytes)
        if len(name) > room:
            name = name[: room - 1] + "\N{HORIZONTAL ELLIPSIS}"
        x = self.box.x + 4
        if self.is_frame:
            fits = len(name) + len(size) + 2 <= room
            yield x, self.box.y + _HEADER - 4, f"{name}  {size}" if fits else name
            return
        yield x, self.box.y + _LINE, name
        if self.box.height >= 2 * _LINE + 4 and room >= len(size):
            yield x, self.box.y + 2 * _LINE, size


def build_tree(files: Iterable[FileRow]) -> Node:
    """Sum files up by folder.

    Returns:
        The lowest folder that holds all files.
    """
    top = Node("")
    for file in files:
        leaf = Node(file.path, 1, file.size_bytes, file.row_count, file.mtime_ns)
        node = top
        node.add(leaf)
        names = file.path.split("/")
        for depth, name in enumerate(names, 1):
            node = node.below.setdefault(name, Node("/".join(names[:depth])))
            node.add(leaf)
    while len(top.below) == 1:
        (only,) = top.below.values()
        if not only.below:
            break
        top = only
    return top


def map_nodes(top: Node, box: Box) -> Iterator[Cell]:
    """Place what is below a node in a rectangle, frames before what they hold.

    What would be too small to see is put together as one cell a folder.
    """
    nodes = top.largest_first()
    total = sum(node.weight for node in nodes)
    seen = [node for node in nodes if node.weight / total * box.area >= _LEAST_AREA]
    rest = Node(f"{top.path}/*".lstrip("/"))
    for node in nodes[len(seen) :]:
        rest.add(node)
    if rest.files:
        seen.append(rest)
    for node, place in zip(seen, divide([node.weight for node in seen], box), strict=True):
        yield from _place(node, place, is_rest=node is rest)


def _place(node: Node, box: Box, *, is_rest: bool) -> Iterator[Cell]:
    label = f"{node.files:,} more" if is_rest else node.name
    while len(node.below) == 1:  # a folder in a folder alone needs no frame of its own
        (node,) = node.below.values()
        label = f"{label}/{node.name}"
    if not node.below or box.width < _LEAST_FRAME[0] or box.height < _LEAST_FRAME[1]:
        yield Cell(node, f"{label}/" if node.below else label, box, is_frame=False)
        return
    yield Cell(node, label, box, is_frame=True)
    inside = Box(box.x + _PAD, box.y + _HEADER, box.width - 2 * _PAD, box.height - _HEADER - _PAD)
    yield from map_nodes(node, inside)


def divide(weights: Sequence[float], box: Box) -> list[Box]:
    """Divide a rectangle into parts as square as may be.

    Args:
        weights: Above 0, at least one; the result is best when they fall.
        box: What is divided.

    Returns:
        In the weights' order; areas are in proportion to them and fill the box.
    """
    total = sum(weights)
    areas = [weight / total * box.area for weight in weights]
    # The package has no types.
    parts: list[dict[str, float]] = squarify.squarify(  # pyright: ignore[reportUnknownMemberType] - untyped
        areas, box.x, box.y, box.width, box.height
    )
    return [Box(part["x"], part["y"], part["dx"], part["dy"]) for part in parts]
