r"""Find where sentences and words end, in any script.

A word is a run of letters, digits, marks and ``_``. Scripts without spaces (Chinese, Japanese, Thai
and their neighbours) may be parted between any two characters that are shown apart, and are parted
behind marks of punctuation where there are any.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

# A mark that ends a sentence, with what closes quotes behind it and the white space after; marks of
# scripts that write no space need none.
_SENTENCE = re.compile(
    r"[.!?\u2026\u061f\u06d4\u0964\u0965\u1362][\"')\]\u00bb\u2019\u201d]*\s+"
    r"|[\u3002\uff01\uff1f\uff0e\uff61][\"')\]\u300d\u300f\uff09\u201d]*\s*"
)
_ABBREVIATION = re.compile(
    r"(?<![^\W\d_])(?:[^\W\d_]|[^\W\d_]\.[^\W\d_]|mr|mrs|ms|dr|prof|st|vs|etc|no|nr|fig|figs|al|ca|cf|"
    r"inc|ltd|co|jr|sr|sec|ch|vol|pp|eq|approx|dept|est|resp|incl|max|min|bzw|usw|ggf|vgl|evtl|"
    r"abb|bd|str|mme|mlle|p\.ex|sra|srta|dott)\Z",
    re.IGNORECASE,
)
_LONGEST_ABBREVIATION = 8
# Where the letters of a script without spaces begin and end; compiled at its first use.
_SPACELESS = (
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf"
    r"\u2e80-\u312f\u3190-\ua4cf\uf900-\ufaff\uff66-\uff9f\U0001b000-\U0001b16f\U00020000-\U0003ffff]"
)
_FIRST_SPACELESS = "\u0e00"
_THAI_LEADING = "\u0e40\u0e41\u0e42\u0e43\u0e44\u0ec0\u0ec1\u0ec2\u0ec3\u0ec4"
_THAI_FOLLOWING = "\u0e30\u0e32\u0e33\u0e45\u0e46\u0eb0\u0eb2\u0eb3\u0ec6"


def last_sentence_end(text: str, start: int, stop: int) -> int:
    """Return the last place in ``(start, stop]`` where a sentence is over; -1 for none.

    >>> last_sentence_end("See e.g. Dr. Who. It is 3.5 m long", 0, 34)
    18
    """
    found = -1
    for mark in _SENTENCE.finditer(text, start, min(len(text), stop + 1)):
        end = min(mark.end(), stop)
        if end > start and end > mark.start() and _ends_sentence(text, mark):
            found = end
    return found


def first_sentence_start(text: str, start: int, stop: int) -> int:
    """Return the first place in ``[start, stop)`` where a sentence begins; -1 for none."""
    for mark in _SENTENCE.finditer(text, max(start - 2, 0), stop):
        if start <= mark.end() < stop and _ends_sentence(text, mark):
            return mark.end()
    return -1


def _ends_sentence(text: str, mark: re.Match[str]) -> bool:
    if mark[0][0] != ".":
        return True
    after = text[mark.end() : mark.end() + 1]
    if after.islower():
        return False
    before = text[max(mark.start() - _LONGEST_ABBREVIATION, 0) : mark.start()]
    return not _ABBREVIATION.search(before)


@lru_cache(4096)
def _is_letter(character: str) -> bool:
    return character == "_" or character.isalnum() or unicodedata.category(character)[0] == "M"


def parts_word(text: str, at: int) -> bool:
    """Tell whether a break would fall inside a word.

    >>> parts_word("merganser", 3), parts_word("dive, dive", 5), parts_word("猫が眠る", 2)
    (True, False, False)
    """
    if not 0 < at < len(text):
        return False
    before, after = text[at - 1], text[at]
    if not _is_letter(before) or not _is_letter(after):
        return False
    if max(before, after) < _FIRST_SPACELESS:
        return True
    if re.match(_SPACELESS, before) or re.match(_SPACELESS, after):
        return before in _THAI_LEADING or after in _THAI_FOLLOWING
    return True


def last_word_end(text: str, start: int, stop: int) -> int:
    """Return the best place in ``(start, stop]`` to end between words; -1 where one word fills it.

    White space in the second half comes first, then a mark of punctuation, then white space
    anywhere, then any other place that parts no word.
    """
    half = start + (stop - start) // 2
    if text[stop : stop + 1].isspace():
        return stop
    space = _last_space(text, half, stop)
    if space > 0:
        return space
    for at in range(stop, half, -1):
        if not _is_letter(text[at - 1]) and text[at - 1].isprintable():
            return at
    space = _last_space(text, start, half)
    between = next((at for at in range(stop, start, -1) if not parts_word(text, at)), -1)
    return between if between > half else max(space, between)


def _last_space(text: str, start: int, stop: int) -> int:
    return next((at for at in range(stop, start, -1) if text[at - 1].isspace()), -1)
