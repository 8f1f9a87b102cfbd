"""Turn a file's bytes into text that turns back into the same bytes.

The law: ``decoded.bom + decoded.text.encode(decoded.encoding)`` are the bytes, always. What cannot
be read like that is refused, so an index never holds a character that the file does not.
"""

from __future__ import annotations

import codecs
import re
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
# Windows-1252 is what legacy text without a declaration mostly is; five of its bytes mean nothing,
# which makes it strict where Latin-1 would take anything.
_FALLBACK = "cp1252"
# Control characters that text files hold: backspace, white space, escape sequences of logs.
_CONTROL = re.compile(rb"[\x00-\x07\x0e-\x1a\x1c-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Decoded:
    """A file's text and what its bytes are restored with.

    Attributes:
        text: Without the byte order mark, line ends as they are.
        encoding: Name of a Python codec.
        bom: The byte order mark in front; mostly empty.
    """

    text: str
    encoding: str
    bom: bytes = b""


def decode(data: bytes, *, is_html: bool = False) -> Decoded:
    """Decode strictly: a byte order mark, UTF-8, a declared encoding, then Windows-1252.

    Args:
        data: The file.
        is_html: Whether an encoding is declared as in HTML, not as in source code.

    Raises:
        SkipDocument: ``binary`` when there are NULs, ``encoding`` when nothing fits exactly.
    """
    for bom, encoding in _MARKS:
        if data.startswith(bom):
            return _decode_marked(data, bom, encoding)
    if b"\0" in data:
        raise SkipDocument("binary", f"NUL at byte {data.index(0)}")
    try:
        return Decoded(data.decode("utf-8"), "utf-8")
    except UnicodeDecodeError as error:
        problem = f"not UTF-8 at byte {error.start}"
    for encoding in (_declared_encoding(data, is_html=is_html), _FALLBACK):
        text = _round_trip(data, encoding) if encoding else None
        if text is not None and encoding and not _CONTROL.search(data):
            return Decoded(text, encoding)
    raise SkipDocument("encoding", f"{problem}, and no other encoding fits")


def _decode_marked(data: bytes, bom: bytes, encoding: str) -> Decoded:
    """Decode what follows a byte order mark."""
    text = _round_trip(data[len(bom) :], encoding)
    if text is None:
        raise SkipDocument("encoding", f"its byte order mark says {encoding}, its bytes do not")
    if "\0" in text:
        raise SkipDocument("binary", f"NUL in {encoding}")
    return Decoded(text, encoding, bom)


def _declared_encoding(data: bytes, *, is_html: bool) -> str | None:
    """Find a ``coding:`` declaration in the first two lines, as Python and editors do."""
    if is_html:
        charset = _CHARSET.search(data, 0, 1024)
        return charset[1].decode("ascii", "replace") if charset else None
    for line in data.split(b"\n", 2)[:2]:
        if found := _COOKIE.match(line):
            return found[1].decode("ascii", "replace")
    return None


def _round_trip(data: bytes, encoding: str) -> str | None:
    """Decode if the text encodes to the same bytes, else return None."""
    try:
        text = data.decode(encoding)
        return text if text.encode(encoding) == data else None
    except (LookupError, ValueError):  # an unknown codec, or bytes that it does not have
        return None
