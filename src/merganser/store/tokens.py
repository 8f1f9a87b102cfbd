"""The tokeniser of the lexical index: what a word is, for texts and for queries alike.

A word gives a *base* term: folded (small letters, without accents and other marks that may be left
out) and, where it is ASCII letters alone, stemmed. A compound identifier gives itself without its
underscores, its parts, and its neighbouring parts joined: ``GitHubClient`` is found by ``github``,
``user_name`` by ``username`` and ``getUserName`` by ``user name``. Letters are parted from digits,
so that ``sha256sum`` is found by ``sha256``. No stop word and no short word is dropped: "Go", "C"
and "is" are terms like any other, and BM25's idf weighs them.

A word that is not spelled like its base term gives a second one, ``base spelling``, such as
``retri retries``. Scoring prefers the spelling of the query by it
(``merganser.retrieval.lexical``). A chunk's length does not count it.

Scripts that put no spaces between words (Han, kana, Thai, ...), and Hangul, whose nouns carry
particles, give overlapping pairs of characters, as Lucene's CJKAnalyzer does, and in texts each
character of Han, kana and Hangul too.

How terms are stored is ``store``'s business, how they are scored is ``retrieval``'s. Texts and
queries must agree on the tokeniser, so a snapshot stores ``TOKENISER_VERSION``.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from array import array
from collections import Counter, defaultdict
from dataclasses import dataclass
from importlib import import_module
from itertools import chain, count, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

TOKENISER_VERSION = 3
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
_BY_CHARACTER = (
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff\uac00-\ud7a3"
)
_BY_PAIR = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
_SPACELESS = re.compile(f"[{_BY_CHARACTER}]+|[{_BY_PAIR}]+")
_IS_BY_CHARACTER = re.compile(f"[{_BY_CHARACTER}]")
# Boundaries inside a compound: an acronym before a capitalised word, a capital after small
# letters or digits, and underscores. The general pattern works on the word's shape (``_shape``).
_PART = re.compile(r"A+(?=Aa)|A?a+|A+")
_ASCII_PART = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z0-9]+|[A-Z]+")
_RUN = re.compile(r"[0-9]+|[^0-9]+")
# Hashes and numbers in hexadecimal are nothing that anybody looks for by their pieces.
_MOST_RUNS = 4
_MOST_PARTS = 16
# Marks over, under and beside letters that a writer may leave out: accents of Latin, Greek and
# Cyrillic, points of Hebrew, vowel signs of Arabic and its lengthening stroke.
_LEFT_OUT = re.compile(
    "[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640"
    "\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed]"
)
# Letters that Unicode does not take apart, as they are written where they are not on the keyboard.
_LIKE: dict[int, str] = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"}
)

SPELLED = " "
"""Between a base term and a spelling; no word holds it."""


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
        found = [*map(_find_words, texts)]
        row = np.repeat(np.arange(len(texts)), [*map(len, found)])
        stream = map(self._words.__getitem__, chain.from_iterable(found))
        word, row, times = _count_pairs(np.fromiter(stream, np.int64, len(row)), row, len(texts))

        first, expanded, bases, terms = self._words.arrays()
        doc_len = np.bincount(row, times * bases[word], minlength=len(texts))
        widths = expanded[word]
        # Positions in ``terms``: of each word its own, one after the other.
        where = np.repeat(first[word] - np.cumsum(widths) + widths, widths)
        where += np.arange(len(where))
        term, row, tf = _count_pairs(
            terms[where], np.repeat(row, widths), len(texts), np.repeat(times, widths)
        )
        row += at
        return row, term, np.minimum(tf, 255).astype(np.uint8), doc_len.astype(np.int32)


_TEXTS_AT_ONCE = 500


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

    def __missing__(self, word: str | bytes) -> int:
        text = word if isinstance(word, str) else word.decode()
        stems = [*map(self._stems.__getitem__, expand_word(text))]
        self._bases.append(len(stems))
        if (spelled := _spelled_term(text, stems)) is not None:
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

    def forget_many(self) -> None:
        """Forget all words when they have become too many."""
        if len(self) > _MOST_WORDS:
            self.clear()
            self._stems.clear()
            self._terms, self._ends, self._bases = array("q"), array("q"), array("q")


class _Stems(dict[str, str]):
    """The stem of each word in lower case."""

    def __missing__(self, word: str) -> str:
        self[word] = stem = stem_word(word)
        return stem


class QueryTerm(NamedTuple):
    """A term to look for.

    Attributes:
        base: The base term.
        spelling: As the query writes it; empty for the part of a word.
        repeats: How often the query has it.
        of: The base terms of two neighbouring words, where this is both written as one.
    """

    base: str
    spelling: str
    repeats: int = 1
    of: tuple[str, ...] = ()


_MOST_JOINED = 30
"""Characters of two words of a query that may be one word in a text."""


def parse_query(text: str) -> list[QueryTerm]:
    """Return a query's distinct terms, in the order of their first appearance.

    Neighbouring words are looked for as one word too: ``user name`` finds ``username``. ``of``
    names the two, so that it can be given their weight: its own would be that of a rare word.

    Args:
        text: Whatever a user or a model asked, of any length.

    Returns:
        Possibly none, for a text without letters and digits.

    >>> [(term.base, term.spelling) for term in parse_query("Retries of runs")]
    [('retri', 'Retries'), ('of', ''), ('run', 'runs'), ('retriesof', ''), ('ofrun', '')]
    """
    words = [word if isinstance(word, str) else word.decode() for word in _find_words(text)]
    counts: Counter[str] = Counter()
    spellings: dict[str, str] = {}
    joined: dict[str, tuple[str, ...]] = {}
    for word in words:
        bases = [*map(stem_word, expand_word(word, is_query=True))]
        counts.update(dict.fromkeys(bases, 1))
        if len(word) >= _LEAST_SPELLED and bases and not _SPACELESS.search(word):
            spellings.setdefault(bases[0], word)
    for one, other in pairwise(words):
        if len(one) + len(other) <= _MOST_JOINED and one.isalpha() and other.isalpha():
            pair = tuple(stem_word(_fold(word).lower()) for word in (one, other))
            joined.setdefault(stem_word(_fold(one + other).lower()), pair)
    return [
        *(QueryTerm(base, spellings.get(base, ""), count) for base, count in counts.items()),
        *(QueryTerm(base, "", of=pair) for base, pair in joined.items() if base not in counts),
    ]


def query_terms(text: str) -> list[str]:
    """Return the distinct base terms of a query's words in the order of their first appearance.

    Args:
        text: Whatever a user or a model asked, of any length.

    Returns:
        Possibly none, for a text without letters and digits.
    """
    words = (word if isinstance(word, str) else word.decode() for word in _find_words(text))
    parts = [part for word in words for part in expand_word(word, is_query=True)]
    return list(dict.fromkeys(map(stem_word, parts)))


# Of shorter words every other one begins a sentence, and they stand everywhere.
_LEAST_SPELLED = 4


def spelled_term(word: str) -> str | None:
    """Return the term that says how a word is spelled; None where its base term says it.

    >>> spelled_term("retries"), spelled_term("user_name"), spelled_term("fox")
    ('retri retries', 'usernam user_name', None)
    """
    return _spelled_term(word, [*map(stem_word, expand_word(word)[:1])])


def _spelled_term(word: str, stems: Sequence[str]) -> str | None:
    """Do so for a word whose base terms are known."""
    if not _LEAST_SPELLED <= len(word) <= MAX_TERM_CHARACTERS:
        return None
    if not word.isascii() and _SPACELESS.search(word):
        return None
    base = stems[0] if stems else word
    return None if base == word else f"{base}{SPELLED}{word}"


def expand_word(word: str, *, is_query: bool = False) -> list[str]:
    """Return one word's terms before stemming: the whole and its parts, repeated, in lower case.

    Args:
        word: A run of letters, digits and underscores.
        is_query: Whether it is a query's, which asks for pairs alone where a script has no spaces.

    Returns:
        None for a run of underscores, one for a simple word, otherwise the compound first.
    """
    if not word.isascii():
        if _SPACELESS.search(word):
            return _expand_spaceless(word, is_query=is_query)
        word = _fold(word)
    whole = word.lower()
    if len(word) > MAX_TERM_CHARACTERS:
        return [whole[:MAX_TERM_CHARACTERS]]
    if whole == word and word.isalpha():
        return [whole]
    if word.isascii():
        parts = [part.lower() for part in _ASCII_PART.findall(word)]
    else:
        parts = [word[m.start() : m.end()].lower() for m in _PART.finditer(_shape(word))]
    whole = "".join(parts)
    terms = [whole] if whole else []
    if len(parts) > 1:
        terms += parts
        if 2 < len(parts) <= _MOST_PARTS:
            terms += map("".join, pairwise(parts))
    if whole.isalpha():
        return terms
    for part in parts:
        if not part.isalpha() and 1 < len(runs := _RUN.findall(part)) <= _MOST_RUNS:
            terms += runs
            if len(runs) > 2:
                terms += map("".join, pairwise(runs))
    return terms


def _fold(word: str) -> str:
    """Take off the marks that a writer may leave out, and keep capitals."""
    if word.isascii():
        return word
    bare = _LEFT_OUT.sub("", unicodedata.normalize("NFKD", word))
    folded = unicodedata.normalize("NFC", bare)
    return "".join(_fold_letter(letter) for letter in folded)


def _fold_letter(letter: str) -> str:
    small = letter.lower()
    plain = small.translate(_LIKE)
    if plain == small:
        return letter
    return plain if letter == small else plain.upper()


def _shape(word: str) -> str:
    """Map capitals to ``A``, underscores to themselves and all else to ``a``, one for one."""
    return "".join("A" if c.isupper() else c if c == "_" else "a" for c in word)


def _expand_spaceless(word: str, *, is_query: bool) -> list[str]:
    """Expand a word with characters of a script without spaces; the rest of it as usual."""
    terms: list[str] = []
    end = 0
    for run in _SPACELESS.finditer(word):
        if run.start() > end:
            terms += expand_word(word[end : run.start()], is_query=is_query)
        characters = run.group()
        if len(characters) == 1:
            terms.append(characters)
        else:
            terms += map("".join, pairwise(characters))
            if not is_query and _IS_BY_CHARACTER.match(characters):
                terms += characters
        end = run.end()
    return terms + expand_word(word[end:], is_query=is_query) if end < len(word) else terms


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
