"""Shards: groups of changed files that are read, chunked and embedded together.

This module has what a shard is, how files are divided into shards, and the files that a shard
leaves in the working folder of its run. ``shards`` does the work. Shards are as large as what a
crash may lose: 5 to 10 seconds of a small encoder on two cores.
"""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass
from io import BytesIO
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import numpy as np

from merganser.progress import report
from merganser.store.folder import replace_file
from merganser.store.segments import CHUNK_NUMBERS, ChunkRows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from threading import Lock

    from merganser.chunking import ChunkingOptions
    from merganser.config.index_definition import IndexDefinition
    from merganser.documents.scanning import Document
    from merganser.store.embedding_store import EmbeddingStore

CHUNKS_PER_SHARD = 512

MOST_SHARDS = 1000
"""Of a run, about: files are not divided. A large run has larger shards, so that its graph and its
history stay readable; at ten million chunks one is three minutes of a small encoder."""

_FILL = 0.6  # chunks of real files are that full on average


@dataclass(frozen=True, slots=True)
class Shard:
    """Some files that are embedded together.

    Attributes:
        number: From 0; the files of shards in order are sorted by path.
        documents: At least one.
    """

    number: int
    documents: tuple[Document, ...]


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """What became of one file.

    Attributes:
        path: As users see it.
        status: ``read``, ``skipped`` or ``failed``.
        content_hash: Hex, for files that were read.
        size_bytes: Bytes that were read.
        chunks: How many it has.
        reason: Why it was skipped or failed, a short word.
        detail: What was seen.
        encoding: Name of the codec that it was decoded with.
        note: A remark on how it was read.
        redactions: Lines with the kinds of secrets that were replaced there.
        kind: What the document is for, see ``DocumentText.kind``.
        language: As in ``DocumentText.language``; "" for None.
    """

    path: str
    status: str
    content_hash: str = ""
    size_bytes: int = 0
    chunks: int = 0
    reason: str = ""
    detail: str = ""
    encoding: str = ""
    note: str = ""
    redactions: tuple[tuple[int, str], ...] = ()
    kind: str = ""
    language: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardResult:
    """What became of a shard.

    Attributes:
        number: The shard's.
        files: One outcome a file, in the shard's order.
        chunks: In all files.
        texts_embedded: Texts sent to the model.
        texts_reused: Distinct texts whose vectors were there or came from another shard.
        seconds: Wall time.
    """

    number: int
    files: tuple[FileOutcome, ...]
    chunks: int = 0
    texts_embedded: int = 0
    texts_reused: int = 0
    seconds: float = 0.0


def not_finished(shard: Shard) -> ShardResult:
    """Return the result of a shard without one: its files keep their old versions."""
    why = "the shard did not finish"
    files = (FileOutcome(d.path, "failed", reason="shard", detail=why) for d in shard.documents)
    return ShardResult(number=shard.number, files=tuple(files))


class ShardProgress:
    """Count and report the texts of a run; their number is estimated until a shard is chunked.

    Args:
        name: Name of the index.
        embeds: Whether the texts get vectors; otherwise they are only chunked.
        expected: About how many texts each shard will have, by its number.
    """

    def __init__(self, name: str, expected: Mapping[int, int], *, embeds: bool) -> None:
        self._activity = f"{'embed' if embeds else 'split'} {name}"
        self._expected = dict(expected)
        self._embedded = dict.fromkeys(expected, 0)
        self._lock = threading.Lock()

    def chunked(self, number: int, texts: int) -> None:
        """Take note of how many texts a shard has."""
        with self._lock:
            self._expected[number] = texts
            self._embedded[number] = 0  # a retried shard begins again

    def embedded(self, number: int, texts: int) -> None:
        """Take note that texts of a shard have got their vectors, and report."""
        with self._lock:
            self._embedded[number] += texts
            done, total = sum(self._embedded.values()), sum(self._expected.values())
        report(self._activity, done, max(done, total), unit="texts")

    def finished(self, number: int) -> None:
        """Take note that a shard is done, whatever it had to embed, and report."""
        with self._lock:
            missing = self._expected[number] - self._embedded[number]
        self.embedded(number, missing)


