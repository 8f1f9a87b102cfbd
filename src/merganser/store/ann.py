"""Approximate nearest neighbours of one segment: an HNSW graph in a file beside it.

A segment never changes, so its graph is built once and serves every snapshot that shares the
segment; which of its chunks are live is the snapshot's business. The file is usearch's own, which
is mapped into memory and not read, followed by a JSON trailer: what it was built from and which
recall it reached. It is written beside and renamed, so that it is there as a whole or not at all;
one that is missing, damaged or of another segment is never used. docs/adr/0003 has the reasons.

usearch is the extra ``ann``. Without it every search is exact.
"""

from __future__ import annotations

import json
import os
import struct
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from merganser.errors import StoreError
from merganser.store import arrow
from merganser.store.database import attach, connect_writer
from merganser.store.folder import move_file, sync_folder
from merganser.store.identity import compute_checksum, hash_file, read_identities
from merganser.threads import thread_limit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import duckdb
    from numpy.typing import NDArray

MIN_RECALL = 0.96
"""Least recall@10 of a graph that is used. Of one that does not reach it only the trailer is kept,
which says so and keeps the next run from building it again."""

_AIM = 0.97  # on the sample, so that other queries stay above MIN_RECALL
_EXPANSIONS = (64, 128, 256, 512, 1024)
_CONNECTIVITY, _EXPANSION_ADD = 16, 128
_SAMPLE = 200
_TOP = 10
_BATCH_ROWS = 8_192
_ALL_CORES = 0  # usearch's word for it
_FORMAT = 1
_MAGIC = b"mergANN\x01"
_TAIL = struct.Struct("<Q8s")
_LONGEST_TRAILER = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproximateInfo:
    """What is known of a graph.

    Attributes:
        rows: Vectors in it, all of the segment.
        dimensions: Length of the vectors.
        connectivity: Neighbours of a node, HNSW's M.
        expansion_add: Candidates looked at when a node was added, HNSW's efConstruction.
        expansion_search: Candidates that a search looks at, the fewest that reached the recall.
        recall: Mean recall@10 against exact search, on a sample of queries near the vectors.
        sample: Number of these queries.
        library: Name and version of the library that built it.
        segment: Identity of the segment; "" before there were any.
        checksum: Of the graph's bytes, see ``compute_checksum``; "" as above.
    """

    rows: int
    dimensions: int
    connectivity: int
    expansion_add: int
    expansion_search: int
    recall: float
    sample: int
    library: str
    segment: str = ""
    checksum: str = ""

    def is_of(self, rows: int, dimensions: int, identity: str) -> bool:
        """Return whether it was built from a segment, as far as both say who they are."""
        is_same = not (self.segment and identity) or self.segment == identity
        return is_same and (self.rows, self.dimensions) == (rows, dimensions)

    @property
    def is_used(self) -> bool:
        """Whether it reached the recall; searches are exact otherwise."""
        return self.recall >= MIN_RECALL


def is_available() -> bool:
    """Return whether the library is installed."""
    return find_spec("usearch") is not None


def approximate_path(segment: Path) -> Path:
    """Name the graph of a segment's file."""
    return segment.with_suffix(".usearch")


