"""Open what was resolved, through no link, and read it as text.

A tree may change between the check of a path and its opening. So a path is opened one folder after
the other, each from the descriptor of the one above and never through a link: a link that somebody
puts in between ends the reading and leads nowhere.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from merganser.documents.encoding import decode
from merganser.documents.file_types import language_of
from merganser.documents.secret_files import refuse_secret_path, refuse_secret_text
from merganser.documents.secrets import redact_secrets
from merganser.errors import MerganserError, SkipDocument

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

MAX_FILE_BYTES = 2 * 1024 * 1024
"""Larger files are not read at all; source files are far smaller, data dumps far larger."""

MAX_PATH_CHARACTERS = 200
"""Of a path in a message; the longest that a system takes are of 4,096 bytes."""

# To pass through a folder needs no right to list it; macOS has another name for that.
_PASS = getattr(os, "O_PATH", 0) or getattr(os, "O_SEARCH", 0)
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

Kind = Literal["file", "folder", "link", "other", ""]
"""What an entry is itself, not what a link leads to; empty when nothing can be seen there."""


class FilesystemError(MerganserError):
    """A file cannot be read as asked; the message is meant for the model."""


@contextmanager
def system_errors(shown: str, what: str) -> Generator[None]:
    """Make an error of the system one that is told to the model.

    Raises:
        FilesystemError: The system refused the path, or it is no path at all.
    """
    try:
        yield
    except NotADirectoryError as error:
        raise FilesystemError(f"{shown} is not a directory") from error
    except OSError as error:
        raise FilesystemError(f"{shown} cannot {what}: {error.strerror}") from error
    except (UnicodeError, RuntimeError) as error:  # lone surrogates; links in a circle
        raise FilesystemError(f"{shown} is no name of a file") from error


@contextmanager
def open_resolved(real: Path, flags: int) -> Generator[int]:
    """Open a resolved path, one folder after the other, through no link.

    Raises:
        OSError: It is not there, or a link is on the way or at the end.
    """
    descriptor = os.open("/", FOLDER | _PASS)
    try:
        for folder in real.parts[1:-1]:
            below = os.open(folder, FOLDER | _PASS, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        last = os.open(real.name or ".", flags | os.O_NOFOLLOW, dir_fd=descriptor)
    finally:
        os.close(descriptor)
    try:
        yield last
    finally:
        os.close(last)


def kind_of(real: Path) -> Kind:
    """Return what is at a resolved path."""
    try:
        with open_resolved(real.parent, FOLDER | _PASS) as folder:
            status = os.stat(real.name or ".", dir_fd=folder, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    kinds: dict[int, Kind] = {
        stat.S_IFREG: "file",
        stat.S_IFDIR: "folder",
        stat.S_IFLNK: "link",
    }
    return kinds.get(stat.S_IFMT(status.st_mode), "other")


def kind_of_entry(entry: os.DirEntry[str]) -> Kind:
    """Return what an entry of a listing is."""
    if entry.is_symlink():
        return "link"
    if entry.is_dir(follow_symlinks=False):
        return "folder"
    return "file" if entry.is_file(follow_symlinks=False) else "other"


def quote(path: str) -> str:
    """Quote a path for a message, shortened, with what is no character escaped."""
    cut = path if len(path) <= MAX_PATH_CHARACTERS else f"{path[:MAX_PATH_CHARACTERS]}..."
    return repr(cut)


def escape_name(name: str) -> str:
    """Return a name as text; bytes that are not UTF-8 are escaped."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def read_text(real: Path, path: str) -> str:
    """Read a whole text file, through no link.

    Args:
        real: Resolved.
        path: As it was given, for messages.

    Raises:
        FilesystemError: Not a regular text file, or too large.
    """
    shown = quote(path)
    # O_NONBLOCK: to open a pipe would wait for a writer.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    with system_errors(shown, "be read"), open_resolved(real, flags) as descriptor:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FilesystemError(f"{shown} is not a file")
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise FilesystemError(f"{shown} is larger than {MAX_FILE_BYTES:,} bytes")
    try:
        text = decode(content, is_html=language_of(str(real)) == "html").text
    except SkipDocument as skipped:
        raise FilesystemError(
            f"{shown} is no text: {skipped.detail or skipped.reason}"
        ) from skipped
    if refuse_secret_path(str(real)) or refuse_secret_text(str(real), text):
        raise FilesystemError(f"{shown} holds secrets and may not be read")
    return redact_secrets(text)
