"""Whether what hits cite still stands in their files, at the time of the query.

Only the files of the hits that are returned are looked at, and only those are read whose size or
time changed, each at most once and all of them together within ``_MOST_BYTES``: microseconds where
nothing changed. A passage of a file that changed is looked for in the file's text, which the
reader of the index decodes: lines that stand as they were are fresh, wherever the rest went. What
stands on pages, slides, sheets and cells is known by its file alone.
"""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from merganser.documents.files import read_file
from merganser.documents.kinds import ALL_KINDS
from merganser.documents.reading import FORMATS, TEXT, content_hash, read_document
from merganser.documents.repositories import is_commit
from merganser.documents.scanning import Document, mtime_of
from merganser.errors import SkipDocument
from merganser.store.rows import text_of

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from merganser.chunking.places import Place
    from merganser.config.index_definition import IndexDefinition
    from merganser.retrieval.hits import Freshness
    from merganser.retrieval.strategies import Candidate
    from merganser.store.rows import StoredChunk

_MOST_BYTES = 32 << 20
"""Bytes of changed files that one search reads; of what is beyond them nothing is vouched for."""

_MARK = re.compile(r"\[(?:secret: |[\d,]+ characters of )")
"""What may be a mark in place of something hidden, which only the whole reading puts there."""


@dataclass(frozen=True, slots=True)
class FileCheck:
    """One file of a hit.

    Attributes:
        path: As indexed.
        state: Compared with what was indexed, by its bytes.
        text: The whole file, where that was asked for and is what was indexed; otherwise None.
        places: Where the lines of that text stand, as in ``DocumentText``.
        lines: What its lines were and what they are, where it changed and has lines.
    """

    path: str
    state: Literal["same", "changed", "gone"]
    text: str | None = None
    places: tuple[Place, ...] = ()
    lines: _Lines | None = None


class _Lines(NamedTuple):
    """The lines of a file without the spaces at their ends.

    Attributes:
        then: As indexed, from line ``first`` on.
        first: Number of the first of them.
        now: In the file, from line 1 on, between line ends.
    """

    then: list[str]
    first: int
    now: str


@dataclass(frozen=True, slots=True)
class PassageCheck:
    """One hit.

    Attributes:
        file: Its file.
        freshness: Of its own lines.
        moved: How many lines further down they stand now; negative for up, 0 where they are not
            fresh.
    """

    file: FileCheck
    freshness: Freshness
    moved: int = 0


def check_passages(
    candidates: Sequence[Candidate], chunks: Sequence[StoredChunk], *, whole: bool
) -> list[PassageCheck]:
    """Check passages against their files.

    Args:
        candidates: Those that are returned.
        chunks: Their chunks, in the same order.
        whole: Read the files that are what was indexed, too.

    Returns:
        One check a passage, in the same order.
    """
    room = _MOST_BYTES
    files: dict[tuple[str, str], FileCheck] = {}
    checks: list[PassageCheck] = []
    for one, chunk in zip(candidates, chunks, strict=True):
        key = (one.index.definition.name, chunk.path)
        if key not in files:
            files[key], read = _check_file(one, chunk, room=room, whole=whole)
            room -= read
        checks.append(_check_passage(chunk, files[key]))
    return checks


def freshness_notes(checks: Iterable[PassageCheck], *, whole: bool) -> list[str]:
    """Say which files are not what was indexed, and whether the passages of them still stand.

    Args:
        checks: Of the hits.
        whole: Whole files were asked for, so the note says that the hit is the passage alone.
    """
    standing: dict[tuple[str, str], bool] = {}
    for check in checks:
        if check.file.state != "same":
            key = (check.file.path, check.file.state)
            standing[key] = standing.get(key, True) and check.freshness == "fresh"
    instead = ", so the passage is given and not the file" if whole else ""
    notes: list[str] = []
    for (path, state), fresh in standing.items():
        became = "was removed" if state == "gone" else "changed"
        where = " elsewhere" if fresh else ""
        notes.append(f"{path} {became}{where} since it was indexed{instead}: run `merganser index`")
    return notes


