"""Dense retrieval: the chunks whose vectors are nearest to the query's.

Document and query vectors are L2-normalized, so cosine and dot product are one number and the
Euclidean distance is a falling function of it: d = sqrt(2 - 2 cos). The metric therefore never
changes the order, only the score that ``threshold`` is compared with:

=====================  ==================  ===========
``similarity_metric``  score               range
=====================  ==================  ===========
``cosine_similarity``  cos                 -1 to 1
``dot_product``        cos                 -1 to 1
``euclidean``          1 / (1 + d)         1/3 to 1
=====================  ==================  ===========

A large segment may have an approximate index beside it (``store.ann``), which is used for every
search without a filter. Everything else is exact: a single query reads vectors by SQL, a
process that answers many keeps those in memory that have no approximate index, which pays back
after about ten queries. A filtered search is always exact; vectors that are not in memory are read
by SQL for it, only those that the filter lets through. docs/adr/0003 has the figures.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from merganser.errors import StoreError
from merganser.humanize import install_extra
from merganser.retrieval.bm25 import Ranking, nth_best, rank
from merganser.store.ann import ApproximateVectors, approximate_path, is_available, read_approximate
from merganser.store.segments import KEY_SHIFT

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from numpy.typing import NDArray

    from merganser.store.catalogue import SegmentRow
    from merganser.store.filters import Filter
    from merganser.store.reader import Snapshot
    from merganser.store.resident import ResidentTables
    from merganser.store.scans import Similarity


def similarity_scores(cosines: NDArray[np.float64], similarity: Similarity) -> NDArray[np.float64]:
    """Turn cosines of unit vectors into the scores of a similarity metric.

    Args:
        cosines: (n,) in [-1, 1] up to rounding.
        similarity: The metric; see the table above.

    Returns:
        (n,) float64, higher is nearer.

    >>> similarity_scores(np.array([1.0, -1.0]), "euclidean").round(3).tolist()
    [1.0, 0.333]
    """
    if similarity != "euclidean":
        return cosines
    return 1.0 / (1.0 + np.sqrt(np.maximum(2.0 - 2.0 * cosines, 0.0)))


_LEAST_CHOICE = 8
"""A graph search goes from neighbor to neighbor and may not reach every vector: a search for more
than an eighth of the chunks is exact, which costs no more by then."""

_LEAST_ROWS = 8192
"""Fewer vectors fit the processor's cache, where the full product costs next to nothing."""

_SAMPLE = 65_536  # rows that the axes are found from
_ROUNDING = 1e-5  # of a product of unit vectors in single precision, with room


