"""Exact nearest neighbours in memory, without looking at all of every vector.

Along the principal axes of the vectors the first coordinates hold most of what tells them apart,
and inner products are what they were. With h the first third of the coordinates and t the rest,
Cauchy and Schwarz bound what the rest can add::

    q · v  =  qh · vh + qt · vt  <=  qh · vh + |qt| |vt|

So the heads of all vectors are multiplied, and only vectors whose bound reaches the last of the
wanted are looked at whole. The answer is that of the full product, whatever the data are; how much
is saved depends on them. At 33,000 vectors of 384 numbers a query is bound by memory, and a third
of the bytes takes a third of the time. The idea is that of Li, Chan, Yiu and Mamoulis, "FEXIPRO:
Fast and Exact Inner Product Retrieval in Recommender Systems" (SIGMOD 2017).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LEAST_ROWS = 8192
"""Fewer vectors lie in the processor's cache, where the full product costs next to nothing."""

_SAMPLE = 65_536  # rows that the axes are found from
_ROUNDING = 1e-5  # of a product of unit vectors in single precision, with room


class ExactVectors:
    """Vectors that are searched exactly; any number of threads may ask.

    Args:
        vectors: (n, dim) float32, L2-normalised.
    """

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self._vectors = vectors
        self._heads = _Heads(vectors) if len(vectors) >= _LEAST_ROWS else None

    def __len__(self) -> int:
        """Give the number of vectors."""
        return len(self._vectors)

    def score(
        self, query: NDArray[np.float32], rows: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Give the cosines of some rows, or of all.

        Args:
            query: (dim,) float32, L2-normalised.
            rows: (m,) row numbers.

        Returns:
            (m,) or (n,) float32.
        """
        if rows is None:
            return self._vectors @ query
        # BLAS adds up the last rows in another order than the others, so that equal vectors would
        # not be equally near; this does not, and is as fast for few.
        return np.einsum("ij,j->i", self._vectors[rows], query)

    def best(
        self, query: NDArray[np.float32], limit: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find the nearest.

        Args:
            query: (dim,) float32, L2-normalised.
            limit: How many, at least 1.

        Returns:
            Rows, ascending, with their cosines: the best ``limit`` and all that are as good as the
            last of them.
        """
        if limit >= len(self):
            return np.arange(len(self)), self.score(query)
        rows = self._reaching(query, limit)
        cosines = self.score(query, rows)
        chosen = np.flatnonzero(cosines >= _nth_best(cosines, limit))
        return (chosen if rows is None else rows[chosen]), cosines[chosen]

    def _reaching(self, query: NDArray[np.float32], limit: int) -> NDArray[np.int64] | None:
        """Give the rows that can be among the best, or None when those are too many."""
        if self._heads is None:
            return None
        heads, rest = self._heads.score(query)
        likely = np.argpartition(heads, len(heads) - limit)[len(heads) - limit :]
        least = self.score(query, likely).min() - _ROUNDING
        rows = np.flatnonzero(heads + rest >= least)
        # Rows here and there cost more each than all in their order.
        return rows if len(rows) < len(self) // 8 else None


class _Heads:
    """The first coordinates of vectors along their principal axes, and how long the rest is."""

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
        """Give what the heads make of each cosine and the most that the rest adds, (n,) each."""
        turned: NDArray[np.float32] = query @ self._axes
        rest = float(np.linalg.norm(turned[self._count :]))
        return self._heads @ turned[: self._count], self._rest * rest


def _nth_best(scores: NDArray[np.float32], number: int) -> np.float32:
    return np.partition(scores, len(scores) - number)[len(scores) - number]
