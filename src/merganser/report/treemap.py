"""A map of sources: folders and files as rectangles whose areas are their sizes.

The layout is the squarified treemap of Bruls, Huizing and van Wijk (2000): rows of rectangles are
laid along the shorter side, each as long as it makes its rectangles more square.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

HEADER = 15.0
"""Height of a folder's name above what it holds."""

_PAD = 2.0
_LEAST_AREA = 300.0
# Smaller ones cannot be hit with a pointer, and bound the number of cells.
_LEAST_FRAME = (64.0, 44.0)


@dataclass(frozen=True, slots=True)
class Source:
    """One file of an index.

    Attributes:
        path: As users see it, with ``/``.
        size_bytes: When it was last looked at.
        mtime_ns: When it was last changed, in nanoseconds since the epoch.
        chunks: Live chunks of it.
    """

    path: str
    size_bytes: int
    mtime_ns: int
    chunks: int


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle; y grows downwards."""

    x: float
    y: float
    width: float
    height: float

    @property
    def area(self) -> float:
        """Of the rectangle."""
        return self.width * self.height


@dataclass(slots=True)
class Node:
    """A folder or a file, with the sums of what is below it.

    Attributes:
        path: From the top of all sources; "" for the top.
        files: Number of files.
        size_bytes: Of all of them.
        chunks: Of all of them.
        newest_ns: Last change of any.
        below: By name; empty for a file.
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
        """Its share of the area; an empty file has one too."""
        return float(max(self.size_bytes, 1))

    def add(self, source: Source) -> None:
        """Count a file of it."""
        self.files += 1
        self.size_bytes += source.size_bytes
        self.chunks += source.chunks
        self.newest_ns = max(self.newest_ns, source.mtime_ns)

    def join(self, other: Node) -> None:
        """Count all of another node."""
        self.files += other.files
        self.size_bytes += other.size_bytes
        self.chunks += other.chunks
        self.newest_ns = max(self.newest_ns, other.newest_ns)

    def largest_first(self) -> list[Node]:
        """Give what is directly below, in an order that depends on nothing else."""
        return sorted(self.below.values(), key=lambda node: (-node.size_bytes, node.path))


@dataclass(frozen=True, slots=True)
class Cell:
    """One rectangle of the map.

    Attributes:
        node: What it stands for.
        label: Its name for people.
        box: Where.
        is_frame: A folder whose parts are drawn in it; else a file, or a folder in one piece.
    """

    node: Node
    label: str
    box: Box
    is_frame: bool


def build_tree(sources: Iterable[Source]) -> Node:
    """Sum sources up by folder; what all of them have in common is at the top.

    Returns:
        The lowest folder that holds all sources.
    """
    top = Node("")
    for source in sources:
        node = top
        node.add(source)
        names = source.path.split("/")
        for place, name in enumerate(names):
            path = "/".join(names[: place + 1])
            node = node.below.setdefault(name, Node(path))
            node.add(source)
    while len(top.below) == 1:
        (only,) = top.below.values()
        if not only.below:
            break
        top = only
    return top


def map_sources(top: Node, box: Box) -> Iterator[Cell]:
    """Place what is below a node in a rectangle, frames before what they hold.

    What would be too small to see is put together as one cell a folder.
    """
    nodes = top.largest_first()
    total = sum(node.weight for node in nodes)
    seen = [node for node in nodes if node.weight / total * box.area >= _LEAST_AREA]
    rest = Node(f"{top.path}/*".lstrip("/"))
    for node in nodes[len(seen) :]:
        rest.join(node)
    if rest.files:
        seen.append(rest)
    for node, place in zip(seen, squarify([node.weight for node in seen], box), strict=True):
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
    inside = Box(box.x + _PAD, box.y + HEADER, box.width - 2 * _PAD, box.height - HEADER - _PAD)
    yield from map_sources(node, inside)


def squarify(weights: Sequence[float], box: Box) -> list[Box]:
    """Divide a rectangle into as many as there are weights, as square as may be.

    Args:
        weights: Above 0; the result is best when they fall.
        box: What is divided.

    Returns:
        In the weights' order; areas are in proportion to them and fill the box.
    """
    total = sum(weights)
    areas = [weight / total * box.area for weight in weights]
    boxes: list[Box] = []
    start = 0
    while start < len(areas):
        side = min(box.width, box.height)
        end = start + 1
        while end < len(areas) and _worst(areas[start : end + 1], side) <= _worst(
            areas[start:end], side
        ):
            end += 1
        row, box = _lay(areas[start:end], box)
        boxes += row
        start = end
    return boxes


def _worst(areas: Sequence[float], side: float) -> float:
    """Give the worst ratio of sides in a row along a side; 1 is a square."""
    thickness = sum(areas) / side
    lengths = [area / thickness for area in areas]
    return max(max(thickness / length, length / thickness) for length in lengths)


def _lay(areas: Sequence[float], box: Box) -> tuple[list[Box], Box]:
    """Lay a row along the shorter side; give it and what is left."""
    is_wide = box.width >= box.height
    thickness = sum(areas) / (box.height if is_wide else box.width)
    row: list[Box] = []
    place = box.y if is_wide else box.x
    for area in areas:
        length = area / thickness
        row.append(
            Box(box.x, place, thickness, length)
            if is_wide
            else Box(place, box.y, length, thickness)
        )
        place += length
    if is_wide:
        return row, Box(box.x + thickness, box.y, max(box.width - thickness, 1e-9), box.height)
    return row, Box(box.x, box.y + thickness, box.width, max(box.height - thickness, 1e-9))
