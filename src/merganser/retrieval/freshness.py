"""Whether the files of hits are still what was indexed.

Only the files of hits are looked at, and only those are read whose size or time changed, so the
check costs microseconds where nothing changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from merganser.documents.kinds import ALL_KINDS
from merganser.documents.reading import content_hash, read_document
from merganser.documents.scanning import Document, mtime_of
from merganser.errors import SkipDocument

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from merganser.chunking.places import Place
    from merganser.retrieval.strategies import Candidate, OpenIndex

FileState = Literal["same", "changed", "gone"]


@dataclass(frozen=True, slots=True)
class FileCheck:
    """One file of a hit.

    Attributes:
        path: As indexed.
        state: Compared with what was indexed.
        text: The whole file, when it was asked for and is what was indexed; otherwise None.
        places: Where the lines of that text stand, as in ``DocumentText``.
    """

    path: str
    state: FileState
    text: str | None = None
    places: tuple[Place, ...] = ()


def check_files(
    candidates: Sequence[Candidate], *, with_text: bool
) -> dict[tuple[str, str], FileCheck]:
    """Check the files of some candidates.

    Args:
        candidates: Any number of each file.
        with_text: Read the files that are what was indexed.

    Returns:
        Per index name and path.
    """
    by_file = {(one.index.definition.name, one.chunk.path): one for one in candidates}
    hashes = _Hashes()
    return {key: _check(one, hashes, with_text=with_text) for key, one in by_file.items()}


def file_notes(checks: Iterable[FileCheck], *, whole: bool) -> list[str]:
    """Say which files are not what was indexed.

    Args:
        checks: Of the files of hits.
        whole: Whole files were asked for, so the note says that the hit is the passage alone.
    """
    notes: list[str] = []
    for check in checks:
        if check.state == "same":
            continue
        became = "was removed" if check.state == "gone" else "changed"
        instead = ", so the passage is given and not the file" if whole else ""
        notes.append(f"{check.path} {became} since it was indexed{instead}: run `merganser index`")
    return notes


class _Hashes:
    """Content hashes as indexed; the list of files is read only when one is needed."""

    def __init__(self) -> None:
        self._by_index: dict[str, dict[str, str]] = {}

    def of(self, index: OpenIndex, path: str) -> str:
        name = index.definition.name
        if name not in self._by_index:
            self._by_index[name] = {f.path: f.content_hash for f in index.snapshot.files()}
        return self._by_index[name].get(path, "")


def _check(one: Candidate, hashes: _Hashes, *, with_text: bool) -> FileCheck:
    chunk = one.chunk
    absolute = one.index.definition.locate(chunk.path)
    try:
        status = absolute.stat()
        looks_same = (status.st_size, mtime_of(status)) == (
            chunk.file_size_bytes,
            chunk.file_mtime_ns,
        )
        if looks_same and not with_text:
            return FileCheck(chunk.path, "same")
        data_hash = content_hash(absolute.read_bytes()).hex()
    except OSError:
        return FileCheck(chunk.path, "gone")
    if data_hash != hashes.of(one.index, chunk.path):
        return FileCheck(chunk.path, "changed")
    if not with_text:
        return FileCheck(chunk.path, "same")
    document = Document(
        path=chunk.path,
        absolute=str(absolute),
        size_bytes=status.st_size,
        mtime_ns=mtime_of(status),
        inode=status.st_ino,
        language=chunk.language or None,
        wanted=ALL_KINDS,  # what was indexed is shown
    )
    try:
        read = read_document(document, secrets=one.index.definition.secrets)
    except SkipDocument:
        return FileCheck(chunk.path, "changed")
    # It may have been written between the two reads.
    if read.content_hash.hex() != data_hash:
        return FileCheck(chunk.path, "changed")
    return FileCheck(chunk.path, "same", read.text, read.places)
