"""The tokeniser of the lexical index: what a word is, for texts and for queries alike.

A text's terms are its words in lower case. A compound identifier gives itself and its parts, so
that ``getUserName`` is found by ``getusername`` and by ``user name``. No stop word and no short
word is dropped: "Go", "C" and "is" are terms like any other, and BM25's idf weighs them. Terms of
ASCII letters alone are stemmed (see ``stemming``), in texts and queries alike, so an identifier is
found by itself whatever its stem. Scripts that put no spaces between words (Han, kana) give
overlapping pairs of characters, as Lucene's CJKAnalyzer does.

How terms are stored is ``store``'s business, how they are scored is ``retrieve``'s. Texts and
queries must agree on the tokeniser, so a snapshot stores ``TOKENISER_VERSION``.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from merganser.store.stemming import stem_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

TOKENISER_VERSION = 2
"""Raised by every change that gives any text other terms; postings of two versions never mix."""

MAX_TERM_CHARACTERS = 128
"""Longer words are cut here and not split: they are base64, hashes and tables, not language."""

# Combining marks belong to the letter before them, but ``\w`` leaves them out and would cut Hindi
# or Thai words at every vowel sign. Blocks, not single characters: a class of ranges stays fast.
_MARKS = (
    "\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u0610-\u061a\u064b-\u065f\u0670"
    "\u0900-\u0963\u0966-\u0dff\u0e31-\u0e4e\u0eb1-\u0ecd\u0f71-\u0f84\u102b-\u103e\u17b4-\u17d3"
)
_WORD = re.compile(rf"[\w{_MARKS}]+")
# The same for ASCII: what is no letter, digit or underscore becomes a space. A table and a split
# take a third of the time of the expression, and nearly all code is ASCII.
_ASCII_SEPARATORS = str.maketrans(
    {chr(i): " " for i in range(128) if not (chr(i).isalnum() or chr(i) == "_")}
)
_SPACELESS = re.compile(
    "[\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff]+"
)
# Boundaries inside a compound: an acronym before a capitalised word, a capital after small
# letters or digits, and underscores. The general pattern works on the word's shape (``_shape``).
_PART = re.compile(r"A+(?=Aa)|A?a+|A+")
_ASCII_PART = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z0-9]+|[A-Z]+")


@dataclass(frozen=True, slots=True, eq=False)
class TermCounts:
    """The term frequencies of many texts, as parallel arrays sorted by term, then by row.

    Attributes:
        chunk_row: (n_postings,) int32, index into the texts that were given.
        term_id: (n_postings,) int32, index into ``vocabulary``.
        tf: (n_postings,) uint8, occurrences of the term in the text, at least 1; 255 stands for
            255 and more, where BM25 has long saturated.
        vocabulary: The distinct terms in ascending order of code points.
        doc_len: (n_texts,) int32, number of terms of each text with repetitions, 0 for none.
    """

    chunk_row: NDArray[np.int32]
    term_id: NDArray[np.int32]
    tf: NDArray[np.uint8]
    vocabulary: list[str]
    doc_len: NDArray[np.int32]


class _WordIds(dict[str, int]):
    """Number words in the order in which they are first looked up."""

    def __missing__(self, word: str) -> int:
        number = len(self)
        self[word] = number
        return number


def count_terms(texts: Sequence[str]) -> TermCounts:
    """Count the terms of each text.

    The work per character is in C (a table or a regular expression, one dict lookup a word); only
    distinct words are looked at in Python.

    Args:
        texts: Any number of texts, empty ones allowed.

    Returns:
        The counts; the same texts give the same arrays.
    """
    ids = _WordIds()
    lookup = ids.__getitem__
    stream: list[int] = []
    lengths = np.zeros(len(texts), dtype=np.int64)
    for row, text in enumerate(texts):
        before = len(stream)
        stream.extend(map(lookup, _find_words(text)))
        lengths[row] = len(stream) - before

    word_of_stream = np.array(stream, dtype=np.int64)
    row_of_stream = np.repeat(np.arange(len(texts), dtype=np.int64), lengths)
    pairs, counts = _count_equal(row_of_stream * max(len(ids), 1) + word_of_stream)
    pair_rows, pair_words = np.divmod(pairs, max(len(ids), 1))

    vocabulary, flat, offsets = _expand_words(list(ids))
    sizes = np.diff(offsets)[pair_words]
    posting_terms = flat[_ranges(offsets[pair_words], sizes)]
    posting_rows = np.repeat(pair_rows, sizes)
    frequencies = np.repeat(counts, sizes)
    doc_len = np.bincount(posting_rows, weights=frequencies, minlength=len(texts))

    # Key and frequency sorted as one number: numpy does that ten times faster than by an order.
    keys = posting_terms * max(len(texts), 1) + posting_rows
    packed = np.sort((keys << 8) | np.minimum(frequencies, 255))
    keys, frequencies = packed >> 8, packed & 255
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    totals = np.add.reduceat(frequencies, starts) if len(starts) else frequencies
    terms, rows = np.divmod(keys[starts], max(len(texts), 1))
    return TermCounts(
        chunk_row=rows.astype(np.int32),
        term_id=terms.astype(np.int32),
        tf=np.minimum(totals, 255).astype(np.uint8),
        vocabulary=vocabulary,
        doc_len=doc_len.astype(np.int32),
    )


def query_terms(text: str) -> list[str]:
    """Give a query's distinct terms in the order of their first appearance.

    Args:
        text: Whatever a user or a model asked, of any length.

    Returns:
        Possibly none, for a text without letters and digits.
    """
    parts = [part for word in _find_words(text) for part in expand_word(word)]
    stems = stem_words(parts)
    return list(dict.fromkeys(stems[part] for part in parts))


def expand_word(word: str) -> list[str]:
    """Give one word's terms before stemming: the whole and its parts, repeated, in lower case.

    Args:
        word: A run of letters, digits and underscores.

    Returns:
        None for a run of underscores, one for a simple word, otherwise the compound first.
    """
    if not word.isascii() and _SPACELESS.search(word):
        return _expand_spaceless(word)
    whole = word.lower()
    if len(word) > MAX_TERM_CHARACTERS:
        return [whole[:MAX_TERM_CHARACTERS]]
    if whole == word and "_" not in word:
        return [whole]
    if word.isascii():
        parts = [part.lower() for part in _ASCII_PART.findall(word)]
    else:
        parts = [word[m.start() : m.end()].lower() for m in _PART.finditer(_shape(word))]
    if not parts:
        return []
    return parts if parts == [whole] else [whole, *parts]


def _shape(word: str) -> str:
    """Map capitals to ``A``, underscores to themselves and all else to ``a``, one for one."""
    return "".join("A" if c.isupper() else c if c == "_" else "a" for c in word)


def _expand_spaceless(word: str) -> list[str]:
    """Expand a word that holds Han or kana: pairs for such a run, the usual for the rest."""
    terms: list[str] = []
    end = 0
    for run in _SPACELESS.finditer(word):
        if run.start() > end:
            terms += expand_word(word[end : run.start()])
        characters = run.group()
        terms += [characters] if len(characters) == 1 else [a + b for a, b in pairwise(characters)]
        end = run.end()
    return terms + expand_word(word[end:]) if end < len(word) else terms


def _find_words(text: str) -> list[str]:
    if text.isascii():
        return text.translate(_ASCII_SEPARATORS).split()
    # NFKC joins letters with their accents and full-width forms with plain ones.
    return _WORD.findall(unicodedata.normalize("NFKC", text))


def _expand_words(words: Sequence[str]) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
    """Give the sorted vocabulary and each word's term numbers as one array with offsets."""
    expansions = [expand_word(word) for word in words]
    stems = stem_words(list({part for parts in expansions for part in parts}))
    vocabulary = sorted(set(stems.values()))
    number = {term: i for i, term in enumerate(vocabulary)}
    number_of = {part: number[stem] for part, stem in stems.items()}
    flat = np.array([number_of[part] for parts in expansions for part in parts], dtype=np.int64)
    offsets = np.zeros(len(words) + 1, dtype=np.int64)
    np.cumsum([len(terms) for terms in expansions], out=offsets[1:])
    return vocabulary, flat, offsets


def _count_equal(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the distinct keys in ascending order and how often each occurs."""
    ordered = np.sort(keys)
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    return ordered[starts], np.diff(starts, append=len(ordered))


def _ranges(starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Concatenate ``arange(start, start + size)`` of every pair."""
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total, dtype=np.int64) + np.repeat(starts - (ends - sizes), sizes)
