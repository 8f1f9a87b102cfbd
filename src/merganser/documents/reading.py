"""Read the text of documents, each by the reader of its format.

Text files are kept as they are, to the last byte. The text of other formats is extracted, so their
bytes cannot be restored from it; what is kept instead is the way back to a place that a person can
open. The protocol of a reader, ``bytes -> Extracted``:

- ``text`` is what somebody who opens the file reads, in the order in which it is read, a paragraph,
  row or item a line. Nothing of it is lost; markup, pictures and base64 are not text.
- ``headings`` are the file's own (``Heading(level, title, start)``, ``start`` a character of
  ``text``): sections that fit stay in one chunk, and chunks break before headings if they can.
- ``places`` say where lines stand: ``Place(line, (("slide", 4),))`` from that line of ``text`` on,
  ``Place(line, (("sheet", "Budget"), ("row", 12)), counts=True)`` where every line is one row more.
  A file whose lines are those of the text, such as HTML, has none: there line k of ``text`` shows
  line k of the file.
- ``embedded`` are stretches of code in a language of their own: ``Embedded(start, end, "python")``.
- A reader is a pure function of the bytes. It opens no other file and no address, runs no program
  of the file, and ends within bounds of time, memory and output whatever the bytes are. Whatever
  unpacks archives or parses with a library runs apart: ``read`` calls
  ``apart.SHARED.read("module:function", data)``, and that function returns ``Extracted`` there.
- What cannot be read raises ``SkipDocument`` with a reason of ``skipping`` and what was seen:
  ``encoding`` (damaged, encrypted), ``empty`` (holds no text), ``too large`` (unpacks to too much),
  ``extra`` (a package is missing).

To add a kind of document, write its reader in a module of its own, list it in ``FORMATS``, and name
its suffixes in ``file_types``. ``tests/core/documents/test_reader_conformance.py`` then holds it to
this protocol: give it a sample there.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from merganser.chunking.sections import Embedded
from merganser.documents.apart import SHARED
from merganser.documents.data_runs import find_data, find_minified_lines
from merganser.documents.encoding import decode
from merganser.documents.extracted import Extracted
from merganser.documents.file_types import OFFICE, language_of_text
from merganser.documents.files import read_file
from merganser.documents.generated import describe_minified, generated_line
from merganser.documents.kinds import LEFT_OUT, kind_of
from merganser.documents.long_runs import find_runs
from merganser.documents.masking import MaskedText
from merganser.documents.pdf_text import missing_pdf_extra, read_pdf
from merganser.documents.secret_files import refuse_secret_text
from merganser.documents.secrets import find_secrets, lines_of, redact_secrets
from merganser.documents.skipping import BLANK
from merganser.errors import MerganserError, SkipDocument

if TYPE_CHECKING:
    from collections.abc import Sequence

    from merganser.chunking.places import Place
    from merganser.chunking.sections import Heading
    from merganser.chunking.tables import Table
    from merganser.documents.kinds import Kind
    from merganser.documents.masking import Mask
    from merganser.documents.scanning import Document
    from merganser.documents.secrets import Redaction, SecretsMode

READING_VERSION = 3
"""Goes up whenever the same bytes give another text or language."""

Reader = Callable[[bytes], Extracted]
"""Returns what a file's bytes say, by the protocol above; raises ``SkipDocument``."""


@dataclass(frozen=True, slots=True)
class DocumentFormat:
    r"""How files of one language are read.

    Attributes:
        read: Extracts the text.
        max_bytes: Larger files are skipped. The limit of text is 2 MB: larger files are data, logs
            or bundles; the largest hand-written source seen is below 1 MB.
        missing: Says what must be installed before files of this format can be read; empty when
            nothing is missing.

    >>> def read_subtitles(data: bytes):
    ...     return Extracted(re.sub(r"(?m)^(\d+|.* --> .*)$", "", TEXT.read(data).text))
    >>> DocumentFormat(read_subtitles).read(b"1\n00:01 --> 00:02\nDucks dive.").text
    '\n\nDucks dive.'
    """

    read: Reader
    max_bytes: int = 2 * 1024 * 1024
    missing: Callable[[], str] = str


