"""BM25 over the store's postings: scores for every chunk that holds a term of the query.

The formula is Okapi BM25 as Lucene computes it (Robertson and Zaragoza, "The Probabilistic
Relevance Framework: BM25 and Beyond", 2009), with an idf that cannot be negative::

    idf(t)      = ln((N - df + 0.5) / (df + 0.5) + 1)
    score(q, d) = Σ idf(t) · tf · (k1 + 1) / (tf + k1 · (1 - b + b · |d| / avgdl))

summed over the *distinct* terms of the query. ``N``, ``df`` and ``avgdl`` count the live chunks of
the snapshot that is read, whatever a filter leaves of them, so that a filter takes hits away and
never changes a score. A chunk without any term of the query is no hit.

Scores are raw: 0 < score, without an upper bound, growing with the number of the query's terms. A
strategy's ``threshold`` is compared with this raw score.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from merganser.store.rows import Postings

DEFAULT_K1 = 1.5
"""Saturation of a term's repetition, the reference language's default; sensible in 1.2 to 2."""

DEFAULT_B = 0.75
"""Weight of a chunk's length, 0 (none) to 1."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """Scored chunks, best first, equal scores by ascending key.

    Attributes:
        keys: (n,) int64, the snapshot's chunk keys.
        scores: (n,) float64, descending.
    """

    keys: NDArray[np.int64]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        """Give the number of scored chunks."""
        return len(self.keys)

    def head(self, limit: int) -> Ranking:
        """Keep the best, and all that are exactly as good as the last of them.

        Which of the equals are kept is decided where their paths are known.
        """
        if len(self) <= limit:
            return self
        end = int(np.count_nonzero(self.scores >= self.scores[limit - 1])) if limit > 0 else 0
        return Ranking(self.keys[:end], self.scores[:end])


def rank(keys: NDArray[np.int64], scores: NDArray[np.float64]) -> Ranking:
    """Sort scored chunks."""
    order = np.lexsort((keys, -scores))
    return Ranking(keys[order], scores[order])


def inverse_document_frequency(
    chunk_count: int, document_frequency: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Weigh terms by their rarity.

    Args:
        chunk_count: Live chunks.
        document_frequency: (n_terms,) live chunks that hold each term.

    Returns:
        (n_terms,) float64, more than 0 for every term.
    """
    df = document_frequency.astype(np.float64)
    return np.log((chunk_count - df + 0.5) / (df + 0.5) + 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class TermList:
    """Where one term of a query occurs.

    Attributes:
        position: (n,) integers, ascending, which chunks hold it; of the filtered ones only.
        tf: (n,) uint8, how often.
        frequency: How many live chunks of the snapshot hold it, the term's df.
    """

    position: NDArray[np.int32]
    tf: NDArray[np.uint8]
    frequency: int


@dataclass(frozen=True, slots=True, eq=False)
class TermLists:
    """Where the terms of a query occur.

    Attributes:
        keys: (n_chunks,) int64, the chunk at each position, ascending.
        lengths: (n_chunks,) int32, its terms with repetitions.
        lists: One per distinct term of the query.
    """

    keys: NDArray[np.int64]
    lengths: NDArray[np.int32]
    lists: tuple[TermList, ...]

    def keep(self, mask: NDArray[np.bool_]) -> TermLists:
        """Leave chunks out, without changing how frequent a term is.

        Args:
            mask: (n_chunks,) by position.
        """
        lists = (
            TermList(one.position[inside], one.tf[inside], one.frequency)
            for one in self.lists
            for inside in (mask[one.position],)
        )
        return TermLists(self.keys, self.lengths, tuple(lists))


@dataclass(frozen=True, slots=True)
class Weighing:
    """What scores depend on beside the postings.

    Attributes:
        chunk_count: Live chunks, N.
        total_terms: Sum of their lengths, N · avgdl.
        k1: Saturation, at least 0.
        b: Length normalisation, 0 to 1.
    """

    chunk_count: int
    total_terms: int
    k1: float = DEFAULT_K1
    b: float = DEFAULT_B

    def idf(self, lists: Sequence[TermList]) -> NDArray[np.float64]:
        """Give each term's weight."""
        frequency = np.array([one.frequency for one in lists], dtype=np.int64)
        return inverse_document_frequency(self.chunk_count, frequency)

    def weigh(self, tf: NDArray[np.uint8], lengths: NDArray[np.int32]) -> NDArray[np.float64]:
        """Give what each posting of a term adds to its chunk's score, per unit of idf.

        Returns:
            (n,) float64, from 0 to k1 + 1.
        """
        average = self.total_terms / self.chunk_count if self.chunk_count else 0.0
        norm = lengths.astype(np.float64)
        norm *= self.k1 * self.b / average if average else 0.0
        norm += self.k1 * (1.0 - self.b)
        norm += tf
        weight = tf.astype(np.float64)
        weight *= self.k1 + 1.0
        weight /= norm
        return weight


def split_postings(postings: Postings, terms: int) -> TermLists:
    """Arrange postings by term.

    Args:
        postings: Live postings of a query's distinct terms.
        terms: Number of these terms.
    """
    keys, first, position = np.unique(postings.key, return_index=True, return_inverse=True)
    ends = np.searchsorted(postings.term_index, np.arange(terms + 1))
    lists = tuple(
        TermList(position[a:b].astype(np.int32), postings.tf[a:b], int(b - a))
        for a, b in pairwise(ends.tolist())
    )
    return TermLists(keys, postings.doc_len[first], lists)


def score_chunks(found: TermLists, weighing: Weighing, *, limit: int | None = None) -> Ranking:
    """Rank the chunks that hold a term of the query.

    With a limit, frequent terms are looked up only in chunks that can still reach it (Turtle and
    Flood, "Query evaluation: strategies and optimizations", 1995): terms are taken from the rarest
    on, and once the terms that are left cannot lift a chunk without any of the former ones to the
    limit, nothing but the chunks near it is looked at. The scores are the same ones to the last
    digit, because the terms are added up in the same order.

    Args:
        found: Where the terms occur.
        weighing: What scores depend on.
        limit: How many are wanted; None for all.

    Returns:
        The best ``limit`` and all that are exactly as good as the last of them; empty when no
        term occurs.
    """
    idf = weighing.idf(found.lists)
    rarest_first: list[int] = np.argsort(-idf, kind="stable").tolist()
    order = [i for i in rarest_first if len(found.lists[i].position)]
    scores = np.zeros(len(found.keys))
    best = _Best(scores, len(scores) if limit is None else limit)
    chosen: NDArray[np.int64] | None = None
    for place, i in enumerate(order):
        position, tf = found.lists[i].position, found.lists[i].tf
        if chosen is not None:
            at = np.minimum(np.searchsorted(position, chosen), len(position) - 1)
            there = position[at] == chosen
            position, tf = position[at[there]], tf[at[there]]
        added = weighing.weigh(tf, found.lengths[position])
        added *= idf[i]
        scores[position] += added
        if chosen is None:
            best.saw(position)
            left = float(idf[order[place + 1 :]].sum()) * (weighing.k1 + 1.0)
            # Exactly as good as the last still counts, and sums may be off by a rounding.
            if best.least() > left * (1.0 + 1e-9):
                chosen = best.reaching(left * (1.0 + 1e-9))
    if chosen is None:
        chosen = best.reaching(0.0)
    found_scores = scores[chosen]
    if limit is not None and limit < len(chosen):
        enough = found_scores >= _nth_best(found_scores, limit) if limit else np.zeros(0, np.int64)
        chosen, found_scores = chosen[enough], found_scores[enough]
    return rank(found.keys[chosen], found_scores)


class _Best:
    """The best scores so far, by a sample that certainly holds as many as are wanted.

    Args:
        scores: By position; they only grow.
        limit: How many are wanted.
    """

    def __init__(self, scores: NDArray[np.float64], limit: int) -> None:
        self._scores = scores
        self._limit = limit
        self._sample: NDArray[Any] = np.zeros(0, dtype=np.int64)

    def saw(self, position: NDArray[Any]) -> None:
        """Take the chunks of the rarest terms, which are those with the best scores."""
        if len(self._sample) < self._limit:
            self._sample = np.union1d(self._sample, position) if len(self._sample) else position

    def least(self) -> float:
        """Give a score that the last of the wanted has for certain; 0 while there are too few."""
        if not 0 < self._limit <= len(self._sample):
            return 0.0
        return float(_nth_best(self._scores[self._sample], self._limit))

    def reaching(self, margin: float) -> NDArray[np.int64]:
        """Give the positions that have that score, or would with some more."""
        least = self.least()
        return np.flatnonzero(self._scores >= least - margin if least else self._scores > 0)


def _nth_best(scores: NDArray[np.float64], number: int) -> np.float64:
    return np.partition(scores, len(scores) - number)[len(scores) - number]


def explain_chunk(
    found: TermLists, key: int, *, terms: Sequence[str], weighing: Weighing
) -> Mapping[str, float]:
    """Give what each term of the query adds to one chunk's score, the largest first."""
    position = int(np.searchsorted(found.keys, key))
    idf = weighing.idf(found.lists)
    parts: dict[str, float] = {}
    for i, one in enumerate(found.lists):
        at = slice(*np.searchsorted(one.position, [position, position + 1]).tolist())
        for weight in weighing.weigh(one.tf[at], found.lengths[one.position[at]]).tolist():
            parts[terms[i]] = float(idf[i]) * weight
    return dict(sorted(parts.items(), key=lambda part: (-part[1], part[0])))