def _check_file(
    one: Candidate, chunk: StoredChunk, *, room: int, whole: bool
) -> tuple[FileCheck, int]:
    """Check a file, and say how many bytes were read for it."""
    definition = one.index.definition
    changed = FileCheck(chunk.path, "changed")
    try:
        status = definition.locate(chunk.path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return FileCheck(chunk.path, "same" if _is_pinned(definition, chunk.path) else "gone"), 0
    except OSError:  # it may be there, but nobody can read it
        return changed, 0
    if not stat.S_ISREG(status.st_mode):
        return FileCheck(chunk.path, "gone"), 0
    size, resized = status.st_size, status.st_size != chunk.file_size_bytes
    if not whole and not resized and mtime_of(status) == chunk.file_mtime_ns:
        return FileCheck(chunk.path, "same"), 0
    document = _describe(one, chunk, status)
    most = max(FORMATS.get(document.language, TEXT).max_bytes, chunk.file_size_bytes)
    if (resized and chunk.place) or size > most or (size > room and not whole):
        return changed, 0
    try:
        data = read_file(document.absolute, size)
    except OSError:
        return changed, 0
    if content_hash(data).hex() == one.index.snapshot.content_hash(chunk.path):
        found = _read_whole(one, document) if whole else FileCheck(chunk.path, "same")
    else:
        lines = None if chunk.place else _compare_lines(one, document, data)
        found = FileCheck(chunk.path, "changed", lines=lines)
    return found, size


def _is_pinned(definition: IndexDefinition, path: str) -> bool:
    """Return whether a file is of one commit, so that it stays as it is wherever it lies."""
    label = path.partition("/")[0]
    return any(one.label == label and is_commit(one.ref) for one in definition.repositories)


def _describe(one: Candidate, chunk: StoredChunk, status: os.stat_result) -> Document:
    return Document(
        path=chunk.path,
        absolute=str(one.index.definition.locate(chunk.path)),
        size_bytes=status.st_size,
        mtime_ns=mtime_of(status),
        inode=status.st_ino,
        language=chunk.language or None,
        wanted=ALL_KINDS,  # what was indexed is shown
    )


def _read_whole(one: Candidate, document: Document) -> FileCheck:
    """Read a file whose bytes are what was indexed."""
    try:
        read = read_document(document, secrets=one.index.definition.secrets)
    except SkipDocument:
        return FileCheck(document.path, "changed")
    # It may have been written between the two reads.
    if read.content_hash.hex() != one.index.snapshot.content_hash(document.path):
        return FileCheck(document.path, "changed")
    return FileCheck(document.path, "same", read.text, read.places)


def _compare_lines(one: Candidate, document: Document, data: bytes) -> _Lines | None:
    """Return what a file's lines were and are; None where they cannot be read as when indexed."""
    then, first = text_of(one.index.snapshot.file_chunks(document.path))
    try:
        if _MARK.search(then):
            now = read_document(document, secrets=one.index.definition.secrets).text
        else:  # a hundredth of the time
            now = FORMATS.get(document.language, TEXT).read(data).text
    except Exception:  # noqa: BLE001 - a stranger's file may find any fault of a reader
        return None
    return _Lines(_bare_lines(then), first, "\n".join(("", *_bare_lines(now), "")))


def _bare_lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.split("\n")]


def _check_passage(chunk: StoredChunk, file: FileCheck) -> PassageCheck:
    if file.state != "changed":
        return PassageCheck(file, "fresh" if file.state == "same" else "gone")
    moved = None if file.lines is None else _find_lines(chunk, file.lines)
    return PassageCheck(file, "changed" if moved is None else "fresh", moved or 0)


def _find_lines(chunk: StoredChunk, lines: _Lines) -> int | None:
    """Return by how many lines a passage moved; None where it is gone or stands at many places."""
    cited = lines.then[chunk.start_line - lines.first : chunk.end_line - lines.first + 1]
    blank = next((n for n, line in enumerate(cited) if line), len(cited))
    start = chunk.start_line + blank
    wanted = "\n".join(("", *cited[blank:])).rstrip("\n") + "\n"
    found = lines.now.find(wanted) if wanted.strip() else -1
    if found < 0:
        return None
    # Lines that stand where they stood are those, however often they occur.
    before = lines.now.split("\n", start)
    if len(before) > start and f"\n{before[start]}\n".startswith(wanted):
        return 0
    if lines.now.find(wanted, found + 1) >= 0:
        return None
    return lines.now.count("\n", 0, found + 1) - start
