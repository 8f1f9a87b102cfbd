"""One writer an index: the lock and who holds it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from merganser.errors import StoreBusyError, StoreError
from merganser.store.folder import replace_file

if TYPE_CHECKING:
    from merganser.store.folder import IndexFolder


class WriterLock:
    """The right to write one index, held until ``release`` or the end of the process.

    The operating system drops the lock when the process dies, however it dies, so there is no
    stale lock. It may be released by another thread than the one that took it.

    Raises:
        StoreBusyError: Another run holds it; the message says who and since when.
        StoreError: The folder cannot be written.
    """

    def __init__(self, folder: IndexFolder) -> None:
        folder.create()
        self._holder = folder.path / "writer.json"
        self._lock = FileLock(folder.path / "writer.lock", timeout=0, thread_local=False)
        data = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        try:
            self._lock.acquire()
        except Timeout:
            raise StoreBusyError(
                f"another run is writing the index {str(folder.path)!r}{self._who()}; "
                "wait for it or stop it"
            ) from None
        except OSError as error:
            raise self._refused("lock", folder, error) from error
        try:
            replace_file(self._holder, json.dumps(data).encode(), is_durable=False)
        except OSError as error:
            self._lock.release()
            raise self._refused("write to", folder, error) from error

    @staticmethod
    def _refused(what: str, folder: IndexFolder, error: OSError) -> StoreError:
        return StoreError(
            f"cannot {what} the index folder {str(folder.path)!r}: {error.strerror}; "
            "make it writable or name another one with `database`"
        )

    def release(self) -> None:
        """Let the next run write; does nothing the second time."""
        if self._lock.is_locked:
            with contextlib.suppress(OSError):
                self._holder.unlink(missing_ok=True)
            self._lock.release()

    def _who(self) -> str:
        try:
            data = json.loads(self._holder.read_text("utf-8"))
            return f" (process {data['pid']} on {data['host']}, started {data['started']})"
        except (OSError, ValueError, KeyError, TypeError):
            return ""
