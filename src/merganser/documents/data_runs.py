"""Find data inside a text: base64, hexadecimal, tables of bytes, lines of minified code.

Such runs say nothing to a reader, fill chunks and drown what stands around them. They are masked;
the rest of the file is indexed as it is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from merganser.documents.masking import Mask

if TYPE_CHECKING:
    from collections.abc import Iterator

_RUN = 300
"""Characters; a digest, a token or a key is shorter."""
_LONG_LINE = re.compile(r"[^\n]{2000,}")
_MINIFIED = frozenset({"css", "javascript", "tsx", "typescript"})
# Minified JavaScript and CSS have 1 to 10 of a hundred, sources and prose 12 to 40.
_MAX_SPACES = 0.11
_MIN_DISTINCT = 10
_MIN_BYTES = 200

_ENCODED = re.compile(rf"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{{{_RUN},}}={{0,2}}")
_ESCAPED = re.compile(r"(?:\\x[0-9a-fA-F]{2}|%[0-9a-fA-F]{2}|\\[0-3][0-7]{2}){75,}")
_BYTES = re.compile(
    rf"(?:0[xX][0-9a-fA-F]{{1,16}}[uUlL]{{0,3}}\s{{0,80}},\s{{0,80}}){{{_MIN_BYTES},}}"
)
# As programs wrap it, bare or as pieces of a string.
_WRAPPED = re.compile(
    r"(?:^[ \t\"'+>#*]{0,40}[A-Za-z0-9+/]{56,}={0,2}"
    r"[ \t\"',+;\\]{0,8}(?:\\n)?[\"',+ ]{0,4}\r?\n){8,}",
    re.MULTILINE,
)
_WRAPPED_AT, _WRAPPED_LINES = 56, 8
# Each character of base64 becomes a zero and all else a one: a long run of them, which few texts
# have, is found as fast as memory is searched.
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_CLASSES = bytes(0 if code in _BASE64 else 1 for code in range(256))


def find_data(text: str) -> list[Mask]:
    """Return the runs of a text that are data, with marks that say how much it is.

    >>> [mask.mark for mask in find_data("LOGO = '" + "iVBORw0KGgo1x2y3" * 40 + "'")]
    ['[640 characters of data]']
    """
    return [
        Mask(found.start(), found.end(), f"[{len(found[0]):,} characters of data]")
        for found in _runs(text)
    ]


def find_minified_lines(text: str, language: str | None) -> list[Mask]:
    """Return the lines that are minified code, in languages that are minified."""
    if language not in _MINIFIED:
        return []
    return [
        Mask(found.start(), found.end(), f"[{len(found[0]):,} characters of minified code]")
        for found in _LONG_LINE.finditer(text)
        if sum(map(found[0].count, " \t")) < _MAX_SPACES * len(found[0])
    ]


def _runs(text: str) -> Iterator[re.Match[str]]:
    if text.count("0x") >= _MIN_BYTES:
        yield from _BYTES.finditer(text)
    widths = [*map(len, text.split("\n"))]
    if max(widths) >= _RUN:
        end = -1
        for width in widths:
            start = end + 1
            end = start + width
            if width >= _RUN:
                for pattern in (_ENCODED, _ESCAPED):
                    yield from filter(_is_data, pattern.finditer(text, start, end))
    if _has_long_word(text) and sum(width >= _WRAPPED_AT for width in widths) >= _WRAPPED_LINES:
        yield from filter(_is_data, _WRAPPED.finditer(text))


def _has_long_word(text: str) -> bool:
    """Return whether as many characters of base64 stand together as in a wrapped line."""
    return bytes(_WRAPPED_AT) in text.encode("latin-1", "replace").translate(_CLASSES)


def _is_data(found: re.Match[str]) -> bool:
    """Return whether a run mixes letters and digits as codes do, unlike rules and sequences."""
    run = found[0][:_RUN]
    return len(set(run)) >= _MIN_DISTINCT and any(map(str.isdigit, run))
