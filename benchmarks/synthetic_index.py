"""Make an index of any size as the store would have it, without embedding anything.

Vectors are clustered and of a low inner dimension, as those of text models are: two chunks at
random have a cosine of about 0.4, the nearest neighbour one of about 0.9. Texts are cut from a real
tree; when it is used up they are made of the halves of two of its pieces, with a few words of
their own, so that the vocabulary grows as that of real text does.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import numpy as np

from merganser.store.catalogue import Catalogue, FileRow, SegmentRow, write_catalogue
from merganser.store.folder import Current, IndexFolder
from merganser.store.segments import ChunkRows, SegmentWriter
from merganser.store.tokens import TOKENISER_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

DIMENSIONS = 384
FINGERPRINT = "f" * 64
_INNER = 48
_CHARACTERS = 700
_CHUNKS_PER_FILE = 20
_BATCH = 10_000


class VectorSource:
    """Random vectors with the shape of embeddings; the same seed gives the same ones.

    Args:
        size: How many there will be, which sets the number of clusters.
    """

    def __init__(self, size: int) -> None:
        random = np.random.default_rng(7)
        spectrum = np.arange(1, _INNER + 1) ** -0.35
        self._basis = (random.standard_normal((_INNER, DIMENSIONS)) * spectrum[:, None]).astype(
            "f4"
        )
        self._centres = random.standard_normal((max(size // 40, 8), _INNER)).astype("f4")
        self._mean = random.standard_normal(DIMENSIONS).astype("f4") * 2.2

    def draw(self, count: int, seed: int) -> NDArray[np.float32]:
        """Return (count, DIMENSIONS) float32, L2-normalised."""
        random = np.random.default_rng([7, seed])
        inner = self._centres[random.integers(0, len(self._centres), count)]
        inner = inner + 0.55 * random.standard_normal((count, _INNER), dtype=np.float32)
        vectors = inner @ self._basis + self._mean
        vectors += 0.15 * random.standard_normal(vectors.shape, dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors.astype(np.float32)


def read_pieces(tree: Path, globs: Sequence[str] = ("*.py", "*.md")) -> list[str]:
    """Cut the files of a tree into pieces of about ``_CHARACTERS``."""
    pieces: list[str] = []
    for path in sorted({path for glob in globs for path in tree.rglob(glob) if path.is_file()}):
        lines: list[str] = []
        for line in path.read_text("utf-8", errors="replace").splitlines(keepends=True):
            lines.append(line[:_CHARACTERS])
            if sum(map(len, lines)) >= _CHARACTERS:
                pieces.append("".join(lines))
                lines = []
        if "".join(lines).strip():
            pieces.append("".join(lines))
    if not pieces:
        raise SystemExit(f"{tree} has no files of {', '.join(globs)}")
    return pieces


def vary(pieces: Sequence[str], number: int) -> str:
    """Return the text of a chunk, another one for every number."""
    turn, at = divmod(number, len(pieces))
    text = pieces[at]
    if turn == 0:
        return text
    other = pieces[(at * 7919 + turn * 104_729) % len(pieces)]
    middle = len(text) // 2
    return f"{text[:middle]} item_{turn}_{at % 977} {other[len(other) // 2 :]}"


def make_index(folder: Path, base: Path, size: int, pieces: Sequence[str]) -> None:
    """Write one snapshot with one segment.

    Args:
        folder: Of the index.
        base: Where its source files are made, of the right size without content, so that they can
            be looked at as usual.
        size: Number of chunks.
        pieces: Of ``read_pieces``.
    """
    index = IndexFolder(folder)
    index.create()
    path = index.segment(1)
    writer = SegmentWriter(path, path.parent, dimensions=DIMENSIONS)
    source = VectorSource(size)
    files: list[FileRow] = []
    for start in range(0, size, _BATCH):
        count = min(_BATCH, size - start)
        texts = [vary(pieces, number) for number in range(start, start + count)]
        names = list(_files(base, start, texts))
        places = writer.add(names, _rows(texts), source.draw(count, start))
        for name, place in zip(names, places, strict=True):
            status = (base / name).stat()
            files.append(
                FileRow(
                    path=name,
                    language="python" if len(files) % 3 else "markdown",
                    size_bytes=status.st_size,
                    mtime_ns=status.st_mtime_ns,
                    inode=status.st_ino,
                    stat_ns=status.st_mtime_ns,
                    content_hash="0" * 32,
                    segment=1,
                    file_id=place.file_id,
                    first_row=place.first_row,
                    row_count=place.row_count,
                    term_count=place.term_count,
                )
            )
    writer.finish()
    segment = SegmentRow(1, path.name, size, size, path.stat().st_size, FINGERPRINT, DIMENSIONS)
    meta = {
        "generation": "1",
        "created": "2026-01-01T00:00:00+00:00",
        "tokeniser": str(TOKENISER_VERSION),
        "embedding": FINGERPRINT,
        "model_name": "synthetic",
        "dimensions": str(DIMENSIONS),
    }
    files.sort(key=lambda file: file.path)
    write_catalogue(index.catalogue(1), Catalogue(meta, tuple(files), (segment,)))
    index.write_current(Current(1, (1,), 2, 2))


def _files(base: Path, start: int, texts: Sequence[str]) -> Iterator[str]:
    for at in range(0, len(texts), _CHUNKS_PER_FILE):
        first = start + at
        name = f"part{first // 2000:04d}/file{first // _CHUNKS_PER_FILE:06d}.py"
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        with (base / name).open("wb") as file:
            file.truncate(sum(len(text.encode()) for text in texts[at : at + _CHUNKS_PER_FILE]))
        os.utime(base / name, ns=(1_760_000_000_000_000_000 + first, 1_760_000_000_000_000_000))
        yield name


def _rows(texts: Sequence[str]) -> ChunkRows:
    count = len(texts)
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts)
    place = np.arange(count, dtype=np.int32)
    within = place % _CHUNKS_PER_FILE
    return ChunkRows(
        file=place // _CHUNKS_PER_FILE,
        numbers={
            "ord": within,
            "start_line": within * 20 + 1,
            "end_line": within * 20 + 20,
            "start_char": within * _CHARACTERS,
            "end_char": within * _CHARACTERS + _CHARACTERS,
        },
        symbols=["" for _ in texts],
        kinds=["text" for _ in texts],
        hashes=np.frombuffer(digests, dtype=">u8").reshape(count, 2).astype(np.uint64),
        texts=texts,
        places=["" for _ in texts],
    )
