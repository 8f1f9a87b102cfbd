"""BM25 over the store's postings: scores for every chunk that holds a term of the query.

The formula is Okapi BM25 as Lucene computes it (Robertson and Zaragoza, "The Probabilistic
Relevance Framework: BM25 and Beyond", 2009), with an idf that cannot be negative::

    idf(t)      = ln((N - df + 0.5) / (df + 0.5) + 1)
    score(q, d) = Σ idf(t) · tf · (k1 + 1) / (tf + k1 · (1 - b + b · |d| / avgdl))

summed over the *distinct* terms of the query, each as often as the query has it. ``N``, ``df`` and
``avgdl`` count the live chunks of the snapshot that is read, with or without a filter, so that a
filter removes hits and never changes a score. A chunk without any term of the query is no hit.

A word counts by its base term wherever it stands, and where it is spelled as in the query by the
rarity of that spelling: a chunk with "translates" is before those with "translation" when that was
asked, the more so the rarer it is, and all of them are found. A query of one word that is spelled
so in few chunks has these first.

Scores are raw: more than 0, without an upper bound, growing with the number of the query's terms.
A strategy's ``threshold`` is compared with this raw score.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from merganser.store.rows import Postings

FloatT = TypeVar("FloatT", np.float32, np.float64)

DEFAULT_K1 = 1.5
"""Saturation of a term's repetition, the default of docker-agent; 1.2 to 2 is usual."""

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
        """Return the number of scored chunks."""
        return len(self.keys)

    def head(self, limit: int) -> Ranking:
        """Return the best, and all that are exactly as good as the last of them.

        The caller, who knows their paths, decides which of the equals are kept.
        """
        if len(self) <= limit:
            return self
        end = int(np.count_nonzero(self.scores >= self.scores[limit - 1])) if limit > 0 else 0
        return Ranking(self.keys[:end], self.scores[:end])


def rank(keys: NDArray[np.int64], scores: NDArray[np.float64]) -> Ranking:
    """Sort scored chunks."""
    order = np.lexsort((keys, -scores))
    return Ranking(keys[order], scores[order])


@dataclass(frozen=True, slots=True, eq=False)
class TermList:
    """Where one term of a query occurs.

    Attributes:
        position: (n,) integers, ascending: which chunks hold it, without those a filter removed.
        tf: (n,) uint8, how often each of them holds it.
        frequency: How many live chunks of the snapshot hold it, filtered or not: the term's df.
        within: The df of the base term when this is a spelling of it, else 0. What the base term
            adds to a score is not added twice.
        repeats: How often the query has it.
        lift: Added to the score of every chunk that holds it.
    """

    position: NDArray[np.int32]
    tf: NDArray[np.uint8]
    frequency: int
    within: int = 0
    repeats: int = 1
    lift: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class TermLists:
    """Where the terms of a query occur.

    Attributes:
        keys: (n_chunks,) int64, the chunk at each position, ascending.
        lengths: (n_chunks,) int32, how many terms it holds, repetitions counted.
        lists: One per distinct term of the query.
    """

    keys: NDArray[np.int64]
    lengths: NDArray[np.int32]
    lists: tuple[TermList, ...]

    def keep(self, mask: NDArray[np.bool_]) -> TermLists:
        """Keep only some chunks, without changing how frequent a term is.

        Args:
            mask: (n_chunks,) by position, True for chunks to keep.
        """
        lists = (
            replace(one, position=one.position[inside], tf=one.tf[inside])
            for one in self.lists
            for inside in (mask[one.position],)
        )
        return TermLists(self.keys, self.lengths, tuple(lists))


