"""Open the zip packages of office documents and books, in bounds.

A package is a zip file whose parts are XML and pictures. How much is read of one is counted in
unpacked bytes, whatever the zip file says of itself, so a small file cannot become a large one.
"""

from __future__ import annotations

import io
import posixpath
import zipfile
import zlib
from typing import IO, TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

from merganser.documents.xml_parts import iterate_xml, parse_xml
from merganser.errors import SkipDocument

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from xml.etree.ElementTree import Element

MAX_PARTS = 20_000
"""Entries of a package; a book of many pictures has some thousands."""

MAX_PART_BYTES = 64 << 20
"""Unpacked bytes of a part that is held as a tree; the longest novels have 5 MB of markup."""

MAX_BYTES = 256 << 20
"""Unpacked bytes that are read of one package, pictures not counted since nothing opens them."""


class Relation(NamedTuple):
    """What one part says of another.

    Attributes:
        kind: The last word of its type, such as ``slide`` or ``footnotes``.
        target: The name of the other part; "" when it is an address outside.
    """

    kind: str
    target: str


class Package:
    """The parts of a package, found by name without regard to case.

    Raises:
        SkipDocument: ``damaged`` when it is no complete zip file, here or while it is read;
            ``encrypted``, ``too large``.
    """

    def __init__(self, data: bytes) -> None:
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
            raise SkipDocument("damaged", f"no complete zip file: {error}") from error
        entries = self._zip.infolist()
        if len(entries) > MAX_PARTS:
            raise SkipDocument("too large", f"more than {MAX_PARTS:,} parts")
        self._entries = {
            entry.filename.replace("\\", "/").lstrip("/").lower(): entry for entry in entries
        }
        self._room = MAX_BYTES
        self._relations: dict[str, Mapping[str, Relation]] = {}

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._entries

    @property
    def names(self) -> Collection[str]:
        """The names of all parts, in lower case."""
        return self._entries.keys()

    def read(self, name: str) -> bytes:
        """Return a part.

        Raises:
            KeyError: There is no such part.
            SkipDocument: As the class says.
        """
        with self.open(name) as part:
            data = part.read(MAX_PART_BYTES + 1)
        if len(data) > MAX_PART_BYTES:
            raise SkipDocument("too large", f"{name} unpacks to more than {MAX_PART_BYTES:,} bytes")
        return data

    def open(self, name: str) -> IO[bytes]:
        """Open a part as a stream that counts; errors as ``read``."""
        return io.BufferedReader(_Part(self, self._entries[name.lower()]), 1 << 16)

    def xml(self, name: str) -> Element:
        """Return the root element of a part; errors as ``read`` and ``parse_xml``."""
        return parse_xml(self.read(name))

    def iterate(
        self, name: str, whole: Collection[str], opened: Collection[str] = ()
    ) -> Iterator[Element]:
        """Yield elements of a part as ``iterate_xml`` does; errors as ``read``."""
        with self.open(name) as part:
            yield from iterate_xml(part, whole, opened)

    def relations(self, name: str) -> Mapping[str, Relation]:
        """Return what a part refers to, by id; nothing outside the package has a target."""
        if name not in self._relations:
            folder, _, base = name.rpartition("/")
            self._relations[name] = self._read_relations(f"{folder}/_rels/{base}.rels", folder)
        return self._relations[name]

    def related(self, name: str, kind: str) -> list[str]:
        """Return the names of the parts that a part refers to as this kind, in its order."""
        return [
            relation.target
            for relation in self.relations(name).values()
            if relation.kind == kind and relation.target
        ]

    def _read_relations(self, name: str, folder: str) -> dict[str, Relation]:
        found: dict[str, Relation] = {}
        if (name := name.lstrip("/")) not in self:
            return found
        for element in self.xml(name):
            target = element.get("Target", "")
            inside = element.get("TargetMode") != "External"
            part = self.resolve(folder, target) if inside else ""
            kind = element.get("Type", "").rpartition("/")[2]
            found[element.get("Id", "")] = Relation(kind, part)
        return found

    def resolve(self, folder: str, target: str) -> str:
        """Return the name of the part that a reference means; "" when there is none."""
        try:
            address = urlsplit(target.replace("\\", "/"))
        except ValueError:
            return ""
        if address.scheme or address.netloc:
            return ""
        for path in (unquote(address.path), address.path):
            name = posixpath.normpath(posixpath.join("/", folder, path)).lstrip("/")
            if name in self:
                return name
        return ""

    def unpack(self, entry: zipfile.ZipInfo) -> IO[bytes]:
        """Open an entry that may not be encrypted."""
        if entry.flag_bits & 1:
            raise SkipDocument("encrypted", "its parts need a password")
        try:
            return self._zip.open(entry)
        except _BROKEN as error:
            raise SkipDocument("damaged", f"{entry.filename}: {error}") from error

    def count(self, size: int) -> None:
        """Take unpacked bytes off what may still be read."""
        self._room -= size
        if self._room < 0:
            raise SkipDocument("too large", f"it unpacks to more than {MAX_BYTES:,} bytes")


_BROKEN = (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, zlib.error, ValueError)


class _Part(io.RawIOBase):
    """One part as a stream; what is read of it is counted by its package."""

    def __init__(self, package: Package, entry: zipfile.ZipInfo) -> None:
        self._package = package
        self._name = entry.filename
        self._stream = package.unpack(entry)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride] - typeshed names the buffer by a protocol of its own
        try:
            data = self._stream.read(len(buffer))
        except _BROKEN as error:
            raise SkipDocument("damaged", f"{self._name}: {error}") from error
        self._package.count(len(data))
        buffer[: len(data)] = data
        return len(data)
