"""A folder that several machines reach: small files, each written once and checked by its name.

A name ends in a hash of the content, so that whoever reads a file knows that it is whole and as it
was written, whatever the storage did and whoever else is writing. Paths (a mount of all machines)
and ``file://`` are written beside, flushed and renamed. Any other URL goes through fsspec, which
Prefect brings; what it needs for S3 and the like is installed by those who use it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from merganser.errors import StoreError
from merganser.store.folder import replace_file

if TYPE_CHECKING:
    from collections.abc import Generator

_DIGEST_BYTES = 10
_UNFINISHED = ".tmp"


class SharedFolder:
    """A folder by path or URL.

    Args:
        place: A path, or a URL that fsspec knows.

    Attributes:
        place: As given.

    Raises:
        StoreError: Nothing here can reach such a URL; the message says what is missing.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self._files = _open(place)

    def below(self, name: str) -> SharedFolder:
        """Return a folder in this one; it is made when something is put there."""
        return SharedFolder(f"{self.place.rstrip('/')}/{name}")

    def names(self) -> list[str]:
        """Return the names of the files and folders, sorted; none when there is no folder.

        Raises:
            StoreError: The storage cannot be read.
        """
        with self._naming_place("read"):
            return sorted(n for n in self._files.names() if not n.endswith(_UNFINISHED))

    def put(self, stem: str, content: bytes) -> str:
        """Write a file; a reader never takes a part of it for the whole.

        Args:
            stem: Beginning of the name.
            content: All of it.

        Returns:
            Its name: the stem and the hash.

        Raises:
            StoreError: It could not be written.
        """
        name = f"{stem}.{_digest(content)}"
        with self._naming_place("write"):
            self._files.write(name, content)
        return name

    def get(self, name: str) -> bytes:
        """Read a file that was put.

        Raises:
            FileNotFoundError: It is not there, or not as it was put.
            StoreError: The storage cannot be read.
        """
        with self._naming_place("read"):
            content = self._files.read(name)
        if name.rpartition(".")[2] != _digest(content):
            raise FileNotFoundError(f"{self.place}/{name} is not as it was written")
        return content

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with its files; one that is gone is no error.

        Raises:
            StoreError: It could not be removed.
        """
        with self._naming_place("write"):
            self._files.remove(name)

    @contextmanager
    def _naming_place(self, what: str) -> Generator[None]:
        """Name the place in errors; a file that is not there to read raises as it is."""
        try:
            yield
        except Exception as error:  # each kind of storage has its own
            if what == "read" and isinstance(error, FileNotFoundError):
                raise
            raise StoreError(
                f"cannot {what} the shards at {self.place!r}: {type(error).__name__}: {error}"
            ) from error


class _LocalFiles:
    """A folder of this machine, or one that is mounted here."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> list[str]:
        return [path.name for path in self._path.iterdir()] if self._path.is_dir() else []

    def read(self, name: str) -> bytes:
        return (self._path / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        self._path.mkdir(parents=True, exist_ok=True)
        unfinished = f".{socket.gethostname()}.{os.getpid()}{_UNFINISHED}"
        replace_file(self._path / name, content, suffix=unfinished)

    def remove(self, name: str) -> None:
        path = self._path / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


class _RemoteFiles:
    """A folder of a storage that fsspec reaches; half a file is told by its hash."""

    def __init__(self, system: Any, path: str) -> None:
        self._system = system
        self._path = path.rstrip("/")

    def names(self) -> list[str]:
        self._system.invalidate_cache()  # others write there too
        try:
            found: list[str] = self._system.ls(self._path, detail=False)
        except FileNotFoundError:
            return []
        return [path.rstrip("/").rpartition("/")[2] for path in found]

    def read(self, name: str) -> bytes:
        return self._system.cat_file(f"{self._path}/{name}")

    def write(self, name: str, content: bytes) -> None:
        self._system.makedirs(self._path, exist_ok=True)
        self._system.pipe_file(f"{self._path}/{name}", content)

    def remove(self, name: str) -> None:
        try:
            self._system.rm(f"{self._path}/{name}", recursive=True)
        except FileNotFoundError:
            return


def _open(place: str) -> _LocalFiles | _RemoteFiles:
    scheme, separator, rest = place.partition("://")
    if not separator or scheme in {"file", "local"}:
        return _LocalFiles(Path(rest if separator else place))
    import fsspec  # noqa: PLC0415 - only URLs pay for it

    library: Any = fsspec
    try:
        system, path = library.core.url_to_fs(place)
    except (ImportError, ValueError) as error:
        raise StoreError(f"the shards at {place!r} cannot be reached from here: {error}") from error
    return _RemoteFiles(system, path)


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).hexdigest()
