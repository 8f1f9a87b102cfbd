"""Words, numbers, names and sentences, as the check of answers compares them.

Words are whole: two are the same when they differ by an English inflection alone (``retries``,
``retried``), never by their first letters. Scripts without spaces are compared by pairs of
characters.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\u0e00-\u0e7f"
_TOKEN = re.compile(
    rf"(?P<number>(?<![\w.])[-+]?\d[\d_]*(?:,\d{{3}})*(?:\.\d+)*(?![\d]))"
    rf"|(?P<cjk>[{_CJK}]+)"
    rf"|(?P<word>[^\W\d_{_CJK}]+(?:['’][^\W\d_]+)?|\d*[^\W_{_CJK}]+)"
)
_IDENTIFIER = re.compile(r"(?<![\w])(?:--?)?[A-Za-z_][\w]*(?:[._/:-]+\w+)*(?:\(\))?(?![\w])")
_SENTENCE = re.compile(r"(?<=[.!?。！？])[\"')\]]*\s+(?=[^a-z])|(?<=[。！？])")
_BLOCK = re.compile(r"^\s*(?:#{1,6}\s|[-*+•]\s|\d+[.)]\s|\||>)|^\s*$")
_LONGEST_SEGMENT = 300
"""Characters of a segment without sentence ends, such as code, above which its lines are parted."""


def _words(text: str) -> list[str]:
    return text.split()


STOP_WORDS = frozenset(
    _words(
        """
    a an the and or but if then than that this these those there here it its it's they
    them their he she his her we us our you your i me my is are was were be been being am
    do does did doing done have has had having will would shall should can could may might
    must of in on at to for from by with without as into onto over under about between
    through during out up down off so such too very just also when where what which who
    whom whose why how many much long often far old please tell explain describe say says
    said mean means happen happens there's what's not no nor yes any some each every other
    both same own more most get gets got getting give gives gave given want wants need
    needs use uses used using way ways kind sort call called name named work works working
    make makes made one let lets like document documents text passage according source
    sources question answer
    """
    )
)
NEGATIONS = frozenset(
    _words(
        """
    not no never none nor neither cannot without n't isn't aren't wasn't weren't don't
    doesn't didn't can't couldn't won't wouldn't shouldn't mustn't hasn't haven't hadn't
    nothing nobody nowhere unable
    """
    )
)
POLAR = frozenset(
    _words(
        """
    enabled disabled enable disable true false required optional allowed forbidden before
    after minimum maximum always never all none more less fewer most least increase
    decrease first last on off above below higher lower larger smaller faster slower only
    accept reject include exclude success failure valid invalid safe unsafe
    """
    )
)
"""Words that another word turns into the contrary: a source has to say the very same one."""

_NUMBER_WORDS = dict(
    zip(
        _words(
            """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
    fifteen sixteen seventeen eighteen nineteen twenty
    """
        ),
        map(str, range(21)),
        strict=True,
    )
) | {"thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "hundred": "100"}
_UNITS = {
    "s": "second", "sec": "second", "ms": "millisecond", "min": "minute", "h": "hour",
    "hr": "hour", "d": "day", "kb": "kilobyte", "kib": "kibibyte", "mb": "megabyte",
    "mib": "mebibyte", "gb": "gigabyte", "gib": "gibibyte", "tb": "terabyte", "b": "byte",
    "pct": "percent", "px": "pixel", "kg": "kilogram", "km": "kilometre", "m": "metre",
    "cm": "centimetre", "mm": "millimetre", "g": "gram", "hz": "hertz",
}  # fmt: skip
_KNOWN_UNITS = frozenset(_UNITS.values()) | frozenset(
    _words(
        """
    week month year character line token row column dollar euro degree request retry page
    """
    )
)
_MONTHS = {
    spelling: number
    for number, name in enumerate(
        _words(
            "january february march april may june july august september october november december"
        ),
        1,
    )
    for spelling in (name, name[:3])
} | {"sept": 9}
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_DATES = (
    re.compile(r"\b(?P<y>\d{4})-(?P<m>\d{1,2})-(?P<d>\d{1,2})\b"),
    re.compile(
        rf"\b(?P<d>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?(?P<m>{_MONTH})\.?,?\s+(?P<y>\d{{4}})\b",
        re.IGNORECASE,
    ),
    re.compile(
        rf"\b(?P<m>{_MONTH})\.?\s+(?P<d>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<y>\d{{4}})\b",
        re.IGNORECASE,
    ),
)


_IRREGULAR = dict(
    pair.split("=")
    for pair in _words(
        """
        kept=keep sent=send built=build written=write wrote=write ran=run taken=take took=take
        held=hold found=find chosen=choose chose=choose shown=show known=know given=give left=leave
        began=begin begun=begin broken=break broke=break led=lead lost=lose met=meet sold=sell
        spent=spend stood=stand thrown=throw threw=throw won=win children=child people=person
        """
    )
)


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a text.

    Attributes:
        base: Without its inflection, folded; a number in its plainest form.
        kind: ``word``, ``name`` (a capital within a sentence, or an identifier) or ``number``.
        unit: Of a number, the unit after it, if one is known there.
    """

    base: str
    kind: str = "word"
    unit: str = ""

    @property
    def is_hard(self) -> bool:
        """Whether a source has to hold it to the letter."""
        return self.kind != "word" or self.base in _POLAR_BASES


