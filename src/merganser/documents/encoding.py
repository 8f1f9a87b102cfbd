"""Turn a file's bytes into text, and never into another text than the file shows.

The law: ``decoded.bom + decoded.text.encode(decoded.encoding)`` are the bytes. It holds for
everything but a text that is UTF-8 with a few bytes that are not: each of these becomes U+FFFD, and
``decoded.bad_bytes`` counts them. What cannot be read like that is refused. Which encoding a file
without a mark or a declaration has, ``detection`` decides, or does not.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from dataclasses import dataclass

from merganser.errors import SkipDocument

# The longer marks first: the one of UTF-32-LE begins with that of UTF-16-LE.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# PEP 263; editors read the same line in other languages.
_COOKIE = re.compile(rb"^[^\n]*coding[:=][ \t]*([-\w.]+)")
# HTML wants it within the first 1,024 bytes, in a <meta>; XHTML in the XML declaration.
_CHARSET = re.compile(rb"""(?:charset|encoding)[ \t]*=[ \t]*["']?([-\w.:]+)""", re.IGNORECASE)
_DECLARED = (
    re.compile(rb"""<\?xml[^>]{1,100}?encoding[ \t]*=[ \t]*["']([-\w.:]+)"""),
    re.compile(rb"""@charset[ \t]+["']([-\w.:]+)"""),  # CSS
    re.compile(rb"(?s).{0,2000}?Content-Type: text/plain; charset=([-\w.:]+)"),  # gettext
)
# What a declaration means on the web and in editors: the larger set of Windows.
_MEANT = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
    "tis-620": "cp874",
}
_FIRST = {"ascii", "iso8859-1", "iso8859-9"}  # they take every byte, also where they are not meant
# Control characters that text files hold: backspace, white space, escape sequences of logs.
_CONTROL = re.compile(rb"[\x00-\x07\x0e-\x1a\x1c-\x1f\x7f]")
_NO_TEXT = re.compile("[\x00-\x07\x0e-\x1a\x1c-\x1f\x7f-\x84\x86-\x9f]")
_ESCAPED = re.compile("[\udc80-\udcff]")
_NOT_ASCII = re.compile("[^\x00-\x7f]")
_MAJORITY = 9
"""Characters of more than one byte for each byte that is not UTF-8."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A file's text and what its bytes are restored with.

    Attributes:
        text: Without the byte order mark, line ends as they are.
        encoding: Name of a Python codec.
        bom: The byte order mark in front; mostly empty.
        bad_bytes: How many bytes are no text; U+FFFD stands in their place.
    """

    text: str
    encoding: str
    bom: bytes = b""
    bad_bytes: int = 0

    @property
    def note(self) -> str:
        """What a user should know of it; empty when the text is the file."""
        if not self.bad_bytes:
            return ""
        return f"{self.bad_bytes:,} bytes are not UTF-8, shown as \N{REPLACEMENT CHARACTER}"


def decode(data: bytes, *, is_html: bool = False) -> Decoded:
    """Decode by a byte order mark, as UTF-8, by a declaration, then by what the text looks like.

    Args:
        data: The file.
        is_html: Whether an encoding is declared as in HTML, not as in source code.

    Raises:
        SkipDocument: ``binary`` when there are NULs that no text has, ``encoding`` when nothing
            fits, or several do.
    """
    for bom, encoding in _MARKS:
        if data.startswith(bom):
            return _decode_marked(data, bom, encoding)
    if b"\0" in data:
        return _decode_wide(data)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        return _decode_legacy(data, error, is_html=is_html)
    if b"\x1b$" in data and (japanese := _round_trip(data, "iso2022_jp")) is not None:
        return Decoded(japanese, "iso2022_jp")
    return Decoded(text, "utf-8")


