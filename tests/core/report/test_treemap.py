"""The map of an index: sums by folder, and the layout."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merganser.report.treemap import Box, Cell, build_tree, divide, map_nodes
from merganser.store.catalogue import FileRow

BOX = Box(0, 0, 800, 400)


def file(path: str, size_bytes: int, mtime_ns: int, chunks: int) -> FileRow:
    return FileRow(path, "", size_bytes, mtime_ns, 0, 0, "", 1, 1, 0, chunks, 0)


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=40))
def test_squares_fill_the_box_in_proportion_and_do_not_overlap(weights: list[float]):
    boxes = divide(weights, BOX)

    for weight, box in zip(weights, boxes, strict=True):
        assert box.area == pytest.approx(weight / sum(weights) * BOX.area, rel=1e-6)
        assert box.x >= -1e-6
        assert box.y >= -1e-6
        assert box.x + box.width <= BOX.width + 1e-6
        assert box.y + box.height <= BOX.height + 1e-6
    # Together they are as large as the box, so none can lie on another.
    for number, one in enumerate(boxes):
        for other in boxes[:number]:
            across = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
            down = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
            assert min(across, down) <= 1e-6


def test_equal_weights_in_a_square_make_squares():
    boxes = divide([1, 1, 1, 1], Box(0, 0, 100, 100))

    assert [(box.width, box.height) for box in boxes] == [pytest.approx((50, 50))] * 4


def test_every_file_is_on_the_map_once_and_small_ones_together():
    files = [file(f"src/app/m{n}.py", 4000 - n, 10**18 + n, 2) for n in range(300)]
    files.append(file("src/data/big.py", 4_000_000, 10**18, 9))

    cells = list(map_nodes(build_tree(files), BOX))

    leaves = [cell for cell in cells if not cell.is_frame]
    assert sum(cell.node.files for cell in leaves) == 301
    assert sum(cell.node.size_bytes for cell in leaves) == sum(one.size_bytes for one in files)
    assert max(leaves, key=area).node.path == "src/data/big.py"
    assert len(leaves) < 301


def area(cell: Cell) -> float:
    return cell.box.area


def test_the_common_folder_is_the_top():
    top = build_tree([file("a/b/one.md", 1, 0, 1), file("a/b/c/two.md", 2, 0, 1)])

    assert (top.path, sorted(top.below), top.files) == ("a/b", ["c", "one.md"], 2)
