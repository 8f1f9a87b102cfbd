"""Chunk running text at the best breaks that a limit allows.

Owns where a chunk may end inside a stretch of text that no syntax tree or heading divides further.
``merganser.chunking.code`` and ``merganser.chunking.sections`` find the structure above it and call
``chunk_span`` for what is still too long; ``merganser.chunking.chunks`` turns pieces into chunks.

The law of all chunkers: the pieces tile the text, so joining them gives every character back.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import NamedTuple

from merganser.chunking.boundaries import last_sentence_end, last_word_end, parts_word

# How far a safe break may walk back; a longer run of combining marks is not text that anyone reads.
_MAX_CLUSTER = 32
_ZERO_WIDTH_JOINER = "\u200d"
# The first combining mark of Unicode: everything below needs no look-up.
_FIRST_COMBINING = "\u0300"


class Piece(NamedTuple):
    """A half-open span of the text that becomes one chunk.

    Attributes:
        start: First character.
        end: One past the last character.
        symbol: Dotted path of the definition, heading path, or empty.
        kind: ``function``, ``class``, ``method``, ``module``, ``section`` or ``text``.
        continues: Whether it goes on with what the piece before it began, so that an overlap helps.
    """

    start: int
    end: int
    symbol: str = ""
    kind: str = "text"
    continues: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """How long pieces may be and where they may break.

    Attributes:
        whole: Characters of a piece that stands for itself.
        part: Characters of a piece that continues another one and gets an overlap in front.
        structure: Whether breaks at blank lines and line ends are preferred.
        words: Whether white space is preferred to a break inside a word.
        sentences: Whether a break falls inside a word only where that is longer than a piece, and
            ends of sentences are preferred to other places between words.
        prose: Whether ends of sentences are preferred to ends of lines too.
    """

    whole: int
    part: int
    structure: bool
    words: bool
    sentences: bool = False
    prose: bool = False


def chunk_text(text: str, limits: Limits) -> list[Piece]:
    r"""Tile a text without structure with pieces.

    >>> limits = Limits(whole=20, part=20, structure=True, words=True)
    >>> [piece[:2] for piece in chunk_text("Mergansers dive.\nThey eat fish.\n", limits)]
    [(0, 17), (17, 32)]
    """
    return chunk_span(text, 0, len(text), limits)


def chunk_span(
    text: str, start: int, end: int, limits: Limits, *, symbol: str = "", kind: str = "text"
) -> list[Piece]:
    """Tile ``text[start:end]`` with pieces of at most the limits' length, in order.

    Every piece but the first continues the one before it.
    """
    pieces: list[Piece] = []
    limit = limits.whole
    while end - start > limit:
        at = _best_break(text, start, _window_end(start, end, limit, limits), limits)
        if limits.sentences and parts_word(text, at):  # a longer window may hold the whole word
            at = _best_break(text, start, start + limit, limits)
        pieces.append(Piece(start, at, symbol, kind, bool(pieces)))
        start, limit = at, limits.part
    if start < end:
        pieces.append(Piece(start, end, symbol, kind, bool(pieces)))
    return pieces


def absorb_blanks(text: str, pieces: list[Piece], limits: Limits) -> list[Piece]:
    """Merge pieces of nothing but white space into a neighbour where the limits allow it.

    Where they do not, the break moves so that the blank piece gets some visible characters of its
    neighbour; only white space that alone nearly fills a piece stays by itself.
    """
    if not any(_is_blank(text, piece) for piece in pieces):
        return pieces
    out: list[Piece] = []
    for piece in pieces:
        if out and (_is_blank(text, piece) or _is_blank(text, out[-1])):
            out.extend(_join_or_shift(text, out.pop(), piece, limits))
        else:
            out.append(piece)
    return out


def _is_blank(text: str, piece: Piece) -> bool:
    # Most pieces are told by their first character, without a copy.
    return text[piece.start].isspace() and text[piece.start : piece.end].isspace()


def _join_or_shift(text: str, left: Piece, right: Piece, limits: Limits) -> list[Piece]:
    """Join two pieces if they fit in one, else move the break so that both hold visible text."""
    limit = limits.part if left.continues else limits.whole
    if right.end - left.start <= limit:
        seen = left if _is_blank(text, right) else right
        return [Piece(left.start, right.end, seen.symbol, seen.kind, left.continues)]
    if _is_blank(text, right):
        visible = len(text[left.start : left.end].rstrip())
        at = left.end
        if visible > 1:
            find = _word_break if limits.sentences else safe_break
            at = find(text, left.start, left.start + visible - 1)
        seen = left
    else:
        start = right.end - len(text[right.start : right.end].lstrip())
        line = text.find("\n", start, right.end) + 1
        at = line if 0 < line - left.start <= limit else _next_break(text, start + 1)
        while limits.sentences and parts_word(text, at) and at - left.start < limit:
            at = _next_break(text, at + 1)
        seen = right
    first = Piece(left.start, at, seen.symbol, seen.kind, left.continues)
    second = Piece(at, right.end, seen.symbol, seen.kind, continues=True)
    fits = at - left.start <= limit and right.end - at <= limits.part and at < right.end
    if fits and not _is_blank(text, first) and not _is_blank(text, second):
        return [first, second]
    return [left, right]


def _next_break(text: str, at: int) -> int:
    """Move a break forward to where it parts nothing that is shown as one character."""
    while at < len(text) and _joins(text, at):
        at += 1
    return at


def _window_end(start: int, end: int, limit: int, limits: Limits) -> int:
    """Return where the window of the next break ends; structured text ends with no crumb."""
    if limits.structure and end - start <= limit + limit // 4:
        return min(start + limit, end - limit // 4)
    return start + limit


def _best_break(text: str, start: int, stop: int, limits: Limits) -> int:
    """Find a break in ``(start, stop]``: paragraph, line, word, and else between two characters."""
    if limits.structure:
        half, quarter = start + (stop - start) // 2, start + (stop - start) // 4
        blank = max(text.rfind("\n\n", half, stop) + 2, text.rfind("\n\r\n", half, stop) + 3)
        if blank > max(half, 2):  # up to 2 none was found
            return blank
        if limits.prose and (sentence := last_sentence_end(text, quarter, stop)) > 0:
            return safe_break(text, start, sentence)
        line = text.rfind("\n", quarter, stop) + 1
        if line > quarter:
            return line
    if limits.sentences:
        return _word_break(text, start, stop)
    if limits.words:
        half = start + (stop - start) // 2
        if text[stop : stop + 1].isspace():
            return safe_break(text, start, stop)
        for at in range(stop, half, -1):
            if text[at - 1].isspace():
                return safe_break(text, start, at)
    return safe_break(text, start, stop)


def _word_break(text: str, start: int, stop: int) -> int:
    """Find a break in ``(start, stop]`` at the end of a sentence, else between two words."""
    quarter = start + (stop - start) // 4
    at = last_sentence_end(text, quarter, stop)
    if at < 0:
        at = last_word_end(text, start, stop)
    while at > start:
        safe = safe_break(text, start, at)
        if safe == at or not parts_word(text, safe):
            return safe
        at = last_word_end(text, start, safe)
    return safe_break(text, start, stop)


def safe_break(text: str, start: int, at: int) -> int:
    r"""Move a break back so that it parts no line end and no marks of one visible character.

    Args:
        text: The whole text.
        start: The break stays above it.
        at: Where the break would be, in ``(start, len(text)]``.

    >>> safe_break("a\r\nb", 0, 2)
    1
    """
    for candidate in range(at, max(start, at - _MAX_CLUSTER), -1):
        if not _joins(text, candidate):
            return candidate
    # A cluster without end is broken, but a line end is one character in every editor.
    return at - 1 if text[at - 1 : at + 1] == "\r\n" and at - 1 > start else at


def _joins(text: str, at: int) -> bool:
    """Tell whether the characters on both sides of a break are shown as one."""
    if not 0 < at < len(text):
        return False
    before, after = text[at - 1], text[at]
    if after == "\n":
        return before == "\r"
    if after < _FIRST_COMBINING:
        return False
    return (
        _ZERO_WIDTH_JOINER in {before, after}
        or unicodedata.category(after) in {"Mn", "Me", "Mc"}
        # Skin tones follow the emoji that they colour; flags are pairs of regional indicators.
        or "\U0001f3fb" <= after <= "\U0001f3ff"
        or (_is_regional(after) and _regional_run(text, at) % 2 == 1)
    )


def _is_regional(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _regional_run(text: str, at: int) -> int:
    """Count the regional indicators directly before a break, up to a cluster's length."""
    run = 0
    while run < min(at, _MAX_CLUSTER) and _is_regional(text[at - 1 - run]):
        run += 1
    return run