def _decode_legacy(data: bytes, error: UnicodeDecodeError, *, is_html: bool) -> Decoded:
    """Decode what is not UTF-8 as a whole."""
    escaped = data.decode("utf-8", "surrogateescape")
    bad = len(_ESCAPED.findall(escaped))
    good = len(_NOT_ASCII.findall(escaped)) - bad
    is_cut = error.reason == "unexpected end of data" and good  # in the middle of a character
    if good >= _MAJORITY * bad or is_cut:
        return Decoded(data.decode("utf-8", "replace"), "utf-8", bad_bytes=bad)
    if _CONTROL.search(data):
        raise SkipDocument("encoding", f"not UTF-8 at byte {error.start}, and no text")
    for encoding in _declared_encodings(data, is_html=is_html):
        text = _round_trip(data, encoding)
        if text is not None and not _NO_TEXT.search(text):
            return Decoded(text, encoding)
    from merganser.documents.detection import detect  # noqa: PLC0415 - few files need it

    found = detect(data)
    text = _round_trip(data, found.encoding) if found.encoding else None
    if text is None:
        raise SkipDocument("encoding", f"not UTF-8 at byte {error.start}; {found.problem}")
    return Decoded(text, found.encoding)


def _decode_marked(data: bytes, bom: bytes, encoding: str) -> Decoded:
    """Decode what follows a byte order mark."""
    text = _round_trip(data[len(bom) :], encoding)
    if text is None:
        raise SkipDocument("encoding", f"its byte order mark says {encoding}, its bytes do not")
    if "\0" in text:
        raise SkipDocument("binary", f"NUL in {encoding}")
    return Decoded(text, encoding, bom)


def _decode_wide(data: bytes) -> Decoded:
    """Decode UTF-16 or UTF-32 without a mark: what is text in one of them and all of it.

    Among any 50 characters of a file that is no text there is a control character, one that is not
    assigned, or half of a pair.
    """
    for encoding in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):
        text = _round_trip(data, encoding)
        if text and not _NO_TEXT.search(text) and _is_written(text):
            return Decoded(text, encoding)
    raise SkipDocument("binary", f"NUL at byte {data.index(0)}")


_LEAST_WRITTEN = 8
_MOST_SCRIPTS = 3


def _is_written(text: str) -> bool:
    """Return whether people write such a text: characters that exist, in few scripts."""
    seen = {*text}
    if len(text) < _LEAST_WRITTEN or any(unicodedata.category(c) in {"Cn", "Co"} for c in seen):
        return False
    letters = [c for c in seen if c.isalpha()]
    scripts = {unicodedata.name(c, "?").partition(" ")[0] for c in letters}
    # Read in the wrong order of bytes, line ends and spaces are letters of rare scripts.
    return len(scripts - _EAST_ASIAN) <= _MOST_SCRIPTS and any(c.isspace() for c in seen)


_EAST_ASIAN = frozenset({"CJK", "HIRAGANA", "KATAKANA", "HANGUL", "FULLWIDTH", "HALFWIDTH"})


def _declared_encodings(data: bytes, *, is_html: bool) -> list[str]:
    """Return what a file says that its encoding is, and what is meant by that."""
    declared = _declaration(data, is_html=is_html)
    try:
        name = codecs.lookup(declared).name if declared else ""
    except LookupError:
        return []
    meant = _MEANT.get(name)
    if meant is None:
        return [name] if name else []
    return [meant, name] if name in _FIRST else [name, meant]


def _declaration(data: bytes, *, is_html: bool) -> str:
    """Find a declaration as in HTML, else as Python and editors, XML, CSS and gettext have it."""
    if is_html:
        found = _CHARSET.search(data, 0, 1024)
        return found[1].decode("ascii", "replace") if found else ""
    for line in data.split(b"\n", 2)[:2]:
        if found := _COOKIE.match(line):
            return found[1].decode("ascii", "replace")
    for pattern in _DECLARED:
        if found := pattern.match(data):
            return found[1].decode("ascii", "replace")
    return ""


def _round_trip(data: bytes, encoding: str) -> str | None:
    """Decode if the text encodes to the same bytes, else return None."""
    try:
        text = data.decode(encoding)
        return text if text.encode(encoding) == data else None
    except (LookupError, ValueError, TypeError):  # an unknown codec, one of no text, bad bytes
        return None