class DenseIndex:
    """The vectors of one snapshot.

    Args:
        snapshot: Open.
        tables: The snapshot's tables in memory, for a process that answers many queries; None to
            read by SQL.

    Attributes:
        notes: What the reader of an answer must know, for example that a file is damaged.
    """

    def __init__(self, snapshot: Snapshot, tables: ResidentTables | None) -> None:
        self._snapshot = snapshot
        self._tables = tables
        self._lock = threading.Lock()
        self._opened: dict[int, _Graph] | None = None
        self._exact: tuple[NDArray[np.int64], ExactVectors] | None = None
        self.notes: tuple[str, ...] = ()

    def nearest(
        self,
        vector: NDArray[np.float32],
        limit: int,
        *,
        similarity: Similarity,
        equals: int = 0,
        where: Filter | None = None,
        exact: bool = False,
    ) -> Ranking:
        """Rank the nearest chunks.

        Args:
            vector: (dim,) float32, L2-normalized.
            limit: How many, at most.
            similarity: What the scores mean.
            equals: How many more may be returned, to include those as near as the last.
            where: Chunks that it excludes are not looked at, so that ``limit`` is still reached.
            exact: Do not use approximate indexes.

        Returns:
            At most ``limit + equals`` chunks.
        """
        most = limit + equals
        graphs = self._graphs()
        parts: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
        if where is None and not exact and most * _LEAST_CHOICE <= self._snapshot.chunk_count:
            parts = [graph.search(vector, limit, equals) for graph in graphs.values()]
        # The segments that no graph answered for are searched exactly.
        answered: Collection[int] = graphs.keys() if parts else ()
        if len(answered) < len(self._snapshot.segments):
            if self._tables is not None and (answered or not graphs):
                parts.append(self._scan_memory(self._tables, vector, limit, where))
            else:
                parts.append(self._scan_file(vector, most, where, answered))
        keys = np.concatenate([keys for keys, _ in parts]) if parts else np.zeros(0, np.int64)
        cosines = np.concatenate([cosines for _, cosines in parts]) if parts else np.zeros(0)
        best = rank(keys, similarity_scores(cosines, similarity))
        return Ranking(best.keys[:most], best.scores[:most])

    def score(
        self, vector: NDArray[np.float32], keys: NDArray[np.int64], *, similarity: Similarity
    ) -> NDArray[np.float64]:
        """Score some chunks, whatever their rank; none but their vectors are looked at.

        Args:
            vector: (dim,) float32, L2-normalized.
            keys: (n,) int64, live chunks.
            similarity: What the scores mean.

        Returns:
            (n,) float64; those that a graph knows from vectors at half precision.
        """
        cosines = np.zeros(len(keys))
        graphs = self._graphs()
        segments = keys >> KEY_SHIFT
        left = np.ones(len(keys), dtype=np.bool_)
        for number, graph in graphs.items():
            inside = segments == number
            if inside.any():
                cosines[inside] = graph.score(vector, keys[inside])
                left &= ~inside
        if left.any() and self._tables is not None:
            positions, vectors = self._in_memory(self._tables)
            at = np.searchsorted(self._tables.keys, keys[left])
            cosines[left] = vectors.score(vector, np.searchsorted(positions, at))
        elif left.any():
            cosines[left] = self._snapshot.cosines(vector, keys[left])
        return similarity_scores(cosines, similarity)

    def describe(self, where: Filter | None = None) -> str:
        """Say whether an answer is exact or approximate, for explanations."""
        graphs = [] if where is not None else [graph.info for graph in self._graphs().values()]
        if not graphs:
            return "exact"
        recall = min(info.recall for info in graphs)
        share = sum(info.rows for info in graphs) / max(
            sum(segment.row_count for segment in self._snapshot.segments), 1
        )
        return f"approximate for {share:.0%} of the chunks, recall@10 {recall:.3f} when built"

    def _scan_memory(
        self, tables: ResidentTables, vector: NDArray[np.float32], limit: int, where: Filter | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        positions, vectors = self._in_memory(tables)
        if where is None:
            rows, cosines = vectors.best(vector, limit)
            return tables.keys[positions[rows]], cosines.astype(np.float64)
        inside = np.flatnonzero(tables.mask(where)[positions])
        # Copying the rows of a small part is cheaper than scoring all.
        few = len(inside) < len(vectors) // 8
        cosines = vectors.score(vector, inside) if few else vectors.score(vector)[inside]
        return tables.keys[positions[inside]], cosines.astype(np.float64)

    def _in_memory(self, tables: ResidentTables) -> tuple[NDArray[np.int64], ExactVectors]:
        """Return the vectors of segments without a graph, by position; they are read once."""
        graphs = self._graphs()
        if self._exact is None:
            with self._lock:
                if self._exact is None:
                    positions, vectors = tables.matrix(graphs.keys())
                    self._exact = positions, ExactVectors(vectors)
        return self._exact

    def _scan_file(
        self,
        vector: NDArray[np.float32],
        limit: int,
        where: Filter | None,
        but: Collection[int],
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        pairs = self._snapshot.dense_top_k(vector, limit, where=where, but=but)
        return (
            np.array([key for key, _ in pairs], dtype=np.int64),
            np.array([cosine for _, cosine in pairs], dtype=np.float64),
        )

    def _graphs(self) -> dict[int, _Graph]:
        """Return the approximate indexes by segment; they are opened once."""
        if self._opened is None:
            with self._lock:
                if self._opened is None:
                    self._opened = self._open_graphs()
        return self._opened

    def _open_graphs(self) -> dict[int, _Graph]:
        if self._snapshot.dimensions is None:
            return {}
        graphs: dict[int, _Graph] = {}
        notes: list[str] = []
        for segment in self._snapshot.segments:
            path = approximate_path(self._snapshot.paths[segment.segment])
            if not path.exists() or _is_rejected(path):
                continue
            if not is_available():
                way = install_extra("ann")
                notes.append(f"{path.name} is not used: {way} to have it; search was exact")
                continue
            try:
                graphs[segment.segment] = _Graph(self._snapshot, segment, path)
            except StoreError as error:
                notes.append(f"{error}; search was exact, the next index run builds it again")
        self.notes = tuple(notes)
        return graphs


def _is_rejected(path: Path) -> bool:
    """Tell whether the file only notes that the graph reached too little recall."""
    info = read_approximate(path)
    return info is not None and not info.is_used


class _Graph:
    """The approximate index of a segment, without the segment's dead chunks."""

    def __init__(self, snapshot: Snapshot, segment: SegmentRow, path: Path) -> None:
        self._graph = ApproximateVectors.open(
            path,
            rows=segment.row_count,
            dimensions=segment.dimensions,
            identity=segment.identity,
        )
        self.info = self._graph.info
        self._snapshot = snapshot
        self._segment = segment
        self._live: NDArray[np.bool_] | None = None
        if segment.live_rows < segment.row_count:
            self._live = np.zeros(segment.row_count, dtype=np.bool_)
            self._live[snapshot.live(segment.segment)] = True

    def search(
        self, vector: NDArray[np.float32], limit: int, equals: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the keys and cosines of the nearest live chunks, at most ``limit + equals``."""
        segment = self._segment
        most = min(limit + equals, segment.live_rows)
        # One more than the limit tells whether others are as near as the last. Asking for all
        # possible equals at once takes four times as long, and there hardly ever are any.
        wanted = min(limit + 1, most)
        count = -(-wanted * segment.row_count // max(segment.live_rows, 1))
        while True:
            rows, cosines = self._graph.search(vector, count)
            if self._live is not None:
                alive = self._live[rows]
                rows, cosines = rows[alive], cosines[alive]
            is_enough = len(rows) >= most or (
                len(rows) > limit and cosines[limit - 1] > cosines[-1]
            )
            if is_enough or count >= segment.row_count:
                break
            count = min(2 * count, segment.row_count)  # dead chunks are not spread evenly
        rows, cosines = rows[:most], cosines[:most]
        return rows | np.int64(segment.segment << KEY_SHIFT), cosines

    def score(self, vector: NDArray[np.float32], keys: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the cosines of some chunks of the segment."""
        return self._graph.score(vector, keys & np.int64((1 << KEY_SHIFT) - 1))


class ExactVectors:
    """Vectors in memory that are searched exactly, without looking at all of every vector.

    Along the principal axes of the vectors the first coordinates hold most of what tells them
    apart, and inner products are the same as before. With h the first third of the coordinates and
    t the rest, Cauchy and Schwarz bound what the rest can add::

        q · v  =  qh · vh + qt · vt  <=  qh · vh + |qt| |vt|

    So the heads of all vectors are multiplied, and only vectors whose bound reaches the last of the
    wanted are looked at whole. The answer is that of the full product, whatever the data are; how
    much is saved depends on them. At 33,000 vectors of 384 numbers a query is bound by memory, and
    a third of the bytes takes a third of the time. The idea is that of Li, Chan, Yiu and
    Mamoulis, "FEXIPRO: Fast and Exact Inner Product Retrieval in Recommender Systems" (SIGMOD
    2017). Any number of threads may ask.

    Args:
        vectors: (n, dim) float32, L2-normalized.
    """

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self._vectors = vectors
        self._heads = _Heads(vectors) if len(vectors) >= _LEAST_ROWS else None

    def __len__(self) -> int:
        """Return the number of vectors."""
        return len(self._vectors)

    def score(
        self, query: NDArray[np.float32], rows: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Return the cosines of some rows, or of all.

        Args:
            query: (dim,) float32, L2-normalized.
            rows: (m,) row numbers.

        Returns:
            (m,) or (n,) float32.
        """
        if rows is None:
            return self._vectors @ query
        # BLAS adds up the last rows in another order than the others, so that equal vectors would
        # get different cosines; einsum does not, and is as fast for few rows.
        return np.einsum("ij,j->i", self._vectors[rows], query)

    def best(
        self, query: NDArray[np.float32], limit: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find the nearest vectors.

        Args:
            query: (dim,) float32, L2-normalized.
            limit: How many, at least 1.

        Returns:
            Rows, ascending, with their cosines: the best ``limit`` and all that are as good as the
            last of them.
        """
        if limit >= len(self):
            return np.arange(len(self)), self.score(query)
        rows = self._reaching(query, limit)
        cosines = self.score(query, rows)
        chosen = np.flatnonzero(cosines >= nth_best(cosines, limit))
        return (chosen if rows is None else rows[chosen]), cosines[chosen]

    def _reaching(self, query: NDArray[np.float32], limit: int) -> NDArray[np.int64] | None:
        """Return the rows that can be among the best, or None when those are too many."""
        if self._heads is None:
            return None
        heads, rest = self._heads.score(query)
        likely = np.argpartition(heads, len(heads) - limit)[len(heads) - limit :]
        least = self.score(query, likely).min() - _ROUNDING
        rows = np.flatnonzero(heads + rest >= least)
        # Gathering scattered rows costs more per row than reading all in order.
        return rows if len(rows) < len(self) // 8 else None


class _Heads:
    """The first coordinates of vectors along their principal axes, and the length of the rest."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        sample = vectors[:: max(len(vectors) // _SAMPLE, 1)]
        _, axes = np.linalg.eigh((sample.T @ sample).astype(np.float64))
        self._axes: NDArray[np.float32] = axes[:, ::-1].astype(np.float32, order="C")
        self._count = max(vectors.shape[1] // 3, 1)
        self._heads: NDArray[np.float32] = vectors @ np.ascontiguousarray(
            self._axes[:, : self._count]
        )
        length = np.einsum("ij,ij->i", self._heads, self._heads)
        rest = np.sqrt(np.maximum(1.0 + _ROUNDING - length, 0.0))
        self._rest: NDArray[np.float32] = rest.astype(np.float32)

    def score(self, query: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return each cosine's part from the heads and the most that the rest adds, (n,) each."""
        turned: NDArray[np.float32] = query @ self._axes
        rest = float(np.linalg.norm(turned[self._count :]))
        return self._heads @ turned[: self._count], self._rest * rest