def build_approximate(segment: Path, target: Path) -> ApproximateInfo | None:
    """Build the graph of a segment; costs about 0.65 CPU seconds per 1,000 vectors at a million.

    Takes as many threads as ``thread_limit`` says, or all cores, and as much memory as the vectors
    at half precision with their links, about 1 KB each at 384 dimensions.
    The last steps are a flush and a rename.

    Args:
        segment: File of a finished segment.
        target: The file to make.

    Returns:
        What it reached, which may not be enough to be used; None when the segment has no vectors.

    Raises:
        FileNotFoundError: The segment is not there.
        StoreError: The segment is damaged, or the disk is full.
    """
    # With bounded memory: every vector is read once, and none needs to stay.
    connection = connect_writer(target.parent / "build" / "spill", segment.parent)
    temporary = target.with_name(target.name + ".tmp")
    try:
        attach(connection, segment, "s")
        rows, dimensions = _shape(connection)
        if not rows:
            return None
        index = _library().Index(
            ndim=dimensions,
            metric="ip",
            dtype="f16",
            connectivity=_CONNECTIVITY,
            expansion_add=_EXPANSION_ADD,
        )
        sample = _Sample(connection, rows, dimensions)
        for keys, vectors in _batches(connection, rows, dimensions):
            # Vectors that are added at the same moment do not see each other. Among a million that
            # is nothing; the first few are each other's neighbours, and links would be lost.
            at_once = thread_limit() or _ALL_CORES if len(index) else 1
            index.add(keys.astype(np.uint64), vectors, threads=at_once)
            sample.compare(keys, vectors)
        identity = read_identities(connection).get("s")
        info = _choose_expansion(index, sample, rows)
        info = replace(info, segment=identity.id if identity else "")
        if info.is_used:
            index.save(str(temporary))
        else:
            temporary.write_bytes(b"")
        info = replace(info, checksum=compute_checksum(temporary))
        _append_trailer(temporary, info)
        move_file(temporary, target)
        sync_folder(target.parent)
    except (OSError, RuntimeError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise StoreError(
            f"cannot build the approximate index {str(target)!r}: {error}; searches are exact"
        ) from error
    else:
        return info
    finally:
        connection.close()
        temporary.unlink(missing_ok=True)


def read_approximate(path: Path) -> ApproximateInfo | None:
    """Read what is known of a graph; None when there is none or its file is cut off or foreign."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - _TAIL.size, 0))
            length, magic = _TAIL.unpack(file.read(_TAIL.size))
            if magic != _MAGIC or length > min(size, _LONGEST_TRAILER):
                return None
            file.seek(size - _TAIL.size - length)
            data = cast("dict[str, Any]", json.loads(file.read(length)))
            if data.pop("format") != _FORMAT or data.pop("bytes") != size - _TAIL.size - length:
                return None
            return ApproximateInfo(**data)
    except (OSError, struct.error, ValueError, KeyError, TypeError):
        return None


def find_graph_problem(
    path: Path, rows: int, dimensions: int, identity: str, *, read_data: bool
) -> str:
    """Compare a graph with its segment.

    Args:
        path: File of the graph.
        rows: Chunks of the segment.
        dimensions: Length of its vectors.
        identity: What the segment calls itself, or "".
        read_data: Whether to read every byte.

    Returns:
        What is wrong, or "".
    """
    info = read_approximate(path)
    if info is None:
        return "is damaged, cut off or of another format"
    if not info.is_of(rows, dimensions, identity):
        return "is of another segment"
    if read_data and info.checksum:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(size - _TAIL.size)
            (length, _) = _TAIL.unpack(file.read())
            if hash_file(file, size - _TAIL.size - length) != info.checksum:
                return "is altered: its checksum is another one"
    return ""


class ApproximateVectors:
    """The graph of one segment, open for searching from any number of threads.

    Attributes:
        info: What is known of it.
    """

    def __init__(self, index: Any, info: ApproximateInfo) -> None:
        self._index = index
        self.info = info

    @classmethod
    def open(
        cls, path: Path, *, rows: int, dimensions: int, identity: str = ""
    ) -> ApproximateVectors:
        """Map a graph into memory, which takes milliseconds whatever its size.

        Args:
            path: File of the graph.
            rows: Chunks of the segment.
            dimensions: Length of its vectors.
            identity: What the segment calls itself; "" where it has none.

        Raises:
            StoreError: It is damaged or belongs to another segment.
        """
        info = read_approximate(path)
        if info is None:
            raise StoreError(f"the approximate index {str(path)!r} is damaged")
        if not info.is_of(rows, dimensions, identity):
            raise StoreError(f"the approximate index {str(path)!r} is of another segment")
        try:
            index = _library().Index.restore(str(path), view=True)
        except (RuntimeError, ValueError) as error:
            raise StoreError(f"the approximate index {str(path)!r} is damaged: {error}") from error
        if index is None or len(index) != rows:
            raise StoreError(f"the approximate index {str(path)!r} is damaged")
        # Restoring a view sets this to the library's default, whatever it was when saved.
        index.expansion_search = info.expansion_search
        return cls(index, info)

    def search(
        self, vector: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Find rows whose vectors are near to another one.

        Args:
            vector: (dimensions,) float32, L2-normalised.
            count: How many, at least 1.

        Returns:
            At most ``count`` rows with their cosines, which are those of vectors at half precision
            (off by about 0.0001), nearest first.
        """
        matches = self._index.search(vector, min(count, self.info.rows))
        cosines = 1.0 - np.asarray(matches.distances, dtype=np.float64)
        return np.asarray(matches.keys).astype(np.int64), cosines

    def score(self, vector: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the cosines of some rows, as ``search`` gives them.

        Args:
            vector: (dimensions,) float32, L2-normalised.
            rows: (n,) int64 row numbers.
        """
        vectors = np.asarray(self._index.get(rows.astype(np.uint64)), dtype=np.float32)
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        return np.asarray(vectors @ vector / np.maximum(lengths, 1e-9), dtype=np.float64)


def _library() -> Any:
    """Import usearch: an extra, which takes half a second and leaves parts of its types open."""
    return import_module("usearch.index")


def _shape(connection: duckdb.DuckDBPyConnection) -> tuple[int, int]:
    """Return the number of vectors and their length; zeros for a segment without."""
    found = connection.execute(
        "SELECT data_type FROM duckdb_columns() WHERE database_name = 's' "
        "AND table_name = 'vectors' AND column_name = 'v'"
    ).fetchall()
    if not found:
        return 0, 0
    dimensions = int(str(found[0][0]).removeprefix("FLOAT[").removesuffix("]"))
    return int(connection.execute("SELECT count(*) FROM s.vectors").fetchall()[0][0]), dimensions


def _batches(
    connection: duckdb.DuckDBPyConnection, rows: int, dimensions: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    for start in range(0, rows, _BATCH_ROWS):
        part = f"FROM s.vectors WHERE rowid >= {start} AND rowid < {start + _BATCH_ROWS}"
        keys = arrow.fetch_columns(connection, f"SELECT row {part} ORDER BY rowid")["row"]
        vectors = arrow.fetch_vectors(connection, f"SELECT v {part} ORDER BY rowid", dimensions)
        yield keys.astype(np.int64), vectors


class _Sample:
    """Queries near some of the vectors, and what exact search finds for them.

    A stored vector itself would be too easy a query, so each is moved about as far as a question
    is from the passage that answers it: the cosine of the two is 0.8.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, rows: int, dimensions: int) -> None:
        random = np.random.default_rng(0)
        chosen = np.sort(random.choice(rows, min(_SAMPLE, rows), replace=False))
        listed = ",".join(map(str, chosen.tolist()))
        query = f"SELECT v FROM s.vectors WHERE rowid IN ({listed}) ORDER BY rowid"  # noqa: S608 - numbers
        near = arrow.fetch_vectors(connection, query, dimensions)
        noise = random.standard_normal(near.shape).astype(np.float32)
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        moved = 0.8 * near + 0.6 * noise
        self.queries = moved / np.linalg.norm(moved, axis=1, keepdims=True)
        self._keys = np.zeros((len(near), 0), dtype=np.int64)
        self._scores = np.zeros((len(near), 0), dtype=np.float32)

    def compare(self, keys: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Take more vectors into account."""
        scores = np.concatenate([self._scores, self.queries @ vectors.T], axis=1)
        added = np.broadcast_to(keys, (len(self.queries), len(keys)))
        here = np.concatenate([self._keys, added], axis=1)
        best = np.argpartition(-scores, min(_TOP, scores.shape[1]) - 1, axis=1)[:, :_TOP]
        self._scores = np.take_along_axis(scores, best, axis=1)
        self._keys = np.take_along_axis(here, best, axis=1)

    def recall(self, index: Any) -> float:
        """Return the mean share of the exact ten that the graph finds as well.

        One that is exactly as near as the tenth counts as found, as the order of equals is open.
        """
        top = self._keys.shape[1]
        found = index.search(self.queries, top, threads=thread_limit() or _ALL_CORES)
        keys = np.asarray(found.keys).astype(np.int64)
        same = (keys[:, :, None] == self._keys[:, None, :]).any(axis=2)
        as_near = 1.0 - np.asarray(found.distances) >= self._scores.min(axis=1, keepdims=True)
        return float((same | as_near).mean())


def _choose_expansion(index: Any, sample: _Sample, rows: int) -> ApproximateInfo:
    """Find the least work for a search that reaches the recall."""
    recall, expansion = 0.0, 0
    for expansion in _EXPANSIONS:
        index.expansion_search = expansion
        recall = sample.recall(index)
        if recall >= _AIM:
            break
    return ApproximateInfo(
        rows=rows,
        dimensions=index.ndim,
        connectivity=_CONNECTIVITY,
        expansion_add=_EXPANSION_ADD,
        expansion_search=expansion,
        recall=round(recall, 4),
        sample=len(sample.queries),
        library=f"usearch {version('usearch')}",
    )


def _append_trailer(path: Path, info: ApproximateInfo) -> None:
    data = {"format": _FORMAT, "bytes": path.stat().st_size, **asdict(info)}
    text = json.dumps(data).encode()
    with path.open("ab") as file:
        file.write(text + _TAIL.pack(len(text), _MAGIC))
