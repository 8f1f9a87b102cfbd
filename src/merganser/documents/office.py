"""Read office documents and books by what they are, whatever they are called.

One reader takes all of them, since a name often does not say what is in a file: a ``.doc`` may be
RTF or HTML, a ``.docx`` may be the format of 1997. It runs in a process of its own
(``merganser.documents.apart``), because what packages unpack to is up to strangers. The readers of
the formats use the standard library alone (``docs/adr`` says why).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from merganser.documents.encoding import decode
from merganser.documents.extracted import Extracted
from merganser.documents.package import Package
from merganser.errors import SkipDocument

if TYPE_CHECKING:
    from collections.abc import Iterator

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ZIP = b"PK\x03\x04"
_EMPTY_ZIP = b"PK\x05\x06"
_MARK = b"\xef\xbb\xbf"
_HEAD = 4096
_MAX_TEXT = 2 * 1024 * 1024

_MAIN_KIND = "officeDocument"
_OLD_NAMES = (
    ("WordDocument", "an old Word document", ".docx"),
    ("Workbook", "an old Excel workbook", ".xlsx"),
    ("Book", "an old Excel workbook", ".xlsx"),
    ("PowerPoint Document", "an old presentation", ".pptx"),
)


def extract_office(data: bytes) -> Extracted:
    """Return the text of an office document or book; runs apart.

    Raises:
        SkipDocument: ``old format``, ``encrypted``, ``damaged``, ``hostile``, ``too large`` or
            ``empty``; ``binary`` when it is none of the formats that are read, and no text.
    """
    if data.startswith(_OLE):
        raise _refuse_ole(data)
    if data.startswith((_ZIP, _EMPTY_ZIP)):
        package = Package(data)
        extracted = _extract_package(package)
        remarks = [extracted.note, *_remarks(package)]
        return extracted._replace(note="; ".join(remark for remark in remarks if remark))
    head = data[:_HEAD].removeprefix(_MARK).lstrip()
    if head.startswith(b"{\\rtf"):
        from merganser.documents.rtf_text import read_rtf  # noqa: PLC0415 - only what is needed

        return read_rtf(data)
    if head.startswith(b"<?xml") or head[:64].lower().startswith((b"<html", b"<!doctype")):
        return _extract_markup(data)
    if not data.strip():
        raise SkipDocument("empty", "it has no bytes" if not data else "only white space")
    if head.startswith(b"MIME-Version:"):
        raise SkipDocument("old format", "a web archive: save it as .docx or .html")
    return _extract_text(data)


def _extract_text(data: bytes) -> Extracted:
    """Read plain text, such as the tables that programs call ``.xls`` and that are CSV."""
    if len(data) > _MAX_TEXT:
        raise SkipDocument("too large", f"plain text of more than {_MAX_TEXT:,} bytes")
    decoded = decode(data)
    return Extracted(decoded.text, encoding=decoded.encoding)


def _extract_package(package: Package) -> Extracted:
    main = next(iter(package.related("", _MAIN_KIND)), "")
    if main:
        return _extract_ooxml(package, main)
    if "META-INF/container.xml" in package:
        from merganser.documents.epub_text import read_epub  # noqa: PLC0415

        return read_epub(package)
    if "content.xml" in package:
        from merganser.documents.odf_text import read_odf  # noqa: PLC0415

        return read_odf(package)
    raise SkipDocument("binary", "a zip archive, not a document")


def _remarks(package: Package) -> Iterator[str]:
    """Yield what is in a package and was not read."""
    if any(name.endswith("vbaproject.bin") or name.startswith("basic/") for name in package.names):
        yield "its macros are not read"
    if any("/embeddings/" in name for name in package.names):
        yield "files embedded in it are not read"


def _extract_ooxml(package: Package, main: str) -> Extracted:
    """Read a package of Microsoft's formats by the name of its main part's root element."""
    if main.lower().endswith(".bin"):
        raise SkipDocument("old format", "a binary workbook (.xlsb): save it as .xlsx")
    root = next(package.iterate(main, (), ("document", "presentation", "workbook")), None)
    match root.tag if root is not None else "":
        case "document":
            from merganser.documents.docx_text import read_docx  # noqa: PLC0415

            return read_docx(package, main)
        case "presentation":
            from merganser.documents.pptx_text import read_pptx  # noqa: PLC0415

            return read_pptx(package, main)
        case "workbook":
            from merganser.documents.xlsx_text import read_xlsx  # noqa: PLC0415

            return read_xlsx(package, main)
        case _:
            raise SkipDocument("binary", f"a package of another kind: its main part is {main}")


def _extract_markup(data: bytes) -> Extracted:
    """Read a document that is one XML or HTML text."""
    if b"office:document" in data[:_HEAD]:
        from merganser.documents.odf_text import read_flat_odf  # noqa: PLC0415

        return read_flat_odf(data)
    from merganser.documents.html_text import read_html  # noqa: PLC0415

    return read_html(data)


def _refuse_ole(data: bytes) -> SkipDocument:
    """Say what a compound file of the formats before 2007 is, by the names of its streams."""

    def has(name: str) -> bool:
        return name.encode("utf-16-le") in data

    if has("EncryptedPackage") or has("EncryptionInfo"):
        return SkipDocument("encrypted", "it needs a password")
    for stream, what, suffix in _OLD_NAMES:
        if has(stream):
            return SkipDocument("old format", f"{what}: save it as {suffix}")
    return SkipDocument("old format", "a compound file of before 2007")
