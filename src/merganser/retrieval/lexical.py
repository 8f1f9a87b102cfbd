"""Lexical retrieval: BM25 over the postings of one snapshot.

A single query reads the postings of its terms by SQL; a process that answers many keeps all
postings in memory, where a query costs under a millisecond at 100k chunks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from merganser.retrieval.bm25 import (
    Ranking,
    TermList,
    TermLists,
    Weighing,
    explain_chunk,
    score_at,
    score_chunks,
    split_postings,
)
from merganser.store.tokens import (
    SPELLED,
    QueryTerm,
    language_term,
    parse_query,
    query_terms,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from merganser.store.filters import Filter
    from merganser.store.reader import Snapshot
    from merganser.store.resident import ResidentTables

# Words that make a sentence a question and say nothing of its subject. In code they are rare, so
# idf would weigh "how does" above the words of the subject. Words that are also operators
# (if, in, not, for, with, ...) stay. nDCG@10 with the postings of this package: CoSQA dev 0.371 ->
# 0.374 (recall@10 0.530 -> 0.546), Cranfield 0.351 -> 0.362. The list was chosen on these same two
# sets out of three tried (none, this, a longer one), so the gain elsewhere may be smaller.
_QUESTION_WORDS_TEXT = """
    a an the how what which who whom whose why when where does do did done can could should would
    will shall may might must i me my we us our you your it its this that these those there is are
    was were be been being am to of
"""
_QUESTION_WORDS = frozenset(query_terms(_QUESTION_WORDS_TEXT))


def subject_terms(query: str) -> list[QueryTerm]:
    """Return a query's distinct terms without question words, or all when nothing else is left.

    >>> [term.base for term in subject_terms("how does the retriever open")]
    ['retriev', 'open', 'retrieveropen']
    """
    terms = parse_query(query)
    subject = [t for t in terms if not _QUESTION_WORDS.intersection((t.base, *t.of))]
    return subject or terms


@dataclass(frozen=True, slots=True)
class LexicalMatches:
    """What a query's terms found in a snapshot.

    Attributes:
        terms: What was looked for, one a list of ``found``; empty for a query without words.
        found: Where they occur, without the chunks that the filter removed.
        weighing: What scores depend on.
        joined: The terms that are two neighbouring words of the query written as one.
    """

    terms: tuple[str, ...]
    found: TermLists
    weighing: Weighing
    joined: frozenset[str] = frozenset()

    def rank(self, limit: int | None = None) -> Ranking:
        """Rank the best chunks, and all that are as good as the last; without a limit, all."""
        return score_chunks(self.found, self.weighing, limit=limit)

    def score(self, keys: NDArray[np.int64]) -> NDArray[np.float64]:
        """Score some chunks, whatever their rank; 0 for one without any of the terms."""
        return score_at(self.found, self.weighing, keys)

    def coverage(self, key: int, *, few: int) -> tuple[float, float]:
        """Return which share of the query's idf is in terms that a chunk holds.

        A word that stands nowhere counts as the rarest there is.

        Args:
            key: Of the chunk.
            few: A term that stands in at most so many chunks is rare.

        Returns:
            The share of all terms held and of the rare ones among them, 0 to 1 each.
        """
        position = int(np.searchsorted(self.found.keys, key))
        total = held = rare = 0.0
        idf = self.weighing.idf(self.found.lists).tolist()
        for term, one, weight in zip(self.terms, self.found.lists, idf, strict=True):
            if term in self.joined:
                continue
            total += weight
            if _holds(one, position):
                held += weight
                rare += weight if one.frequency <= few else 0.0
        return (held / total, rare / total) if total else (0.0, 0.0)

    def explain(self, key: int) -> Mapping[str, float]:
        """Return what each term added to a chunk's score, the largest first."""
        return explain_chunk(self.found, key, terms=self.terms, weighing=self.weighing)