class ShardWork(Protocol):
    """What a shard needs of its run: a ``Workspace``, or a ``RemoteWorkspace`` elsewhere."""

    @property
    def run_id(self) -> str:
        """Name of the run."""
        ...

    @property
    def definition(self) -> IndexDefinition:
        """The index."""
        ...

    @property
    def dimensions(self) -> int | None:
        """Length of the model's vectors, or None without a model."""
        ...

    @property
    def folder(self) -> Path:
        """Folder that is written, for messages."""
        ...

    @property
    def path(self) -> Path:
        """Folder for the files of shards."""
        ...

    @property
    def progress(self) -> ShardProgress:
        """Counter of the texts."""
        ...

    @property
    def chunking(self) -> Lock:
        """Held by the one shard of the process that reads and chunks its files."""
        ...

    def embeddings(self) -> EmbeddingStore:
        """Return the vectors that are there."""
        ...


def plan_shards(
    documents: Sequence[Document],
    options: ChunkingOptions,
    *,
    chunks_per_shard: int = CHUNKS_PER_SHARD,
) -> tuple[Shard, ...]:
    """Group the files that have to be read; pure and deterministic.

    Args:
        documents: The files, by path.
        options: How they are chunked.
        chunks_per_shard: About how many chunks one shard has, more in a run that would have more
            than ``MOST_SHARDS``; a large file is a shard of its own.
    """
    groups: list[list[Document]] = []
    filled = 0.0
    total = sum(_expected_chunks(document, options) for document in documents)
    most = max(chunks_per_shard, total / MOST_SHARDS)
    for document in documents:
        chunks = _expected_chunks(document, options)
        if not groups or filled + chunks > most:
            groups.append([])
            filled = 0.0
        groups[-1].append(document)
        filled += chunks
    return tuple(Shard(number, tuple(group)) for number, group in enumerate(groups))


def expected_chunks(shard: Shard, options: ChunkingOptions) -> int:
    """Estimate how many chunks a shard will have, from the sizes of its files."""
    return round(sum(_expected_chunks(document, options) for document in shard.documents))


def _expected_chunks(document: Document, options: ChunkingOptions) -> float:
    return max(0.5, document.size_bytes / (options.size * _FILL))


def chunks_path(work: ShardWork, number: int) -> Path:
    """File with the chunks of a shard; absent when it has none."""
    return work.path / f"shard-{number:05d}.chunks"


def result_path(work: ShardWork, number: int) -> Path:
    """File that says what became of a shard; absent until it is done."""
    return work.path / f"shard-{number:05d}.json"


def load_result(work: ShardWork, number: int) -> ShardResult | None:
    """Return the result of a shard that is done, else None."""
    try:
        data = json.loads(result_path(work, number).read_bytes())
    except FileNotFoundError:
        return None
    for outcome in data["files"]:
        outcome["redactions"] = tuple((line, kind) for line, kind in outcome["redactions"])
    data["files"] = tuple(FileOutcome(**outcome) for outcome in data["files"])
    return ShardResult(**data)


def save_result(work: ShardWork, result: ShardResult) -> None:
    """Mark a shard as done; written last."""
    path = result_path(work, result.number)
    replace_file(path, json.dumps(asdict(result)).encode(), is_durable=False)


def write_chunks(path: Path, rows: ChunkRows) -> None:
    """Write the chunks of a shard.

    Five arrays one after the other, the last one all strings as a stretch of UTF-8: writing and
    reading cost next to nothing, where a table of a database costs 5 ms a file each way. Files of
    one run are only ever read by it, so the format has no version.

    Raises:
        OSError: The file cannot be written.
    """
    columns = (rows.symbols, rows.kinds, rows.places, rows.texts)
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
        places=strings[2 * count : 3 * count],
        hashes=hashes,
        texts=strings[3 * count :],
    )
