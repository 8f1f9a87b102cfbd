"""How often each term occurs in each of many texts."""

from __future__ import annotations

from array import array
from collections import defaultdict
from dataclasses import dataclass
from itertools import chain, count
from typing import TYPE_CHECKING, Any

import numpy as np

from merganser.store.stems import OTHER_LANGUAGES, frequent_in, stem_word
from merganser.store.tokens import SPELLED, expand_word, find_words, language_term, spelled_term

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class TermCounts:
    """The term frequencies of many texts, as parallel arrays, in no order.

    Attributes:
        chunk_row: (n_postings,) int64, index into the texts that were given.
        term_id: (n_postings,) int64, as the counter's ``TermNumbers`` have it.
        tf: (n_postings,) uint8, occurrences of the term in the text, at least 1; 255 stands for
            255 and more, where BM25 has long saturated.
        doc_len: (n_texts,) int32, number of base terms of each text with repetitions, 0 for none.
    """

    chunk_row: NDArray[np.int64]
    term_id: NDArray[np.int64]
    tf: NDArray[np.uint8]
    doc_len: NDArray[np.int32]


class TermNumbers(defaultdict[str, int]):
    """Number terms in the order in which they are first looked up."""

    def __init__(self) -> None:
        super().__init__(count().__next__)


class TermCounter:
    """Count the terms of texts, batch by batch, under numbers that hold for all of them.

    The work per character is in C (a table or a regular expression, one dict lookup a word), the
    work per word of a text in numpy; a word is looked at in Python when it is met for the first
    time.

    Args:
        numbers: Gets the terms; who counts on may give the ones of before.
    """

    def __init__(self, numbers: TermNumbers) -> None:
        self._numbers = numbers
        self._words = _Words(numbers)

    def count(self, texts: Sequence[str]) -> TermCounts:
        """Count the terms of each text.

        Args:
            texts: Any number of texts, empty ones allowed.
        """
        # Some at a time, so that the arrays stay in the processor's cache and in memory that is
        # used again: fresh memory costs more than what is counted in it.
        parts = [
            self._count_some(texts[at : at + _TEXTS_AT_ONCE], at)
            for at in range(0, max(len(texts), 1), _TEXTS_AT_ONCE)
        ]
        row, term, tf, doc_len = map(np.concatenate, zip(*parts, strict=True))
        return TermCounts(row, term, tf, doc_len)

    def _count_some(self, texts: Sequence[str], at: int) -> tuple[NDArray[Any], ...]:
        """Return the columns of ``TermCounts`` for the texts from row ``at`` on."""
        self._words.forget_many()
        found = [*map(find_words, texts)]
        row = np.repeat(np.arange(len(texts)), [*map(len, found)])
        stream = map(self._words.__getitem__, chain.from_iterable(found))
        word, row, times = _count_pairs(np.fromiter(stream, np.int64, len(row)), row, len(texts))

        first, expanded, bases, terms = self._words.arrays()
        doc_len = np.bincount(row, times * bases[word], minlength=len(texts))
        widths = expanded[word]
        # Positions in ``terms``: of each word its own, one after the other.
        where = np.repeat(first[word] - np.cumsum(widths) + widths, widths)
        where += np.arange(len(where))
        added = self._count_others(word, row, times, len(texts))
        term, row, tf = _count_pairs(
            np.concatenate([terms[where], added[0]]),
            np.concatenate([np.repeat(row, widths), added[1]]),
            len(texts),
            np.concatenate([np.repeat(times, widths), added[2]]),
        )
        row += at
        return row, term, np.minimum(tf, 255).astype(np.uint8), doc_len.astype(np.int32)

    def _count_others(
        self, word: NDArray[np.int64], row: NDArray[np.int64], times: NDArray[np.int64], rows: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return terms, rows and frequencies of the stems in other languages than English.

        Args:
            word: Distinct words of the texts, by number.
            row: Of each word.
            times: How often it stands in its text.
            rows: Number of texts.
        """
        languages = _find_languages(self._words.frequent()[word], row, times, rows)
        inside = np.flatnonzero(languages[row])
        spoken: list[int] = languages[row[inside]].tolist()
        numbers: list[int] = word[inside].tolist()
        term = [
            self._words.stem_in(OTHER_LANGUAGES[language - 1], number)
            for language, number in zip(spoken, numbers, strict=True)
        ]
        stems = np.array(term, dtype=np.int64)
        inside, stems = inside[stems >= 0], stems[stems >= 0]
        marked = np.flatnonzero(languages)
        marks = [
            self._numbers[SPELLED + OTHER_LANGUAGES[language - 1]]
            for language in languages[marked].tolist()
        ]
        return (
            np.concatenate([stems, np.array(marks, dtype=np.int64)]),
            np.concatenate([row[inside], marked]),
            np.concatenate([times[inside], np.ones(len(marked), dtype=np.int64)]),
        )


_TEXTS_AT_ONCE = 500
# Of a text in a language, about a third are its most frequent words. Fewer are enough where code
# stands between sentences; fewer different ones may be a table or names.
_LEAST_FREQUENT = 5
_LEAST_SHARE = 0.08


def _find_languages(
    frequent: NDArray[np.int64], row: NDArray[np.int64], times: NDArray[np.int64], rows: int
) -> NDArray[np.int64]:
    """Return each text's language: 0 for English and what is none, else the place of its bit."""
    best = np.zeros(rows, dtype=np.int64)
    some = np.flatnonzero(frequent)
    if not (frequent[some] > 1).any():
        return best
    words = np.bincount(row, times, minlength=rows)
    frequent, row, times = frequent[some], row[some], times[some]
    most = np.maximum(np.bincount(row[frequent & 1 > 0], minlength=rows), _LEAST_FREQUENT - 1)
    for language in range(1, len(OTHER_LANGUAGES) + 1):
        inside = frequent >> language & 1 > 0
        different = np.bincount(row[inside], minlength=rows)
        share = np.bincount(row[inside], times[inside], minlength=rows)
        better = (different > most) & (share >= _LEAST_SHARE * words)
        best[better], most[better] = language, different[better]
    return best


def _count_pairs(
    number: NDArray[np.int64],
    row: NDArray[np.int64],
    rows: int,
    times: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct pairs of number and row, in this order, and how often each occurs.

    Args:
        number: Below 2**24.
        row: Below ``rows``.
        rows: Below 2**31.
        times: How often each of the given pairs occurs; None for once. More than 255 counts as 255.
    """
    # Sorted as one number, which is the fastest sort there is.
    bits = rows.bit_length()
    pairs = number << bits | row
    if times is not None:
        pairs = pairs << 8 | np.minimum(times, 255)
    pairs.sort()
    if times is not None:
        times, pairs = pairs & 255, pairs >> 8
    starts = np.flatnonzero(np.concatenate([[True], pairs[1:] != pairs[:-1]])[: len(pairs)])
    if times is None:
        times = np.diff(starts, append=len(pairs))
    elif len(starts):
        times = np.add.reduceat(times, starts)
    pairs = pairs[starts]
    return pairs >> bits, pairs & ((1 << bits) - 1), times


_MOST_WORDS = 200_000
"""Words that are remembered with their terms, some 50 MB; a larger vocabulary is rare words."""


class _Words(dict[str | bytes, int]):
    """Number words, and find out each word's terms when it is first looked up."""

    def __init__(self, numbers: TermNumbers) -> None:
        super().__init__()
        self._numbers = numbers
        self._stems = _Stems()
        self._terms = array("q")
        self._ends = array("q")
        self._bases = array("q")
        self._frequent = array("q")
        self._texts: list[str] = []
        self._stemmed: dict[tuple[str, int], int] = {}

    def __missing__(self, word: str | bytes) -> int:
        text = word if isinstance(word, str) else word.decode()
        stems = [*map(self._stems.__getitem__, expand_word(text))]
        self._texts.append(text)
        self._frequent.append(frequent_in(text))
        self._bases.append(len(stems))
        if (spelled := spelled_term(text, stems)) is not None:
            stems.append(spelled)
        self._terms.extend(map(self._numbers.__getitem__, stems))
        self._ends.append(len(self._terms))
        self[word] = number = len(self)
        return number

    def arrays(self) -> tuple[NDArray[np.int64], ...]:
        """Return where each word's terms begin, how many it has, how many of them base, and all."""
        # Copied, because an array of which numpy has a view cannot grow.
        ends, bases, terms = map(np.array, (self._ends, self._bases, self._terms))
        first = np.concatenate([[0], ends[:-1]]).astype(np.int64)[: len(ends)]
        return first, ends - first, bases, terms

    def frequent(self) -> NDArray[np.int64]:
        """Return by word the languages in which it is frequent, one bit each."""
        return np.array(self._frequent)

    def stem_in(self, language: str, number: int) -> int:
        """Return the number of the term for a word's stem in a language; -1 for none."""
        if (language, number) not in self._stemmed:
            term = language_term(language, self._texts[number])
            self._stemmed[language, number] = -1 if term is None else self._numbers[term]
        return self._stemmed[language, number]

    def forget_many(self) -> None:
        """Forget all words when they have become too many."""
        if len(self) > _MOST_WORDS:
            for known in (self, self._stems, self._texts, self._stemmed):
                known.clear()
            for column in (self._terms, self._ends, self._bases, self._frequent):
                del column[:]


class _Stems(dict[str, str]):
    """The stem of each word in lower case."""

    def __missing__(self, word: str) -> str:
        self[word] = stem = stem_word(word)
        return stem