class LexicalIndex:
    """The postings of one snapshot.

    Args:
        snapshot: Open.
        tables: The snapshot's tables in memory, for a process that answers many queries; None to
            read by SQL.
    """

    def __init__(self, snapshot: Snapshot, tables: ResidentTables | None) -> None:
        self._snapshot = snapshot
        self._tables = tables
        self._languages: list[str] | None = None

    def match(
        self, query: str, *, k1: float, b: float, where: Filter | None = None
    ) -> LexicalMatches:
        """Find the chunks that hold a term of the query.

        Args:
            query: The question.
            k1: Saturation, at least 0.
            b: Length normalization, 0 to 1.
            where: Removes chunks and leaves the scores of the others as they are.
        """
        asked = subject_terms(query)
        weighing = Weighing(self._snapshot.chunk_count, self._snapshot.total_terms, k1, b)
        terms, found = self._look_up(asked)
        if sum(bool(term.spelling) for term in asked) == len(query.split()) == 1:
            found = _lift_rare_spelling(found, weighing)
        if where is not None:
            found = found.keep(self._mask(found, where))
        joined = frozenset(term.base for term in asked if term.of)
        return LexicalMatches(terms, found, weighing, joined)

    def _look_up(self, asked: Sequence[QueryTerm]) -> tuple[tuple[str, ...], TermLists]:
        """Find the terms of a query, each by its base and as it is spelled."""
        stems = {term.base: self._stems(term.word) for term in asked}
        bases = [*(term.base for term in asked), *chain.from_iterable(stems.values())]
        spelled = [term.base for term in asked if term.spelling]
        if self._tables is None:
            spellings = self._snapshot.spellings(spelled)
            every = list(dict.fromkeys([*bases, *chain.from_iterable(spellings.values())]))
            split = split_postings(self._snapshot.postings(every), len(every))
            keys, lengths = split.keys, split.lengths
            lists = dict(zip(every, split.lists, strict=True))
        else:
            postings = self._tables.postings
            spellings = {base: postings.spellings(base) for base in spelled}
            keys, lengths = self._tables.keys, postings.lengths
            lists = {
                term: TermList(position, tf, len(position))
                for term in dict.fromkeys([*bases, *chain.from_iterable(spellings.values())])
                for position, tf in (postings.find(term),)
            }
        found: dict[str, TermList] = {}
        for term in asked:
            base = lists[term.base]
            whole = _join([base, *(lists[stem] for stem in stems[term.base])])
            if term.of:  # no rarer than the words it is made of: two neighbours seldom are one name
                parts = [lists[part].frequency for part in term.of if part in lists]
                common = max([base.frequency, *parts])
                base = replace(base, frequency=common)
                whole = base
            found[term.base] = replace(whole, repeats=term.repeats)
            if not term.spelling:
                continue
            others = {other: lists[other] for other in spellings[term.base]}
            exact = _as_spelled(term, base, others)
            if 0 < exact.frequency < whole.frequency:
                name = f"{term.base} as {term.spelling}"
                found[name] = replace(exact, within=whole.frequency, repeats=term.repeats)
        return tuple(found), TermLists(keys, lengths, tuple(found.values()))

    def _stems(self, word: str) -> list[str]:
        """Return the terms for a word's stems in the languages of the snapshot but English."""
        if self._languages is None:
            terms = (
                self._snapshot.spellings([""])[""]
                if self._tables is None
                else self._tables.postings.spellings("")
            )
            self._languages = [term.removeprefix(SPELLED) for term in terms]
        stems = (language_term(language, word) for language in self._languages)
        return [stem for stem in stems if stem is not None]

    def _mask(self, found: TermLists, where: Filter) -> NDArray[np.bool_]:
        if self._tables is not None:
            return self._tables.mask(where)
        return np.isin(found.keys, self._snapshot.allowed(where))


def _join(lists: Sequence[TermList]) -> TermList:
    """Return where any of the forms of a word stands; the more frequent of them counts."""
    lists = [one for one in lists if len(one.position)] or lists[:1]
    if len(lists) == 1:
        return lists[0]
    position, back = np.unique(np.concatenate([one.position for one in lists]), return_inverse=True)
    tf = np.zeros(len(position), dtype=np.uint8)
    np.maximum.at(tf, back, np.concatenate([one.tf for one in lists]))
    return TermList(position, tf, len(position))


def _holds(one: TermList, position: int) -> bool:
    at = np.searchsorted(one.position, one.position.dtype.type(position))
    return bool(at < len(one.position) and one.position[at] == position)


def _as_spelled(term: QueryTerm, base: TermList, others: Mapping[str, TermList]) -> TermList:
    """Return where a word stands as the query spells it, or else as it does but for capitals."""
    wanted = f"{term.base}{SPELLED}{term.spelling}"
    if term.spelling == term.base:
        left = base.tf.astype(np.int32)
        for other in others.values():
            left[np.searchsorted(base.position, other.position)] -= other.tf
        there = left > 0
        if there.any():
            position = base.position[there]
            return TermList(position, left[there].astype(np.uint8), len(position))
    elif wanted in others and others[wanted].frequency:
        return others[wanted]
    alike = [others[other] for other in others if other.lower() == wanted.lower()]
    tf = np.zeros(len(base.position), dtype=np.int32)
    for other in alike:
        tf[np.searchsorted(base.position, other.position)] += other.tf
    there = tf > 0
    position = base.position[there]
    return TermList(position, np.minimum(tf[there], 255).astype(np.uint8), len(position))


_FEW = 10
"""Chunks that all find a place on a first page of hits."""


def _lift_rare_spelling(found: TermLists, weighing: Weighing) -> TermLists:
    """Put the chunks with a rare spelling before all that other terms can find."""
    idf = weighing.idf(found.lists)
    most = float(idf.sum()) * weighing.most
    return replace(
        found,
        lists=tuple(
            replace(one, lift=most) if one.within and one.frequency <= _FEW else one
            for one in found.lists
        ),
    )
