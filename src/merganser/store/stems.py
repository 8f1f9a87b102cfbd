"""Stems of words, by the language of the text that holds them.

Each word has the stem of Snowball's English stemmer. Words of a text in another language have the
stem of that language too. Which language it is, is seen from the words that every sentence needs.
"""

from __future__ import annotations

import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_FREQUENT = {
    "english": "the of and to is that for it with as on be are this you not from can by or if",
    "danish": "og det er som på ikke en med af til den et kan har eller hvis du fra skal",
    "dutch": "de het een van en niet voor dat met zijn op aan ook als worden deze je naar bij",
    "finnish": "ja ei se että ovat joka tai kun myös jos niin ole mutta sen voit kuin tämä voi",
    "french": "le la les des et est une un dans pour que qui avec sur pas vous ce sont par ou du",
    "german": "der die das und ist nicht ein eine mit für auf den dem von zu wird werden oder sie",
    "hungarian": "az és hogy nem egy ez meg csak vagy ha lehet mint ezt amely van már még kell",
    "italian": "il gli della che per con una sono del nel è non anche di come questo alla più le",
    "norwegian": "og det er som på ikke en med av til den et kan har eller hvis du fra skal",
    "polish": "na nie się jest że dla jak lub może oraz jeśli są przez po który aby tylko także",
    "portuguese": "que para com uma não os em um por mais como você são ao dos se é na ou pode",
    "romanian": "și de la în cu pe nu este care din sunt pentru mai să un ca sau dacă poate",
    "russian": "и в не на что с по для как это или из от к если вы так можно при но",
    "spanish": "el los las una que para con por del es se como más pero esta este puede su si al",
    "swedish": "och det som är för på inte en med av till den kan ett om har eller från att vid",
    "turkish": "ve bir bu için ile da olarak değil çok gibi daha olan veya eğer sonra var kadar",
}
ENGLISH, *OTHER_LANGUAGES = _FREQUENT
"""Languages by Snowball's names; a language's bit is its place among all of them."""

_BITS: dict[str, int] = {}
for _place, _words in enumerate(_FREQUENT.values()):
    for _word in _words.split():
        _BITS[_word] = _BITS.get(_word, 0) | 1 << _place


def frequent_in(word: str) -> int:
    """Return the languages in which a word is one of the most frequent, one bit each.

    >>> frequent_in("the"), frequent_in("tokeniser")
    (1, 0)
    """
    return _BITS.get(word.lower(), 0)


class _ThreadStemmers(threading.local):
    """Snowball's stemmers in C, half a microsecond a word.

    One of each a thread, because a stemmer must not be shared; made at a thread's first word. Code
    and its documentation are written in English mostly; words of other languages lose an ending at
    times, the same in texts and queries, so they are still found by themselves. nDCG@10 of BM25
    without and with stems: CoSQA dev 0.373 -> 0.396, Cranfield 0.337 -> 0.362; plural endings alone
    gave a fifth of that.
    """

    def __init__(self) -> None:
        self._of: dict[str, Callable[[str], str]] = {}
        self.stem = self.of(ENGLISH)

    def of(self, language: str) -> Callable[[str], str]:
        """Return what stems the words of a language."""
        if language not in self._of:
            # Only distinct words are asked for, so a cache would cost more than it saves.
            library: Any = import_module("Stemmer")  # an extension in C, without types
            self._of[language] = library.Stemmer(language, maxCacheSize=0).stemWord
        return self._of[language]


_LOCAL = _ThreadStemmers()


def stem_word(word: str) -> str:
    """Return a word's English stem; a word with other characters than ASCII letters is its own.

    Args:
        word: In lower case.
    """
    return _LOCAL.stem(word) if word.isascii() and word.isalpha() else word


def stem_in(language: str, word: str) -> str:
    """Return a word's stem in a language.

    Args:
        language: One of Snowball's names.
        word: In lower case, with its accents.

    >>> stem_in("german", "häuser"), stem_in("russian", "функциями")
    ('haus', 'функц')
    """
    return _LOCAL.of(language)(word)
