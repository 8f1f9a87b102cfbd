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

Both ways of searching are exact. A single query reads vectors by SQL; a process that answers many
keeps them in memory, which pays back after about ten queries (6 at 100k chunks, 12 at a million).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from merganser.retrieve.bm25 import Ranking, rank

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from merganser.store.reader import Filter, Similarity, Snapshot


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


class DenseIndex:
    """The vectors of one snapshot.

    Args:
        snapshot: Open.
        resident: Keep the vectors in memory, from the first query on.
    """

    def __init__(self, snapshot: Snapshot, *, resident: bool) -> None:
        self._snapshot = snapshot
        self._resident = resident
        self._lock = threading.Lock()
        self._matrix: tuple[NDArray[np.int64], NDArray[np.float32]] | None = None

    def nearest(
        self,
        vector: NDArray[np.float32],
        limit: int,
        *,
        similarity: Similarity,
        where: Filter | None = None,
    ) -> Ranking:
        """Rank the nearest chunks.

        Args:
            vector: (dim,) float32, L2-normalised.
            limit: How many, at most.
            similarity: What the scores mean.
            where: Chunks that it excludes are not looked at, so that ``limit`` is still reached.

        Returns:
            At most ``limit`` chunks.
        """
        if not self._resident:
            pairs = self._snapshot.dense_top_k(vector, limit, where=where)
            keys = np.array([key for key, _ in pairs], dtype=np.int64)
            cosines = np.array([cosine for _, cosine in pairs], dtype=np.float64)
            return rank(keys, similarity_scores(cosines, similarity))
        keys, vectors = self._load()
        cosines = (vectors @ vector).astype(np.float64)
        if where is not None:
            mask = np.isin(keys, self._snapshot.allowed(where))
            keys, cosines = keys[mask], cosines[mask]
        if limit < len(keys):
            # Everything as good as the last that fits, so that ties are cut by key.
            least = np.partition(cosines, len(cosines) - limit)[len(cosines) - limit]
            mask = cosines >= least
            keys, cosines = keys[mask], cosines[mask]
        ranking = rank(keys, similarity_scores(cosines, similarity))
        return Ranking(ranking.keys[:limit], ranking.scores[:limit])

    def _load(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        with self._lock:
            if self._matrix is None:
                self._matrix = self._snapshot.matrix()
            return self._matrix
