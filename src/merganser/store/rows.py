"""What a reader gives: chunks, where they are, and where terms occur."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ChunkPlace:
    """Where a chunk is: all that ranking needs, without its text.

    Attributes:
        key: Unique in the snapshot.
        path: Path of the file, as users see it.
        language: Language of the file, or "" when not known.
        ord: Position in the file, from 0.
        start_line: First line, from 1.
        end_line: Last line, inclusive.
        text_hash: Hash of the exact text, as two 64-bit numbers.
        file_mtime_ns: When the file was last changed, as seen by the scan.
        file_size_bytes: Size of the file, as seen by the scan.
        file_kind: What sort of document the file is, see ``DocumentText.kind``; "" when not known.
    """

    key: int
    path: str
    language: str
    ord: int
    start_line: int
    end_line: int
    text_hash: tuple[int, int]
    file_mtime_ns: int
    file_size_bytes: int
    file_kind: str


TEXT_COLUMNS = ("symbol", "kind", "text", "start_char", "end_char", "place")
"""Columns of a ``StoredChunk`` that a ``ChunkPlace`` lacks; old segments have no ``place``."""


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """One chunk of a snapshot.

    Attributes:
        key: Unique in the snapshot.
        path: Path of the file, as users see it.
        language: Language of the file, or "" when not known.
        symbol: Name of what it defines, or "".
        kind: What the chunk is, for example ``function``.
        ord: Position in the file, from 0.
        start_line: First line, from 1.
        end_line: Last line, inclusive.
        text: As it was embedded.
        start_char: Begin of the span in the decoded text.
        end_char: End of the span, exclusive.
        file_mtime_ns: When the file was last changed, as seen by the scan.
        file_size_bytes: Size of the file, as seen by the scan.
        file_kind: As in ``ChunkPlace``.
        place: Where it stands in the file, such as ``slides 3-4``; "" where that is its lines.
    """

    key: int
    path: str
    language: str
    symbol: str
    kind: str
    ord: int
    start_line: int
    end_line: int
    text: str
    _: KW_ONLY
    start_char: int
    end_char: int
    file_mtime_ns: int
    file_size_bytes: int
    file_kind: str
    place: str


def text_of(chunks: Sequence[StoredChunk]) -> tuple[str, int]:
    """Join the chunks of a file, which may overlap; return the number of the first line too.

    The header of a table that stands in front of a chunk of its rows is left out, and so are blank
    lines in front of the first chunk and spaces at the ends of lines.

    Args:
        chunks: All of the file, in order; at least one.
    """
    parts: list[str] = []
    end, line = chunks[0].start_char, chunks[0].start_line
    for chunk in chunks:
        if chunk.end_char > end:
            # What is blank between chunks of extracted text is in none of them.
            missing = chunk.start_line - line if chunk.start_char > end else 0
            gap = "\n" * missing or " " * (chunk.start_char - end)
            header = len(chunk.text) - (chunk.end_char - chunk.start_char)
            parts += (gap, chunk.text[header + max(end - chunk.start_char, 0) :])
            line += missing + parts[-1].count("\n")
            end = chunk.end_char
    return "".join(parts), chunks[0].start_line


@dataclass(frozen=True, slots=True, eq=False)
class Postings:
    """Where terms occur, as parallel arrays ordered by term, then by key.

    Attributes:
        term_index: (n,) int32, index into the terms that were asked for.
        key: (n,) int64, chunk keys.
        tf: (n,) uint8, occurrences in the chunk, capped at 255.
        doc_len: (n,) int32, terms in the chunk with repetitions.
    """

    term_index: NDArray[np.int32]
    key: NDArray[np.int64]
    tf: NDArray[np.uint8]
    doc_len: NDArray[np.int32]
