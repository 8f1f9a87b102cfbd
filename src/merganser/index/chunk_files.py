"""Chunks of one shard on disk, between the task that cut them and the build that takes them in.

Plain arrays one after the other, texts as one stretch of UTF-8 with the lengths before it: writing
and reading cost next to nothing, where a table of a database costs 5 ms a file each way. Files of
one run are only ever read by it, so the format has no version.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from merganser.store.segments import ChunkRows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from io import BufferedIOBase
    from pathlib import Path

    from numpy.typing import NDArray

CHUNK_NUMBERS = ("ord", "start_line", "end_line", "start_char", "end_char")


def write_chunks(path: Path, rows: ChunkRows) -> None:
    """Write the chunks of a shard.

    Raises:
        OSError: The file cannot be written.
    """
    with path.open("wb") as file:
        _save(file, rows.file, rows.hashes, *(rows.numbers[name] for name in CHUNK_NUMBERS))
        for strings in (rows.symbols, rows.kinds, rows.texts):
            encoded = [string.encode() for string in strings]
            _save(file, np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded)))
            _save(file, np.frombuffer(b"".join(encoded), dtype=np.uint8))


def read_chunks(path: Path) -> ChunkRows:
    """Read what ``write_chunks`` wrote.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not whole.
    """
    with path.open("rb") as file:
        owner, hashes = _load(file), _load(file)
        numbers = {name: _load(file) for name in CHUNK_NUMBERS}
        symbols, kinds, texts = (_load_strings(file) for _ in range(3))
    return ChunkRows(owner, numbers, symbols, kinds, hashes, texts)


def join_chunks(parts: Sequence[ChunkRows]) -> ChunkRows:
    """Put the chunks of several shards one after the other; ``file`` has to fit already."""
    return ChunkRows(
        file=np.concatenate([part.file for part in parts]),
        numbers={
            name: np.concatenate([part.numbers[name] for part in parts]) for name in CHUNK_NUMBERS
        },
        symbols=[*chain.from_iterable(part.symbols for part in parts)],
        kinds=[*chain.from_iterable(part.kinds for part in parts)],
        hashes=np.concatenate([part.hashes for part in parts]),
        texts=[*chain.from_iterable(part.texts for part in parts)],
    )


def _save(file: BufferedIOBase, *arrays: NDArray[Any]) -> None:
    for array in arrays:
        np.save(file, array, allow_pickle=False)


def _load(file: BufferedIOBase) -> NDArray[Any]:
    return np.load(file, allow_pickle=False)


def _load_strings(file: BufferedIOBase) -> list[str]:
    ends: list[int] = np.cumsum(_load(file)).tolist()
    data = _load(file).tobytes()
    return [data[start:end].decode() for start, end in zip([0, *ends], ends, strict=False)]