def _read_text(data: bytes) -> Extracted:
    decoded = decode(data)
    return Extracted(decoded.text, encoding=decoded.encoding, note=decoded.note)


TEXT = DocumentFormat(_read_text)
"""What is read as it is: every language that has no format of its own."""

_MAX_PACKED = 64 * 1024 * 1024


def _read_office(data: bytes) -> Extracted:
    return SHARED.read("merganser.documents.office:extract_office", data)


def _read_html(data: bytes) -> Extracted:
    from merganser.documents.html_text import read_html  # noqa: PLC0415 - many trees have no page

    return read_html(data)


def _read_notebook(data: bytes) -> Extracted:
    from merganser.documents.notebook_text import read_notebook  # noqa: PLC0415 - as above

    return read_notebook(data)


FORMATS: Mapping[str | None, DocumentFormat] = {
    "html": DocumentFormat(_read_html),
    # Such files are mostly pictures and fonts; they are held in memory while they are read.
    "notebook": DocumentFormat(_read_notebook, _MAX_PACKED),
    "pdf": DocumentFormat(read_pdf, _MAX_PACKED, missing_pdf_extra),
    **dict.fromkeys(OFFICE, DocumentFormat(_read_office, _MAX_PACKED)),
}
"""The formats whose text is extracted, by ``Document.language``."""


@dataclass(frozen=True, slots=True)
class DocumentText:
    """The text of a document.

    Attributes:
        text: Line ends as they are, without a byte order mark.
        headings: The headings that the file's own structure marks, for HTML and PDF; None for text
            files, whose structure is in their text.
        content_hash: BLAKE2b of the file's bytes, 16 bytes.
        size_bytes: Length of the file's bytes.
        places: As in ``Extracted``.
        encoding: As in ``Extracted``.
        note: As in ``Extracted``.
        embedded: As in ``Extracted``.
        redactions: The secrets in whose place ``text`` has marks, by line.
        tables: As in ``Extracted``.
        kind: What the document is for.
        language: By the file's name or, where that says nothing, by its first line; or None.
    """

    text: str
    headings: tuple[Heading, ...] | None
    content_hash: bytes
    size_bytes: int
    places: tuple[Place, ...] = ()
    encoding: str = ""
    note: str = ""
    embedded: tuple[Embedded, ...] = ()
    redactions: tuple[Redaction, ...] = ()
    tables: tuple[Table, ...] = ()
    kind: Kind = "code"
    language: str | None = None


def read_document(document: Document, *, secrets: SecretsMode = "redact") -> DocumentText:
    """Read and decode one document.

    Args:
        document: The file.
        secrets: What is done about tokens and keys in it.

    Raises:
        SkipDocument: It is gone, unreadable, binary, in no known encoding, blank, minified or
            generated, or holds a secret and is to be skipped for it; a PDF file without text, or
            without the extra that reads it. Whatever else its reader raises is ``unreadable`` too.
    """
    try:
        # What grew since the scan is not held in memory beyond the limit.
        data = read_file(document.absolute, max(TEXT.max_bytes, document.size_bytes))
    except OSError as error:
        raise SkipDocument("unreadable", error.strerror or str(error)) from error
    if len(data) > max(TEXT.max_bytes, document.size_bytes):
        raise SkipDocument("too large", f"it grew to more than {len(data) - 1:,} bytes")
    if _LFS_POINTER.match(data):
        raise SkipDocument("lfs", "its content is not here: git lfs pull")
    try:
        read = FORMATS.get(document.language, TEXT).read(data)
    except SkipDocument:
        raise
    except Exception as error:  # a stranger's file may find any fault of a reader
        raise SkipDocument("unreadable", describe_fault(error)) from error
    language = document.language or language_of_text(read.text)
    runs = find_runs(read.text)
    masks = find_data(read.text, runs)
    shown = MaskedText(read.text, masks).text if masks else read.text
    kind = _kind_of(document, shown, language)
    if secrets != "keep" and (why := refuse_secret_text(document.path, read.text)):
        raise SkipDocument("secret", why)
    found = [] if secrets == "keep" else find_secrets(read.text, runs)
    redactions = lines_of(read.text, found)
    if found and secrets == "skip":
        raise SkipDocument("secret", f"{redactions[0].kind} in line {redactions[0].line}")
    masks += find_minified_lines(read.text, language)
    if found or masks:
        read = _mask(read, [*(secret.mask for secret in found), *masks])
    return DocumentText(
        read.text,
        read.headings,
        content_hash(data),
        len(data),
        places=read.places,
        encoding=read.encoding,
        note=read.note,
        embedded=read.embedded,
        redactions=redactions,
        tables=read.tables,
        kind=kind,
        language=language,
    )


