"""The index folder: its files, which snapshot is served, and the refusal of foreign files.

::

    CURRENT             which snapshots there are and which one is served; replaced in one step
    g000007.duckdb      a snapshot's catalogue, immutable: meta, files, segments, skipped, canaries
    s000003.duckdb      a segment, immutable, shared by snapshots: chunks, vectors, terms, postings
    s000003.usearch     its approximate index, immutable; only beside large segments
    embeddings/         vectors that are paid for but not in a published segment yet
    build/<run id>/     work in progress of one run
    damaged/            damaged files that a repair moved out of the way
    observed.json       scan cache: what is known of files whose content did not change
    history.duckdb      one row a run
    writer.lock         held by the run that writes; writer.json says who that is

File names are never used twice, because DuckDB hands out the old database again when a file of the
same name is opened while a connection to the old one lives.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, cast

from merganser.errors import DamagedIndexError, StoreError, StoreFormatError
from merganser.store.identity import FileMark

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FORMAT_VERSION = 1
"""Raised when an older merganser could not read the folder any more."""

_OURS = re.compile(
    r"CURRENT(\.tmp)?|[gs]\d{6,}\.duckdb(\.wal)?|s\d{6,}\.usearch(\.tmp)?|embeddings|build|damaged|observed\.json(\.\d+\.tmp)?"
    r"|history\.duckdb(\.wal)?|writer\.(lock|json)(\.tmp)?|\.gitignore(\.tmp)?"
)


_SEGMENT = re.compile(r"s\d{6,}\.duckdb")


@dataclass(frozen=True, slots=True)
class Current:
    """What ``CURRENT`` says.

    Attributes:
        generation: The served snapshot.
        kept: All snapshots that are kept, most recently served first; ``generation`` is first.
        next_generation: Number of the next snapshot; numbers are never used twice.
        next_segment: Number of the next segment.
        marks: What the catalogues of the kept snapshots are known by; none for those that were
            published before this was kept.
    """

    generation: int
    kept: tuple[int, ...]
    next_generation: int
    next_segment: int
    marks: Mapping[int, FileMark] = field(default_factory=dict[int, FileMark])


@dataclass(frozen=True, slots=True)
class IndexFolder:
    """The paths of one index.

    Attributes:
        path: The folder; it need not exist yet.
    """

    path: Path

    @property
    def embeddings(self) -> Path:
        """Folder of the vectors that are not in a segment yet."""
        return self.path / "embeddings"

    @property
    def build(self) -> Path:
        """Folder of the runs in progress."""
        return self.path / "build"

    @property
    def damaged(self) -> Path:
        """Folder of what a repair moved out of the way."""
        return self.path / "damaged"

    @property
    def history(self) -> Path:
        """The database with one row a run."""
        return self.path / "history.duckdb"

    @property
    def scan_cache(self) -> Path:
        """File of the scan cache: what is known of files whose content did not change."""
        return self.path / "observed.json"

    def catalogue(self, generation: int) -> Path:
        """File of a snapshot's catalogue."""
        return self.path / f"g{generation:06d}.duckdb"

    def segment(self, number: int) -> Path:
        """File of a segment."""
        return self.path / f"s{number:06d}.duckdb"

    def create(self) -> None:
        """Make the folder, or refuse what stands there.

        Raises:
            StoreFormatError: A foreign file or folder is in the way.
            StoreError: The folder cannot be made or written.
        """
        self.check()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not (self.path / ".gitignore").exists():
                # The index of a repository is not part of the repository.
                replace_file(self.path / ".gitignore", b"*\n")
        except OSError as error:
            raise StoreError(
                f"cannot write to the index folder {str(self.path)!r}: {error.strerror}; "
                "make it writable or name another one with `database`"
            ) from error

    def check(self) -> None:
        """Refuse what is no index folder; an absent or empty folder is fine.

        Raises:
            StoreFormatError: Something else stands there, which is never overwritten.
        """
        if self.path.is_file():
            raise StoreFormatError(
                f"{str(self.path)!r} is {_describe_file(self.path)}, and an index is a folder; it "
                "was left as it is: move it away or name another place with `database`"
            )
        if not self.path.is_dir() or (self.path / "CURRENT").exists():
            return
        foreign = sorted(e.name for e in self.path.iterdir() if not _OURS.fullmatch(e.name))
        if foreign:
            names = ", ".join(repr(name) for name in foreign[:3])
            more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
            raise StoreFormatError(
                f"the folder {str(self.path)!r} holds files that are not of an index ({names}"
                f"{more}); name another folder with `database`"
            )

    def read_current(self) -> Current | None:
        """Return what is served, or None when nothing has been published.

        Raises:
            StoreFormatError: A newer merganser wrote the folder, or something else stands there.
            StoreError: ``CURRENT`` is damaged; the message says what can be done.
        """
        self.check()
        try:
            text = (self.path / "CURRENT").read_text("utf-8")
        except FileNotFoundError:
            if self._has_lost_current():
                raise self._damaged("it is missing") from None
            return None
        except NotADirectoryError as error:
            raise StoreFormatError(
                f"{str(self.path)!r} is no folder; name another place with `database`"
            ) from error
        except (OSError, UnicodeDecodeError) as error:
            raise self._damaged(str(error)) from error
        try:
            data = cast("dict[str, Any]", json.loads(text))
            version = int(data["format"])
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(f"it reads {text[:60]!r}") from error
        checksum = data.pop("checksum", None)
        if checksum is not None and version <= FORMAT_VERSION and checksum != _checksum(data):
            raise self._damaged("it was altered")
        if version > FORMAT_VERSION:
            raise StoreFormatError(
                f"the index {str(self.path)!r} has format {version}, this merganser knows up to "
                f"{FORMAT_VERSION}: upgrade merganser, or name another folder with `database`"
            )
        try:
            current = Current(
                generation=int(data["generation"]),
                kept=tuple(int(number) for number in data["kept"]),
                next_generation=int(data["next_generation"]),
                next_segment=int(data["next_segment"]),
                marks={int(n): FileMark(**mark) for n, mark in data.get("marks", {}).items()},
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._damaged(f"it reads {text[:60]!r}") from error
        if not current.kept or current.kept[0] != current.generation:
            raise self._damaged("the served snapshot is not among the kept ones")
        return current

    def write_current(self, current: Current) -> None:
        """Switch readers to a snapshot: one atomic rename, on disk when this returns."""
        marks = {str(n): asdict(m) for n, m in sorted(current.marks.items()) if n in current.kept}
        data: dict[str, Any] = {"format": FORMAT_VERSION, **asdict(current), "marks": marks}
        data = json.loads(json.dumps(data))  # as it will be read
        data["checksum"] = _checksum(data)
        replace_file(self.path / "CURRENT", json.dumps(data).encode() + b"\n")

    def catalogues_on_disk(self) -> tuple[int, ...]:
        """Return the numbers of all catalogue files, ascending, whether kept or not."""
        return self._numbers("g")

    def segments_on_disk(self) -> tuple[int, ...]:
        """Return the numbers of all segment files, ascending, whether referenced or not."""
        return self._numbers("s")

    def graphs_on_disk(self) -> tuple[int, ...]:
        """Return the numbers of the segments with an approximate index, finished or not."""
        return tuple(sorted({*self._numbers("s", "usearch"), *self._numbers("s", "usearch.tmp")}))

    def _numbers(self, letter: str, suffix: str = "duckdb") -> tuple[int, ...]:
        if not self.path.is_dir():
            return ()
        pattern = re.compile(rf"{letter}(\d+)\.{re.escape(suffix)}")
        matches = (pattern.fullmatch(entry.name) for entry in self.path.iterdir())
        return tuple(sorted(int(m.group(1)) for m in matches if m))

    def _has_lost_current(self) -> bool:
        """Tell a folder whose ``CURRENT`` is gone from one whose first run died before it."""
        there = self.catalogues_on_disk()
        is_first_run = there == (1,) and self.build.is_dir() and any(self.build.iterdir())
        return bool(there) and not is_first_run

    def _damaged(self, seen: str) -> DamagedIndexError:
        there = ", ".join(str(number) for number in self.catalogues_on_disk()) or "none"
        path = self.path / "CURRENT"
        return DamagedIndexError(
            f"{str(path)!r} is damaged ({seen}); snapshots on disk: {there}. `merganser repair "
            "FILE` mends it, and so does `merganser rollback` to one of them",
            path=path,
            problem=f"is damaged: {seen}",
        )


def _checksum(data: Mapping[str, Any]) -> str:
    text = json.dumps(data, sort_keys=True).encode()
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def is_segment_name(name: str) -> bool:
    """Return whether a file of an index folder may be a segment; a path elsewhere is none."""
    return _SEGMENT.fullmatch(name) is not None


def _describe_file(path: Path) -> str:
    """Describe what a file in the way is, by its first bytes."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError:
        return "a file that cannot be read"
    if head.startswith(b"SQLite format 3\x00"):
        return "an SQLite database (cagent keeps its index in one)"
    if head[8:12] == b"DUCK":
        return "a single DuckDB database"
    return "a file of another kind"


def replace_file(
    path: Path, content: bytes | memoryview, *, suffix: str = ".tmp", is_durable: bool = True
) -> None:
    """Write a file so that readers see the old content or the new one.

    Args:
        path: The file.
        content: All of it.
        suffix: Suffix of the temporary name; unique where several processes may write at once.
        is_durable: Whether it survives a power cut; costs milliseconds.
    """
    temporary = path.with_name(path.name + suffix)
    with temporary.open("wb") as file:
        file.write(content)
        if is_durable:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)
    if is_durable:
        sync_folder(path.parent)


def move_file(source: Path, target: Path) -> None:
    """Move a finished file to its place, flushed before it gets its name."""
    sync_file(source)
    source.replace(target)


def sync_file(path: Path) -> None:
    """Flush a file to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Flush the names in a folder to disk, where the system can do that."""
    with contextlib.suppress(PermissionError, NotImplementedError):  # folders on Windows
        sync_file(path)
