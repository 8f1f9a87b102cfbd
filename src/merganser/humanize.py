"""Sizes, ages, durations, tables and URLs as people read and write them."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_UNIT_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_CONTROLS = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # all but tab and the ends of lines
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks, overrides and isolates of direction
    "\u2028\u2029\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # invisible, but terminals obey some
    "\ud800-\udfff]"  # bytes of a file name that are no UTF-8
    r"|\r(?!\n)"  # what follows would be written over the line
)


def show_bytes(count: int) -> str:
    """Return a number of bytes in the unit that suits it, such as ``4.2 kB``."""
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= factor:
            return f"{count / factor:,.1f} {unit}"
    return f"{count} B"


def show_age(seconds: float) -> str:
    """Return a duration in the largest unit that fits at least twice, such as ``3 hours``."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0.0):.0f} seconds"


def visible(text: str) -> str:
    r"""Return a text with its control characters as escapes that can be read.

    >>> visible("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def visible_name(name: str) -> str:
    r"""Return the name of a file on one line, with its control characters as escapes.

    >>> visible_name("a\nb\tc")
    'a\\nb\\tc'
    """
    return visible(name).replace("\r", "\\r").replace("\n", "\\n").replace("\t", "\\t")


def fold_lines(text: str, width: int) -> str:
    r"""Break lines that are wider than a terminal at spaces; what follows is indented further.

    A path is never broken: it is longer than the terminal then.

    >>> print(fold_lines("  the quick brown fox", 15))
      the quick
        brown fox
    """
    return "\n".join(_fold(line, width) if len(line) > width else line for line in text.split("\n"))


def _fold(line: str, width: int) -> str:
    words = line.lstrip(" ")
    indent = " " * (len(line) - len(words))
    return textwrap.fill(
        words,
        width,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def install_extra(*extras: str) -> str:
    """Return the command that installs extras, from the sources: no index has this project."""
    return f"pip install '.[{','.join(extras)}]' in the folder of merganser's sources"


def align_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as lines whose columns are aligned, two spaces apart.

    A column that is empty in every row is left out.
    """
    columns = [column for column in zip(*rows, strict=True) if any(column)]
    widths = [max(map(len, column)) for column in columns]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in zip(*columns, strict=True)
    ]


_URL = re.compile(r"(?<=://)[^\s'\"<>`]+")
_NO_LOGIN = re.compile(r"(\[[^]@]*\]|[^]/?#:@\[]*)(:\d*)?[/?#]")
"""A host with or without a port before the first slash: an ``@`` after it is of the path."""


def without_credentials(url: str) -> str:
    """Return a URL, with or without scheme, without ``user:password@``."""
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    return scheme + separator + rest[_login_length(rest) :].removeprefix("@")


def mask_credentials(text: str) -> str:
    """Return a text with stars for the login in every URL of it; nothing moves by that."""
    return _URL.sub(lambda url: "*" * (n := _login_length(url[0])) + url[0][n:], text)


def _login_length(rest: str) -> int:
    """Return the length of the login of a URL without its scheme, 0 when there is none.

    It ends at the last ``@``: people write passwords as they are, with ``/`` and ``@`` in them.
    """
    return 0 if _NO_LOGIN.match(rest) else max(rest.rfind("@"), 0)


_LINK_START = re.compile(r"\[(?!\d{1,9}\](?![(\[:]))")


def harmless(text: str) -> str:
    """Escape links, images and HTML, so that they are shown as text and lead nowhere.

    As entities, of which Markdown makes nothing: before a backslash another one may stand. The
    number of a source, such as ``[1]``, is no link.
    """
    return _LINK_START.sub("&#91;", text.replace("<", "&lt;"))


def parse_duration(text: str) -> float | None:
    """Return the seconds of a duration in Go's form, for example ``90s``, ``1h30m`` or ``0``.

    None for any other text; negative durations are none.
    """
    parts = _DURATION_PART.findall(text)
    if "".join(number + unit for number, unit in parts) != text or not parts:
        return 0.0 if text == "0" else None
    return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)


def show_duration(seconds: float) -> str:
    """Return a duration in the largest unit of which it is a whole number, such as ``15m``."""
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:g}s"