def _mask(read: Extracted, masks: Sequence[Mask]) -> Extracted:
    """Put marks into a text; its headings stay where they are, and they and places show none."""
    masked = MaskedText(read.text, masks)
    read = read._replace(places=tuple(map(_redact_place, read.places)))
    embedded = tuple(
        Embedded(masked.move(start), masked.move(end), language)
        for start, end, language in read.embedded
    )
    if read.headings is None:
        return read._replace(text=masked.text, embedded=embedded)
    headings = tuple(
        heading._replace(start=masked.move(heading.start), title=redact_secrets(heading.title))
        for heading in read.headings
    )
    return read._replace(text=masked.text, headings=headings, embedded=embedded)


def _redact_place(place: Place) -> Place:
    """Return a place without the secrets that the title of its section or sheet may hold."""
    steps = tuple(
        (unit, redact_secrets(name) if isinstance(name, str) else name)
        for unit, name in place.steps
    )
    return place._replace(steps=steps, label=redact_secrets(place.label))


# https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
_LFS_POINTER = re.compile(
    rb"version https?://(?:git-lfs\.github\.com|hawser\.github\.com)/spec/v\d\r?\n"
    rb"(?:ext-[^\n]{1,200}\n|oid sha256:[0-9a-f]{64}\r?\n|size \d{1,20}\r?\n?){2,12}\s*\Z"
)
_MAX_FAULT = 300


def describe_fault(error: Exception) -> str:
    """Return an error of a reader, chunker or encoder in one line, for the report of a file.

    >>> describe_fault(AssertionError("unexpected call"))
    'AssertionError: unexpected call'
    """
    said = " ".join(str(error).split())
    line = said if isinstance(error, MerganserError) else f"{type(error).__name__}: {said}"
    return redact_secrets(line.rstrip(": "))[:_MAX_FAULT]


def content_hash(data: bytes) -> bytes:
    """Return the 16 bytes that identify a file's content; equal files have equal ones.

    >>> content_hash(b"duck").hex()
    'bba9398e621269acd8b30c7f260006a0'
    """
    return hashlib.blake2b(data, digest_size=16).digest()


def _kind_of(document: Document, text: str, language: str | None) -> Kind:
    """Return what a document is for.

    Raises:
        SkipDocument: It is blank, or of a kind that is not indexed.
    """
    if not text or text.isspace():
        raise SkipDocument("empty", BLANK)
    generated = generated_line(text, language)
    if seen := generated or describe_minified(text, language):
        if "generated" not in document.wanted:
            raise SkipDocument("generated" if generated else "minified", seen)
        return "generated"
    kind = kind_of(document.path, language)
    if kind not in document.wanted | LEFT_OUT:
        raise SkipDocument("kind", kind)
    return kind
