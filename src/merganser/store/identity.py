"""Who a file of an index is, so that a damaged, foreign or restored one is told from it.

A segment has a random identity inside, as the comment of its table of chunks, which costs no block;
its snapshot's catalogue has that identity, the size and a checksum of the whole file. What
``CURRENT`` says of a catalogue is the same. Opening an index compares sizes and identities, which
takes 2 ms a segment; checksums are for ``merganser verify --read-data``. Files from before there
were identities are told by their sizes and rows alone. docs/adr/0013 has the reasons.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, BinaryIO

from merganser.errors import DamagedIndexError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import duckdb


@dataclass(frozen=True, slots=True)
class SegmentIdentity:
    """What a segment says of itself.

    Attributes:
        id: Random, 16 hex digits.
        embedding: Fingerprint of the model that embedded it, or "".
        dimensions: Length of its vectors, 0 without.
    """

    id: str
    embedding: str
    dimensions: int

    @classmethod
    def new(cls, embedding: str, dimensions: int | None) -> SegmentIdentity:
        """Make the identity of a new segment."""
        return cls(secrets.token_hex(8), embedding, dimensions or 0)


def sign(connection: duckdb.DuckDBPyConnection, name: str, identity: SegmentIdentity) -> None:
    """Write an identity into a segment that is attached for writing."""
    text = json.dumps(asdict(identity))  # hex digits and a fingerprint: no quote to double
    connection.execute(f"COMMENT ON TABLE {name}.chunks IS '{text}'").fetchall()


def read_identities(connection: duckdb.DuckDBPyConnection) -> dict[str, SegmentIdentity]:
    """Return the identities of the attached segments by the names that they are attached as."""
    found: dict[str, SegmentIdentity] = {}
    for name, comment in connection.execute(
        "SELECT database_name, comment FROM duckdb_tables() "
        "WHERE table_name = 'chunks' AND comment IS NOT NULL"
    ).fetchall():
        try:
            data = json.loads(comment)
            identity = SegmentIdentity(
                str(data["id"]), str(data["embedding"]), int(data["dimensions"])
            )
        except (ValueError, KeyError, TypeError):
            continue
        found[name] = identity
    return found


def compute_checksum(path: Path) -> str:
    """Read a file and return the hex of its 16-byte BLAKE2b; takes 1 s a GB."""
    with path.open("rb") as file:
        return hash_file(file, path.stat().st_size)


def hash_file(file: BinaryIO, size_bytes: int) -> str:
    """Return the checksum of the first bytes of an open file."""
    file.seek(0)
    digest, left = hashlib.blake2b(digest_size=16), size_bytes
    while left and (part := file.read(min(left, 1 << 18))):
        digest.update(part)
        left -= len(part)
    return digest.hexdigest()


def damaged(path: Path, problem: str) -> DamagedIndexError:
    """Return the error that names a damaged file of an index and the repair."""
    return DamagedIndexError(
        f"the index is damaged: {str(path)!r} {problem}; `merganser verify FILE` tells what else "
        "is, `merganser repair FILE` mends it",
        path=path,
        problem=problem,
    )


def check_size(path: Path, size_bytes: int) -> None:
    """Compare a file that never changes with the size that it was written with.

    Raises:
        FileNotFoundError: It is not there.
        DamagedIndexError: It has another size, is no file, or somebody wrote to it.
    """
    status = path.stat()
    if not path.is_file():
        raise damaged(path, "is no file")
    if status.st_size != size_bytes:
        raise damaged(path, f"has {status.st_size:,} bytes, {size_bytes:,} were written")
    if wal_of(path).exists():
        raise damaged(path, f"has changes in {wal_of(path).name!r}: another program wrote to it")


def check_identity(path: Path, expected: str, found: SegmentIdentity | None) -> None:
    """Compare the identity that a snapshot names with the one in the segment.

    Args:
        path: The segment, for the message.
        expected: By the catalogue; "" in one from before there were identities.
        found: What the segment says.

    Raises:
        DamagedIndexError: They differ.
    """
    if expected and (found is None or found.id != expected):
        raise damaged(path, "is another segment than the snapshot names: copied or restored?")


def wal_of(path: Path) -> Path:
    """Name the write-ahead log that DuckDB keeps beside a file, and replays when it opens it."""
    return path.with_name(path.name + ".wal")


@dataclass(frozen=True, slots=True)
class FileMark:
    """What is known of a catalogue, to be compared with the file.

    Attributes:
        identity: The run that built it, ``run_id`` of its meta.
        size_bytes: Size of the file.
        checksum: See ``compute_checksum``.
    """

    identity: str
    size_bytes: int
    checksum: str

    @classmethod
    def of(cls, path: Path, identity: str) -> FileMark:
        """Read a finished file."""
        return cls(identity, path.stat().st_size, compute_checksum(path))

    def check(self, path: Path, meta: Mapping[str, str]) -> None:
        """Compare a catalogue's own word with this one.

        Raises:
            DamagedIndexError: It is of another run.
        """
        if meta.get("run_id") != self.identity:
            raise damaged(path, "is of another run than CURRENT names: copied or restored?")