@dataclass(frozen=True, slots=True)
class Weighing:
    """What scores depend on besides the postings.

    Attributes:
        chunk_count: Live chunks, N.
        total_terms: Sum of their lengths, N · avgdl.
        k1: Saturation, at least 0.
        b: Length normalization, 0 to 1.
    """

    chunk_count: int
    total_terms: int
    k1: float = DEFAULT_K1
    b: float = DEFAULT_B

    @property
    def most(self) -> float:
        """The most that a posting adds to its chunk's score, per unit of idf."""
        return self.k1 + 1.0

    def idf(self, lists: Sequence[TermList]) -> NDArray[np.float64]:
        """Weigh terms by their rarity and by how often the query has them.

        Returns:
            (n_terms,) float64, more than 0 for every term.
        """
        df = np.array([one.frequency for one in lists], dtype=np.float64)
        within = np.array([one.within for one in lists], dtype=np.float64)
        repeats = np.array([one.repeats for one in lists], dtype=np.float64)
        counted = np.where(within > 0.0, self._idf(within), 0.0)
        return repeats * (self._idf(df) - counted)

    def _idf(self, df: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.log((self.chunk_count - df + 0.5) / (df + 0.5) + 1.0)

    def weigh(self, tf: NDArray[np.uint8], lengths: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return what each posting of a term adds to its chunk's score, per unit of idf.

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
    """Group postings by term.

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

    With a limit, frequent terms are looked up only in chunks that can still be among the best
    (Turtle and Flood, "Query evaluation: strategies and optimizations", 1995). Terms are added from
    the rarest on. Once the remaining terms cannot lift a chunk that holds none of the earlier ones
    into the best, only the chunks near the best are looked at, fewer after every term. The scores
    are the same to the last digit, because terms are added in the same order.

    Args:
        found: Where the terms occur.
        weighing: What scores depend on.
        limit: How many chunks are wanted; None for all.

    Returns:
        The best ``limit`` and all that are exactly as good as the last of them; empty when no
        term occurs.

    >>> once, twice = np.array([0], np.int32), np.array([0, 1], np.int32)
    >>> rare = TermList(once, tf=np.array([1], np.uint8), frequency=1)
    >>> common = TermList(twice, tf=np.array([1, 2], np.uint8), frequency=2)
    >>> found = TermLists(np.array([7, 9]), np.array([5, 5], np.int32), (rare, common))
    >>> score_chunks(found, Weighing(chunk_count=10, total_terms=50)).keys.tolist()
    [7, 9]
    """
    wanted = len(found.keys) if limit is None else limit
    terms = _rarest_first(found.lists, weighing)
    chosen, scores, looked_at = _score_until_sure(found, terms, weighing, wanted)
    for term in terms[looked_at:]:
        there, tf = term.look_up(chosen, len(found.keys))
        scores[there] += term.score(weighing, tf, found.lengths[chosen[there]])
        near = _near_the_best(scores, wanted, term.left)
        chosen, scores = chosen[near], scores[near]
    best = _near_the_best(scores, wanted, 0.0)
    return rank(found.keys[chosen[best]], scores[best])


@dataclass(frozen=True, slots=True, eq=False)
class _Term:
    """A term of the query that occurs in the snapshot.

    Attributes:
        found: Where it occurs.
        idf: Its weight.
        left: The most that all terms after it can add to a score.
    """

    found: TermList
    idf: float
    left: float

    def score(
        self, weighing: Weighing, tf: NDArray[np.uint8], lengths: NDArray[np.int32]
    ) -> NDArray[np.float64]:
        """Return what the term adds to the scores of chunks."""
        return weighing.weigh(tf, lengths) * self.idf + self.found.lift

    def look_up(
        self, chosen: NDArray[np.int64], count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Return which of some ascending positions hold the term, and its tf in them."""
        position, tf = self.found.position, self.found.tf
        if len(position) < _CHEAP_TABLE * len(chosen):
            table = np.zeros(count, dtype=np.uint8)
            table[position] = tf
            frequency = table[chosen]
            there = np.flatnonzero(frequency)
            return there, frequency[there]
        at = np.minimum(np.searchsorted(position, chosen), len(position) - 1)
        there = np.flatnonzero(position[at] == chosen)
        return there, tf[at[there]]


_CHEAP_TABLE = 8  # times the chosen: writing so many postings to a table beats searching each
_ROUNDING = 1e-9  # of a score: far above the error of sums, far below real differences


def _rarest_first(lists: Sequence[TermList], weighing: Weighing) -> list[_Term]:
    idf = weighing.idf(lists)
    order: list[int] = np.argsort(-idf, kind="stable").tolist()
    terms: list[_Term] = []
    left = 0.0
    for i in reversed([i for i in order if len(lists[i].position)]):
        terms.append(_Term(lists[i], float(idf[i]), left))
        left += float(idf[i]) * weighing.most + lists[i].lift
    return terms[::-1]


def _score_until_sure(
    found: TermLists, terms: Sequence[_Term], weighing: Weighing, wanted: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], int]:
    """Score chunks by the rarest terms until no other chunk can be among the best.

    Returns:
        Positions, ascending, their scores so far, and how many terms were looked at.
    """
    scores = np.zeros(len(found.keys))
    # Chunks of the rarest terms, as many as are wanted: the best scores are likely among them.
    sample: NDArray[Any] = np.zeros(0, dtype=np.int64)
    for looked_at, term in enumerate(terms, start=1):
        position = term.found.position
        scores[position] += term.score(weighing, term.found.tf, found.lengths[position])
        if len(sample) < wanted:
            sample = np.union1d(sample, position)
        if 0 < wanted <= len(sample):
            least = nth_best(scores[sample], wanted) * (1.0 - _ROUNDING) - term.left
            if least > 0.0:
                chosen = np.flatnonzero(scores >= least)
                return chosen, scores[chosen], looked_at
    chosen = np.flatnonzero(scores)
    return chosen, scores[chosen], len(terms)


def _near_the_best(
    scores: NDArray[np.float64], wanted: int, left: float
) -> NDArray[np.int64] | slice:
    """Return the positions of the best, and of those that ``left`` more could make as good."""
    if wanted >= len(scores):
        return slice(None)
    if wanted == 0:
        return slice(0)
    least = nth_best(scores, wanted)
    if left:
        least = least * (1.0 - _ROUNDING) - left
    return np.flatnonzero(scores >= least)


def nth_best(scores: NDArray[FloatT], number: int) -> FloatT:
    """Return the score of rank ``number``, from 1."""
    return np.partition(scores, len(scores) - number)[len(scores) - number]


def score_at(found: TermLists, weighing: Weighing, keys: NDArray[np.int64]) -> NDArray[np.float64]:
    """Score some chunks, whatever their rank.

    Each term is looked up by bisection, so the cost grows with the chunks that are asked for and
    not with those that hold the term.

    Args:
        found: Where the terms occur.
        weighing: What scores depend on.
        keys: (n,) int64, live chunks.

    Returns:
        (n,) float64, the scores that ``score_chunks`` gives; 0 for a chunk without any term.
    """
    scores = np.zeros(len(keys))
    if not len(found.keys):
        return scores
    at = np.minimum(np.searchsorted(found.keys, keys), len(found.keys) - 1)
    known = np.flatnonzero(found.keys[at] == keys)
    for term in _rarest_first(found.lists, weighing):
        position = term.found.position
        # Of the same type, or all of a frequent term's postings would be converted.
        wanted = at[known].astype(position.dtype)
        first = np.minimum(np.searchsorted(position, wanted), len(position) - 1)
        there = position[first] == wanted
        chosen = known[there]
        scores[chosen] += term.score(
            weighing, term.found.tf[first[there]], found.lengths[at[chosen]]
        )
    return scores


def explain_chunk(
    found: TermLists, key: int, *, terms: Sequence[str], weighing: Weighing
) -> Mapping[str, float]:
    """Return what each term of the query adds to one chunk's score, the largest first."""
    position = int(np.searchsorted(found.keys, key))
    idf = weighing.idf(found.lists)
    parts: dict[str, float] = {}
    for i, one in enumerate(found.lists):
        at = slice(*np.searchsorted(one.position, [position, position + 1]).tolist())
        for weight in weighing.weigh(one.tf[at], found.lengths[one.position[at]]).tolist():
            parts[terms[i]] = float(idf[i]) * weight + one.lift
    return dict(sorted(parts.items(), key=lambda part: (-part[1], part[0])))
