"""Dense retrieval: the chunks whose vectors are nearest to the query's.

Document and query vectors are L2-normalised, so cosine and dot product are one number and the
Euclidean distance is a falling function of it: d = sqrt(2 - 2 cos). The metric therefore never
changes the order, only the score that ``threshold`` is compared with:

=====================  ==================  ===========
``similarity_metric``  score               range
=====================  ==================  ===========
``cosine_similarity``  cos                 -1 to 1
``dot_product``        cos                 -1 to 1
``euclidean``          1 / (1 + d)         1/3 to 1
=====================  ==================  ===========

A large segment may have an approximate index beside it (``store.approximate``), which is used for
every search without a filter. Everything else is exact: a single query reads vectors by SQL, a
process that answers many keeps those in memory that have no approximate index, which pays back
after about ten queries. A filtered search is always exact; vectors that are not in memory are read
by SQL for it, only those that the filter lets through. docs/adr/0003 has the figures.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from merganser.errors import StoreError
from merganser.retrieval.bm25 import Ranking, rank
from merganser.retrieval.exact import ExactVectors
from merganser.store.ann import ApproximateVectors, approximate_path, is_available, read_approximate
from merganser.store.segments import KEY_SHIFT

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from numpy.typing import NDArray

    from merganser.store.catalogue import SegmentRow
    from merganser.store.reader import Filter, Similarity, Snapshot
    from merganser.store.resident import ResidentTables


def similarity_scores(cosines: NDArray[np.float64], similarity: Similarity) -> NDArray[np.float64]:
    """Turn cosines of unit vectors into a metric's scores.

    Args:
        cosines: (n,) in [-1, 1] up to rounding.
        similarity: See the module.

    Returns:
        (n,) float64, higher is nearer.
    """
    if similarity != "euclidean":
        return cosines
    return 1.0 / (1.0 + np.sqrt(np.maximum(2.0 - 2.0 * cosines, 0.0)))


_LEAST_CHOICE = 8
# A graph is walked from near to near and does not reach every vector from everywhere: whoever wants
# more than an eighth of the chunks gets them from the exact search, which costs no more by then.


class DenseIndex:
    """The vectors of one snapshot.

    Args:
        snapshot: Open.
        tables: Of the snapshot, for a process that answers many queries; None to read by SQL.

    Attributes:
        notes: What the reader of an answer must know, such as a damaged file.
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
            vector: (dim,) float32, L2-normalised.
            limit: How many, at most.
            similarity: What the scores mean.
            equals: How many more are given at most, among them those as good as the last.
            where: Chunks that it excludes are not looked at, so that ``limit`` is still reached.
            exact: Leave approximate indexes aside.

        Returns:
            At most ``limit`` chunks and ``equals``.
        """
        most = limit + equals
        graphs = self._graphs()
        parts: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
        if where is None and not exact and most * _LEAST_CHOICE <= self._snapshot.chunk_count:
            parts = [graph.search(vector, limit, equals) for graph in graphs.values()]
        # What no graph answers for: the segments without one, or everything.
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

    def describe(self, where: Filter | None = None) -> str:
        """Say how an answer is found, for explanations."""
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
        """Give the vectors that no graph stands for, by position; they are read once."""
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
        """Give the approximate indexes by segment; they are looked for once."""
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
                notes.append(f"{path.name} is not used: install merganser[ann]; search was exact")
                continue
            try:
                graphs[segment.segment] = _Graph(self._snapshot, segment, path)
            except StoreError as error:
                notes.append(f"{error}; search was exact, the next index run builds it again")
        self.notes = tuple(notes)
        return graphs


def _is_rejected(path: Path) -> bool:
    """Tell whether there is but the note that the graph reached too little recall."""
    info = read_approximate(path)
    return info is not None and not info.is_used


class _Graph:
    """The approximate index of a segment, without the segment's dead chunks."""

    def __init__(self, snapshot: Snapshot, segment: SegmentRow, path: Path) -> None:
        self._graph = ApproximateVectors.open(
            path, rows=segment.row_count, dimensions=segment.dimensions
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
        """Find live chunks; give their keys and cosines, at most ``limit`` and ``equals``."""
        segment = self._segment
        most = min(limit + equals, segment.live_rows)
        # One more than the limit tells whether others are as near as the last; to look for all
        # that may be takes four times as long, and hardly ever are there any.
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
            count = min(2 * count, segment.row_count)  # nor are the dead spread evenly
        rows, cosines = rows[:most], cosines[:most]
        return rows | np.int64(segment.segment << KEY_SHIFT), cosines
