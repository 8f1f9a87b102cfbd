"""Which flow runs live on this machine: each leaves a file while its process lives.

So the runs of a process that was killed are found, as a server hears nothing of it.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from merganser.services.supervisor import merganser_home, process_alive

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


@contextmanager
def marked_run(run_id: object, server: str) -> Generator[None]:
    """Leave a file while a flow run lives in this process, so that a killed one is found.

    Args:
        run_id: Id of the run on the server.
        server: The server's address.
    """
    file = _runs() / f"{run_id}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"pid": os.getpid(), **_place(server)}))
    try:
        yield
    finally:
        if isinstance(sys.exc_info()[1], Exception | None):
            file.unlink(missing_ok=True)
        else:  # threads of the run may live on until the process is cut off, which leaves the file
            atexit.register(file.unlink, missing_ok=True)


def dead_runs(server: str) -> list[Path]:
    """Return the files of this machine's runs on a server whose processes are gone."""
    place = _place(server).items()
    found: list[Path] = []
    for file in sorted(_runs().glob("*.json")):
        with suppress(OSError, ValueError, KeyError):
            mark = json.loads(file.read_text())
            if place <= mark.items() and not process_alive(int(mark["pid"])):
                found.append(file)
    return found


def _runs() -> Path:
    return merganser_home() / "runs"


def _place(server: str) -> dict[str, str]:
    return {"host": socket.gethostname(), "server": server}