@dataclass(frozen=True, slots=True)
class Segment:
    """A sentence, a list item, a heading or a line of code, in a text.

    Attributes:
        start: Offset of its first character.
        end: Offset behind its last.
        text: What stands there.
    """

    start: int
    end: int
    text: str


@lru_cache(maxsize=8192)
def base_of(word: str) -> str:
    """Return a word without its English inflection, in small letters.

    >>> [base_of(w) for w in ("retries", "retried", "stopping", "cached", "Caches", "internal")]
    ['retry', 'retry', 'stop', 'cach', 'cach', 'internal']
    """
    word = unicodedata.normalize("NFKC", word).casefold().replace("’", "'")
    word = word.removesuffix("'s")
    word = _IRREGULAR.get(word, word)
    if len(word) > 4 and word.endswith(("ies", "ied")):
        return word[:-3] + "y"
    for ending in ("ing", "ed"):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) >= 3 and re.search(r"[aeiouy]", stem):
            doubled = len(stem) > 3 and stem[-1] == stem[-2] and stem[-1] not in "aeouls"
            return stem[:-1] if doubled else stem.removesuffix("e")
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-2] if word.endswith(("ches", "shes", "xes", "sses", "zes")) else word[:-1]
    return word.removesuffix("e") if len(word) > 3 else word


_POLAR_BASES = frozenset(map(base_of, POLAR))
_STOP_BASES = frozenset(map(base_of, STOP_WORDS)) - _POLAR_BASES


def words_of_claim(text: str) -> list[Word]:
    """Return the words of a text that say something, in order; parts of identifiers as words.

    >>> [(w.base, w.kind, w.unit) for w in words_of_claim("The timeout of Redis is 30 s.")]
    [('timeout', 'word', ''), ('redis', 'name', ''), ('30', 'number', 'second')]
    """
    found: list[Word] = []
    dates = {match.start(): (match.end(), day) for match, day in _find_dates(text)}
    tokens = list(_TOKEN.finditer(text))
    after_date = 0
    for place, token in enumerate(tokens):
        whole = token.group()
        if token.start() in dates:
            after_date, day = dates[token.start()]
            found.append(Word(day, "number"))
        if token.start() < after_date:
            continue
        if token["number"]:
            following = tokens[place + 1].group() if place + 1 < len(tokens) else ""
            near = tokens[place + 1].start() - token.end() < 2 if following else False
            unit = "percent" if text[token.end() : token.end() + 2].strip()[:1] == "%" else ""
            found.append(
                Word(plain_number(whole), "number", unit or (unit_of(following) if near else ""))
            )
        elif token["cjk"]:
            pairs = [whole[i : i + 2] for i in range(max(len(whole) - 1, 1))]
            found += map(Word, pairs)
        else:
            found += _plain_words(text, token)
    return found


def _plain_words(text: str, token: re.Match[str]) -> list[Word]:
    whole = token.group()
    small = whole.casefold()
    if small in _NUMBER_WORDS and small != "one":
        after = _TOKEN.search(text, token.end())
        return [Word(_NUMBER_WORDS[small], "number", unit_of(after.group()) if after else "")]
    measured = re.fullmatch(r"(\d+)([a-zA-Z]+)", whole)
    if measured and measured[2].casefold() in _UNITS:
        return [Word(plain_number(measured[1]), "number", _UNITS[measured[2].casefold()])]
    base = base_of(whole)
    if base in _STOP_BASES or (len(base) < 2 and whole.isascii()):
        return []
    before = text[: token.start()].rstrip(" \t\"'`([*_")
    begins = not before or before[-1] in ".!?:\n"
    is_name = any(c.isupper() for c in whole[1:]) or (whole[0].isupper() and not begins)
    return [Word(base, "name" if is_name or any(c.isdigit() for c in whole) else "word")]


