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
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from merganser.store.reader import Postings

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

    def keep(self, allowed: NDArray[np.int64]) -> Ranking:
        """Keep the chunks whose key is among the allowed ones, with their scores."""
        mask = np.isin(self.keys, allowed)
        return Ranking(self.keys[mask], self.scores[mask])


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


def weigh_postings(
    postings: Postings, *, terms: int, chunk_count: int, total_terms: int, k1: float, b: float
) -> NDArray[np.float64]:
    """Give what each posting adds to its chunk's score.

    Args:
        postings: Live postings of the query's distinct terms.
        terms: Number of the query's distinct terms.
        chunk_count: Live chunks, N.
        total_terms: Sum of their lengths, N · avgdl.
        k1: Saturation, at least 0.
        b: Length normalisation, 0 to 1.

    Returns:
        (n_postings,) float64.
    """
    frequency = np.bincount(postings.term_index, minlength=terms).astype(np.int64)
    idf = inverse_document_frequency(chunk_count, frequency)
    average = total_terms / chunk_count if chunk_count else 0.0
    relative = postings.doc_len / average if average else np.zeros(len(postings.doc_len))
    tf = postings.tf.astype(np.float64)
    return idf[postings.term_index] * tf * (k1 + 1.0) / (tf + k1 * (1.0 - b + b * relative))


def score_chunks(
    postings: Postings,
    *,
    terms: int,
    chunk_count: int,
    total_terms: int,
    k1: float = DEFAULT_K1,
    b: float = DEFAULT_B,
) -> Ranking:
    """Rank every chunk that holds a term of the query.

    Args:
        postings: Live postings of the query's distinct terms.
        terms: Number of the query's distinct terms.
        chunk_count: Live chunks, N.
        total_terms: Sum of their lengths, N · avgdl.
        k1: Saturation, at least 0.
        b: Length normalisation, 0 to 1.

    Returns:
        All of them; empty when no term occurs.
    """
    added = weigh_postings(
        postings, terms=terms, chunk_count=chunk_count, total_terms=total_terms, k1=k1, b=b
    )
    # Sum in the order of terms, so that the store's order of rows cannot change a last digit.
    order = np.lexsort((postings.term_index, postings.key))
    keys = postings.key[order].astype(np.int64)
    starts = np.flatnonzero(np.diff(keys, prepend=keys[0] - 1)) if len(keys) else np.zeros(0, int)
    scores = np.add.reduceat(added[order], starts) if len(keys) else np.zeros(0)
    return rank(keys[starts], scores)


def explain_chunk(
    postings: Postings,
    key: int,
    *,
    terms: Sequence[str],
    chunk_count: int,
    total_terms: int,
    k1: float,
    b: float,
) -> Mapping[str, float]:
    """Give what each term of the query adds to one chunk's score, the largest first."""
    added = weigh_postings(
        postings, terms=len(terms), chunk_count=chunk_count, total_terms=total_terms, k1=k1, b=b
    )
    mine = np.flatnonzero(postings.key == key)
    parts = {terms[int(postings.term_index[i])]: float(added[i]) for i in mine}
    return dict(sorted(parts.items(), key=lambda part: (-part[1], part[0])))
