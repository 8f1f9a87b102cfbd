"""Chunks of one shard on disk, between the task that cut them and the build that takes them in.

Five arrays one after the other, the last one all strings as a stretch of UTF-8: writing and reading
cost next to nothing, where a table of a database costs 5 ms a file each way. Files of one run are
only ever read by it, so the format has no version.
"""

from __future__ import annotations

from io import BytesIO
from itertools import chain, pairwise
from typing import TYPE_CHECKING

import numpy as np

from merganser.store.segments import ChunkRows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CHUNK_NUMBERS = ("ord", "start_line", "end_line", "start_char", "end_char")


def write_chunks(path: Path, rows: ChunkRows) -> None:
    """Write the chunks of a shard.

    Raises:
        OSError: The file cannot be written.
    """
    columns = (rows.symbols, rows.kinds, rows.texts)
    encoded = [string.encode() for column in columns for string in column]
    content = BytesIO()
    for array in (
        rows.file,
        rows.hashes,
        np.stack([rows.numbers[name] for name in CHUNK_NUMBERS]),
        np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded)),
        np.frombuffer(b"".join(encoded), dtype=np.uint8),
    ):
        np.save(content, array, allow_pickle=False)
    path.write_bytes(content.getbuffer())


def read_chunks(path: Path) -> ChunkRows:
    """Read what ``write_chunks`` wrote.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not whole.
    """
    content = BytesIO(path.read_bytes())
    owner, hashes, numbers, lengths, data = (np.load(content, allow_pickle=False) for _ in range(5))
    ends: list[int] = np.cumsum(lengths).tolist()
    encoded = data.tobytes()
    strings = [encoded[start:end].decode() for start, end in pairwise([0, *ends])]
    count = len(owner)
    return ChunkRows(
        file=owner,
        numbers=dict(zip(CHUNK_NUMBERS, numbers, strict=True)),
        symbols=strings[:count],
        kinds=strings[count : 2 * count],
        hashes=hashes,
        texts=strings[2 * count :],
    )


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