def plain_number(written: str) -> str:
    """Return a number in one form.

    >>> plain_number("1,000"), plain_number("30.0"), plain_number("3.11.2")
    ('1000', '30', '3.11.2')
    """
    bare = written.replace(",", "").replace("_", "").lstrip("+")
    if bare.count(".") == 1 and not bare.split(".")[1].strip("0"):
        bare = bare.split(".")[0]
    return bare


def unit_of(word: str) -> str:
    """Return the unit that a word names; "" for none.

    >>> unit_of("seconds"), unit_of("MB"), unit_of("retries"), unit_of("birds")
    ('second', 'megabyte', 'retry', '')
    """
    small = word.casefold()
    if small in _UNITS:
        return _UNITS[small]
    return next((unit for unit in _KNOWN_UNITS if base_of(unit) == base_of(small)), "")


def dates_of(text: str) -> frozenset[str]:
    """Return the whole dates of a text as ``2024-01-31``.

    >>> sorted(dates_of("From 5 January 2024 to Feb 3rd, 2025; 2023-1-2."))
    ['2023-01-02', '2024-01-05', '2025-02-03']
    """
    return frozenset(day for _, day in _find_dates(text))


def _find_dates(text: str) -> list[tuple[re.Match[str], str]]:
    found: list[tuple[re.Match[str], str]] = []
    for pattern in _DATES:
        for match in pattern.finditer(text):
            month = match["m"]
            number = int(month) if month.isdigit() else _MONTHS[month.casefold()]
            found.append((match, f"{match['y']}-{number:02}-{int(match['d']):02}"))
    return found


def identifiers_of(text: str) -> frozenset[str]:
    """Return what is spelled as code spells: with underscores, dots, inner capitals, or an option.

    >>> sorted(identifiers_of("Set max_age or --no-cache in AppConfig.load, e.g. twice."))
    ['--no-cache', 'appconfig.load', 'max_age']
    """
    found: set[str] = set()
    for match in _IDENTIFIER.finditer(text):
        name = match.group().removesuffix("()")
        inner = re.search(r"_|::|[a-z][A-Z]|\w\.\w{2}", name)
        if name.startswith("--") or (inner and len(name) > 3):
            found.add(name.casefold())
    return frozenset(found)


def has_negation(text: str) -> bool:
    """Tell whether a text denies something."""
    return any(
        word in NEGATIONS or word.endswith("n't")
        for word in re.findall(r"[a-z]+(?:'t)?", text.casefold().replace("’", "'"))
    )


def segments_of(text: str) -> list[Segment]:
    r"""Part a text into sentences, list items, headings and, where there are none, lines.

    >>> [s.text for s in segments_of("# Ducks\nIt dives. It\neats fish.\n- one\n- two")]
    ['# Ducks', 'It dives.', 'It\neats fish.', '- one', '- two']
    """
    starts = {0}
    offset, previous = 0, ""
    for line in text.splitlines(keepends=True):
        if _BLOCK.match(line) or previous.startswith("#") or not previous.strip():
            starts.add(offset)
        offset, previous = offset + len(line), line
    starts.update(match.end() for match in _SENTENCE.finditer(text))
    bounds = [*sorted(starts), len(text)]
    found: list[Segment] = []
    for start, end in pairwise(bounds):
        found += _lines_of(text, start, end)
    return found


def _lines_of(text: str, start: int, end: int) -> list[Segment]:
    if end - start <= _LONGEST_SEGMENT:
        pieces = [(start, end)]
    else:
        breaks = [start, *(m.end() for m in re.finditer("\n", text[:end]) if m.end() > start), end]
        pieces = list(pairwise(breaks))
    found: list[Segment] = []
    for first, last in pieces:
        piece = text[first:last]
        if piece.strip():
            begin = first + len(piece) - len(piece.lstrip())
            found.append(Segment(begin, begin + len(piece.strip()), piece.strip()))
    return found
