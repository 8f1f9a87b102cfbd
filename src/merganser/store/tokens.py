"""The tokeniser of the lexical index: what a word is, for texts and for queries alike.

A text's terms are its words in lower case. A compound identifier gives itself and its parts, so
that ``getUserName`` is found by ``getusername`` and by ``user name``. No stop word and no short
word is dropped: "Go", "C" and "is" are terms like any other, and BM25's idf weighs them. Terms of
ASCII letters alone are stemmed, in texts and queries alike, so an identifier is found by itself
whatever its stem. Scripts that put no spaces between words (Han, kana) give
overlapping pairs of characters, as Lucene's CJKAnalyzer does.

How terms are stored is ``store``'s business, how they are scored is ``retrieve``'s. Texts and
queries must agree on the tokeniser, so a snapshot stores ``TOKENISER_VERSION``.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from dataclasses import dataclass
from importlib import import_module
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
# The same for ASCII: what is no letter, digit or underscore becomes a space. A table and a split of
# bytes take a fifth of the time of the expression, and nearly all code is ASCII.
_ASCII_WORDS = bytes(
    i if i < 128 and (chr(i).isalnum() or chr(i) == "_") else ord(" ") for i in range(256)
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
    """The term frequencies of many texts, as parallel arrays, sorted by term, then by row.

    Attributes:
        chunk_row: (n_postings,) int64, index into the texts that were given.
        term_id: (n_postings,) int64, as the counter's ``TermNumbers`` have it.
        tf: (n_postings,) uint8, occurrences of the term in the text, at least 1; 255 stands for
            255 and more, where BM25 has long saturated.
        doc_len: (n_texts,) int32, number of terms of each text with repetitions, 0 for none.
    """

    chunk_row: NDArray[np.int64]
    term_id: NDArray[np.int64]
    tf: NDArray[np.uint8]
    doc_len: NDArray[np.int32]


class TermNumbers(dict[str, int]):
    """Number terms in the order in which they are first looked up."""

    def __missing__(self, term: str) -> int:
        number = len(self)
        self[term] = number
        return number


class TermCounter:
    """Count the terms of texts, batch by batch, under numbers that hold for all of them.

    The work per character is in C (a table or a regular expression, one dict lookup a word); a word
    is looked at in Python when it is met for the first time.

    Args:
        numbers: Gets the terms; who counts on may give the ones of before.
    """

    def __init__(self, numbers: TermNumbers) -> None:
        self._numbers = numbers
        self._terms_of = _TermsOfWords(numbers)

    def count(self, texts: Sequence[str]) -> TermCounts:
        """Count the terms of each text.

        Args:
            texts: Any number of texts, empty ones allowed.
        """
        self._terms_of.forget_many()
        terms_of = self._terms_of.__getitem__
        stream: list[int] = []
        ends = np.empty(len(texts), dtype=np.int64)
        for row, text in enumerate(texts):
            stream.extend(chain.from_iterable(map(terms_of, _find_words(text))))
            ends[row] = len(stream)
        doc_len = np.diff(ends, prepend=0)

        # Term and row sorted as one number, which is the fastest sort there is; 32 bits do for
        # most batches and halve it.
        rows, total = max(len(texts), 1), len(self._numbers)
        keys = np.array(stream, dtype=np.min_scalar_type(rows * max(total, 1)))
        keys *= keys.dtype.type(rows)
        keys += np.repeat(np.arange(len(texts), dtype=keys.dtype), doc_len)
        keys.sort()
        starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])[: len(keys)])
        frequencies = np.diff(starts, append=len(keys))
        terms, row_of = np.divmod(keys[starts], keys.dtype.type(rows))
        return TermCounts(
            chunk_row=row_of.astype(np.int64),
            term_id=terms.astype(np.int64),
            tf=np.minimum(frequencies, 255).astype(np.uint8),
            doc_len=doc_len.astype(np.int32),
        )


_MOST_WORDS = 200_000
"""Words that are remembered with their terms, some 50 MB; a larger vocabulary is rare words."""


class _TermsOfWords(dict[str | bytes, tuple[int, ...]]):
    """The numbers of each word's terms, found out at the word's first look-up."""

    def __init__(self, numbers: TermNumbers) -> None:
        super().__init__()
        self._numbers = numbers
        self._number_of_part: dict[str, int] = {}

    def __missing__(self, word: str | bytes) -> tuple[int, ...]:
        text = word if isinstance(word, str) else word.decode()
        self[word] = terms = tuple(map(self._number, expand_word(text)))
        return terms

    def forget_many(self) -> None:
        """Forget all words when they have become too many."""
        if len(self) > _MOST_WORDS:
            self.clear()
            self._number_of_part.clear()

    def _number(self, part: str) -> int:
        number = self._number_of_part.get(part)
        if number is None:
            number = self._number_of_part[part] = self._numbers[stem_word(part)]
        return number


def query_terms(text: str) -> list[str]:
    """Return a query's distinct terms in the order of their first appearance.

    Args:
        text: Whatever a user or a model asked, of any length.

    Returns:
        Possibly none, for a text without letters and digits.
    """
    words = (word if isinstance(word, str) else word.decode() for word in _find_words(text))
    parts = [part for word in words for part in expand_word(word)]
    return list(dict.fromkeys(map(stem_word, parts)))


def expand_word(word: str) -> list[str]:
    """Return one word's terms before stemming: the whole and its parts, repeated, in lower case.

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


def _find_words(text: str) -> list[str] | list[bytes]:
    """Return the words in order; those of a plain text as ASCII bytes, which are found faster."""
    if text.isascii():
        return text.encode().translate(_ASCII_WORDS).split()
    # NFKC joins letters with their accents and full-width forms with plain ones.
    return _WORD.findall(unicodedata.normalize("NFKC", text))


class _ThreadStemmer(threading.local):
    """Snowball's English stemmer (Porter2) in C, half a microsecond a word.

    One a thread, because a stemmer must not be shared; made at a thread's first word. Code and its
    documentation are written in English mostly; words of other languages lose an ending at times,
    the same in texts and queries, so they are still found by themselves. nDCG@10 of BM25 without
    and with stems: CoSQA dev 0.373 -> 0.396, Cranfield 0.337 -> 0.362; plural endings alone gave a
    fifth of that.
    """

    def __init__(self) -> None:
        # Only distinct words are asked for, so a cache would cost more than it saves.
        library: Any = import_module("Stemmer")  # an extension in C, without types
        stemmer = library.Stemmer("english", maxCacheSize=0)
        self.stem: Callable[[str], str] = stemmer.stemWord


_LOCAL = _ThreadStemmer()


def stem_word(word: str) -> str:
    """Return a word's stem; a word with other characters than ASCII letters is its own.

    Args:
        word: In lower case.
    """
    return _LOCAL.stem(word) if word.isascii() and word.isalpha() else word
