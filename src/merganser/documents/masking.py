"""Put short marks in place of what a text should not show, line for line.

A mask never changes how many lines a text has: the line ends inside what it hides stay. So every
line number, place and citation of the masked text holds for the file.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_LINE_END = re.compile(r"\r?\n")


@dataclass(frozen=True, slots=True)
class Mask:
    """A stretch of a text that is hidden.

    Attributes:
        start: Its first character.
        end: One past its last character; more than ``start``.
        mark: What stands there instead, in one line.
    """

    start: int
    end: int
    mark: str


class MaskedText:
    r"""A text with marks in place of stretches of it.

    Args:
        text: The text.
        masks: In any order. Those that overlap hide together what each of them hides, with the mark
            of the one that comes first in ``masks``.

    Attributes:
        text: With the marks, and with as many lines as before.

    >>> masked = MaskedText("key = abc\ndef\nend", [Mask(6, 13, "[key]")])
    >>> masked.text, masked.move(14), masked.move(8)
    ('key = [key]\n\nend', 13, 6)
    """

    def __init__(self, text: str, masks: Iterable[Mask]) -> None:
        joined = _join(masks)
        parts: list[str] = []
        lengths: list[int] = []
        end = 0
        for mask in joined:
            hidden = mask.mark + "".join(_LINE_END.findall(text, mask.start, mask.end))
            parts += (text[end : mask.start], hidden)
            lengths.append(len(hidden))
            end = mask.end
        self.text = "".join((*parts, text[end:])) if parts else text
        self._masks = joined
        self._starts = [mask.start for mask in joined]
        grown = (n - (mask.end - mask.start) for n, mask in zip(lengths, joined, strict=True))
        self._shifts = [0, *accumulate(grown)]

    def move(self, position: int) -> int:
        """Return where a position of the text is now; inside of a mask, where its mark begins."""
        number = bisect_right(self._starts, position)
        if number and position < self._masks[number - 1].end:
            return self._starts[number - 1] + self._shifts[number - 1]
        return position + self._shifts[number]


def _join(masks: Iterable[Mask]) -> Sequence[Mask]:
    """Return masks by position, those that overlap as one."""
    ordered = sorted(enumerate(masks), key=lambda item: item[1].start)
    joined: list[tuple[int, Mask]] = []
    for rank, mask in ordered:
        if joined and mask.start < joined[-1][1].end:
            first, other = joined[-1]
            mark = other.mark if first < rank else mask.mark
            joined[-1] = (min(first, rank), Mask(other.start, max(other.end, mask.end), mark))
        else:
            joined.append((rank, mask))
    return [mask for _, mask in joined]
