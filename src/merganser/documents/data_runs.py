"""Find data inside a text: base64, hexadecimal, tables of bytes, lines of minified code.

Such runs say nothing to a reader, fill chunks and drown what stands around them. They are masked;
the rest of the file is indexed as it is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from merganser.documents.generated import MINIFIED
from merganser.documents.long_runs import find_runs
from merganser.documents.masking import Mask

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from merganser.documents.long_runs import Run

_RUN = 300
"""Characters; a digest, a token or a key is shorter."""
_LONG_LINE = re.compile(r"[^\n]{2000,}")
# Minified JavaScript and CSS have 1 to 10 of a hundred, sources and prose 12 to 40.
_MAX_SPACES = 0.11
_MIN_DISTINCT = 10
_MIN_BYTES = 200

_WIDE_LINE = re.compile(rf"[^\n]{{{_RUN},}}")
_PADDING = 2
_ENCODED = re.compile(rf"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{{{_RUN},}}={{0,{_PADDING}}}")
_LEAST_ESCAPES = 75
_ESCAPED = re.compile(
    rf"(?:\\x[0-9a-fA-F]{{2}}|%[0-9a-fA-F]{{2}}|\\[0-3][0-7]{{2}}){{{_LEAST_ESCAPES},}}"
)
_BYTES = re.compile(
    rf"(?:0[xX][0-9a-fA-F]{{1,16}}[uUlL]{{0,3}}\s{{0,80}},\s{{0,80}}){{{_MIN_BYTES},}}"
)
# As programs wrap it, bare or as pieces of a string.
_WRAPPED = re.compile(
    r"(?:^[ \t\"'+>#*]{0,40}[A-Za-z0-9+/]{56,}={0,2}"
    r"[ \t\"',+;\\]{0,8}(?:\\n)?[\"',+ ]{0,4}\r?\n){8,}",
    re.MULTILINE,
)
_WRAPPED_RUN = re.compile("[A-Za-z0-9+/]{56}")


def find_data(text: str, runs: Sequence[Run] | None = None) -> list[Mask]:
    """Return the runs of a text that are data, with marks that say how much it is.

    Args:
        text: The text.
        runs: What ``find_runs`` said of it; None has them found.

    >>> [mask.mark for mask in find_data("LOGO = '" + "iVBORw0KGgo1x2y3" * 40 + "'")]
    ['[640 characters of data]']
    """
    return [
        Mask(found.start(), found.end(), f"[{len(found[0]):,} characters of data]")
        for found in _find_data(text, find_runs(text) if runs is None else runs)
    ]


def find_minified_lines(text: str, language: str | None) -> list[Mask]:
    """Return the lines that are minified code, in languages that are minified."""
    if language not in MINIFIED:
        return []
    return [
        Mask(found.start(), found.end(), f"[{len(found[0]):,} characters of minified code]")
        for found in _LONG_LINE.finditer(text)
        if sum(map(found[0].count, " \t")) < _MAX_SPACES * len(found[0])
    ]


def _find_data(text: str, runs: Sequence[Run]) -> Iterator[re.Match[str]]:
    if text.count("0x") >= _MIN_BYTES:
        yield from _BYTES.finditer(text)
    for start, end in runs:
        if end - start >= _RUN:
            yield from filter(_is_data, _ENCODED.finditer(text, start, end + _PADDING))
    if text.count("\\") + text.count("%") >= _LEAST_ESCAPES:
        for line in _WIDE_LINE.finditer(text):
            yield from filter(_is_data, _ESCAPED.finditer(text, *line.span()))
    if any(_WRAPPED_RUN.search(text, *run) for run in runs):
        yield from filter(_is_data, _WRAPPED.finditer(text))


def _is_data(found: re.Match[str]) -> bool:
    """Return whether a run mixes letters and digits as codes do, unlike rules and sequences."""
    run = found[0][:_RUN]
    return len(set(run)) >= _MIN_DISTINCT and any(map(str.isdigit, run))
