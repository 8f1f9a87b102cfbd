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

A word of a text in another language than English gives its stem in that language too, as
``haus:german``, so that it is found by its other forms there and nowhere else; ``SPELLED`` and the
language's name say that a text is in it. A chunk's length does not count these either.

Scripts that put no spaces between words (Han, kana, Thai, ...), and Hangul, whose nouns carry
particles, give overlapping pairs of characters, as Lucene's CJKAnalyzer does, and in texts each
character of Han, kana and Hangul too.

How terms are counted is ``term_counts``' business, how they are stored ``segments``', how they are
scored ``retrieval``'s. Texts and queries must agree on the tokeniser, so a snapshot stores
``TOKENISER_VERSION``.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from merganser.store.stems import stem_in, stem_word

if TYPE_CHECKING:
    from collections.abc import Sequence

TOKENISER_VERSION = 4
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


def language_term(language: str, word: str) -> str | None:
    """Return the term for a word's stem in a language; None for names and numbers.

    Args:
        language: One of ``stems.OTHER_LANGUAGES``.
        word: As it is written.

    >>> language_term("german", "Häuser"), language_term("german", "user_name")
    ('haus:german', None)
    """
    if not _LEAST_STEMMED <= len(word) <= MAX_TERM_CHARACTERS or _SPACELESS.search(word):
        return None
    if not _LEFT_OUT.sub("", word).isalpha() or not (word[1:].islower() or word.isupper()):
        return None
    return f"{_fold(stem_in(language, word.lower())).lower()}:{language}"


_LEAST_STEMMED = 3


class QueryTerm(NamedTuple):
    """A term to look for.

    Attributes:
        base: The base term.
        spelling: As the query writes it; empty for the part of a word.
        word: The word whose base term it is; empty for the part of a word.
        repeats: How often the query has it.
        of: The base terms of two neighbouring words, where this is both written as one.
    """

    base: str
    spelling: str
    repeats: int = 1
    of: tuple[str, ...] = ()
    word: str = ""


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
    words = [word if isinstance(word, str) else word.decode() for word in find_words(text)]
    counts: Counter[str] = Counter()
    spellings: dict[str, str] = {}
    joined: dict[str, tuple[str, ...]] = {}
    whole: dict[str, str] = {}
    for word in words:
        bases = [*map(stem_word, expand_word(word, is_query=True))]
        counts.update(dict.fromkeys(bases, 1))
        if len(word) >= _LEAST_SPELLED and bases and not _SPACELESS.search(word):
            spellings.setdefault(bases[0], word)
        if len(bases) == 1:
            whole.setdefault(bases[0], word)
    for one, other in pairwise(words):
        if len(one) + len(other) <= _MOST_JOINED and one.isalpha() and other.isalpha():
            pair = tuple(stem_word(_fold(word).lower()) for word in (one, other))
            joined.setdefault(stem_word(_fold(one + other).lower()), pair)
    return [
        *(
            QueryTerm(base, spellings.get(base, ""), count, word=whole.get(base, ""))
            for base, count in counts.items()
        ),
        *(QueryTerm(base, "", of=pair) for base, pair in joined.items() if base not in counts),
    ]


def query_terms(text: str) -> list[str]:
    """Return the distinct base terms of a query's words in the order of their first appearance.

    Args:
        text: Whatever a user or a model asked, of any length.

    Returns:
        Possibly none, for a text without letters and digits.
    """
    words = (word if isinstance(word, str) else word.decode() for word in find_words(text))
    parts = [part for word in words for part in expand_word(word, is_query=True)]
    return list(dict.fromkeys(map(stem_word, parts)))


# Of shorter words every other one begins a sentence, and they stand everywhere.
_LEAST_SPELLED = 4


def spelled_term(word: str, stems: Sequence[str] | None = None) -> str | None:
    """Return the term that says how a word is spelled; None where its base term says it.

    Args:
        word: A run of letters, digits and underscores.
        stems: Its base terms, where they are known.

    >>> spelled_term("retries"), spelled_term("user_name"), spelled_term("fox")
    ('retri retries', 'usernam user_name', None)
    """
    if not _LEAST_SPELLED <= len(word) <= MAX_TERM_CHARACTERS:
        return None
    if not word.isascii() and _SPACELESS.search(word):
        return None
    if stems is None:
        stems = [*map(stem_word, expand_word(word))]
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


def find_words(text: str) -> list[str] | list[bytes]:
    """Return the words in order; those of a plain text as ASCII bytes, which are found faster."""
    if text.isascii():
        return text.encode().translate(_ASCII_WORDS).split()
    # NFKC joins letters with their accents and full-width forms with plain ones.
    return _WORD.findall(unicodedata.normalize("NFKC", text))
