"""Read a file's bytes in bounds: regular files alone, and no more of them than was asked for."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# Each is missing somewhere. With the first a pipe is opened at once, whoever writes it or not.
_NONBLOCK, _BINARY = getattr(os, "O_NONBLOCK", 0), getattr(os, "O_BINARY", 0)
_FLAGS = os.O_RDONLY | _NONBLOCK | _BINARY


def read_file(path: str | Path, max_bytes: int) -> bytes:
    """Return a file's bytes, at most one more than ``max_bytes``, by which a longer one is known.

    Raises:
        OSError: It cannot be read, or is a folder, a pipe or a device.
    """
    with os.fdopen(os.open(path, _FLAGS), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("not a regular file")
        return file.read(max_bytes + 1)
