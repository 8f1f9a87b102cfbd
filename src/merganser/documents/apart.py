"""Read files in a process of their own, in bounds of time, memory and output.

A library that meets a hostile file can run for ever, take all memory or crash, and nothing in the
same process can stop it. Here each of these ends the process, and costs that one file. The process
writes no file, opens no address and starts no program, whatever a library makes of what stands in a
document. It is kept for the next files of every format, since it takes longer to start than most
files to read, and goes when none has come for a while.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import traceback
from contextlib import suppress
from importlib import import_module
from threading import Lock, Timer
from typing import IO, TYPE_CHECKING

from merganser.chunking.places import Place
from merganser.chunking.sections import Embedded, Heading
from merganser.chunking.tables import Table
from merganser.documents.extracted import Extracted
from merganser.errors import SkipDocument

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CPU_SECONDS = 30
"""Processor time for one file; a manual of 5,000 pages takes some 10 s."""

WALL_SECONDS = 120.0
"""Time for one file by the clock, on a machine that has other work too."""

MEMORY_BYTES = 1 << 30
"""Address space of the process."""

MAX_ANSWER_BYTES = 256 << 20
"""Longest answer that is taken; what may be in it, its reader says."""

_IDLE_SECONDS = 30.0
_PROGRAM = "from merganser.documents.apart import serve; serve()"
_LENGTH_BYTES = 8


class ReaderProcess:
    """A process that calls readers; it starts with the first file.

    Safe in threads, which take turns, and across forks.
    """

    def __init__(self) -> None:
        self._forget()
        atexit.register(self.close)
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """Leave the process to the one that started it."""
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, function: str, data: bytes) -> Extracted:
        """Return what a reader makes of a file.

        Args:
            function: The reader as ``module:name``.
            data: The file.

        Raises:
            SkipDocument: As the function raises it; ``unreadable`` when it fails in any other way,
                takes too long or too much memory, or ends the process.
        """
        message = function.encode() + b"\0" + data
        with self._lock:
            # What a process came to by the files before is not this file's fault.
            while (is_used := self._process is not None) or self._start():
                try:
                    answer, why = self._ask(message)
                except BaseException:  # a signal, no memory: what it still answers is of this file
                    self.close()
                    raise
                if answer is not None:
                    return _unpack(answer)
                self.close()
                if not is_used or why == _TOO_LONG:
                    raise SkipDocument("unreadable", why)
        raise AssertionError("unreachable")

    def close(self) -> None:
        """End the process, if there is one."""
        if (process := self._process) is None:
            return
        self._process = None
        process.kill()
        process.communicate()

    def _start(self) -> bool:
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-P", "-c", _PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the run, which ends this process itself
            )
        except OSError as error:
            raise SkipDocument("unreadable", f"its reader does not start: {error}") from error
        return True

    def _ask(self, message: bytes) -> tuple[bytes | None, str]:
        """Send a file; return the answer, or None and why there is none."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        timer = Timer(WALL_SECONDS, process.kill)
        timer.daemon = True
        timer.start()
        try:
            with suppress(BrokenPipeError):  # it may say why before it goes
                _send(process.stdin, message)
            if (answer := _receive(process.stdout, MAX_ANSWER_BYTES)) is not None:
                return answer, ""
            process.kill()
            return None, _describe(process.wait(), in_time=timer.is_alive())
        finally:
            timer.cancel()


SHARED = ReaderProcess()
"""The one that all formats use."""

_TOO_LONG = f"its reader took longer than {CPU_SECONDS} s"


def _describe(code: int, *, in_time: bool) -> str:
    """Say why a process ended that owes an answer, by its exit code."""
    if not in_time or code == -signal.SIGXCPU:
        return _TOO_LONG
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"its reader broke ({how}; it may take {MEMORY_BYTES >> 20:,} MB)"


def _unpack(answer: bytes) -> Extracted:
    told = json.loads(answer)
    if "skip" in told:
        raise SkipDocument(*told["skip"])
    text, headings, places, encoding, note, embedded, tables = told["read"]
    return Extracted(
        text,
        None if headings is None else tuple(Heading(*heading) for heading in headings),
        tuple(
            Place(line, tuple((unit, name) for unit, name in steps), counts, label)
            for line, steps, counts, label in places
        ),
        encoding,
        note,
        tuple(Embedded(*stretch) for stretch in embedded),
        tuple(Table(*table) for table in tables),
    )


def _send(pipe: IO[bytes], message: bytes) -> None:
    pipe.write(len(message).to_bytes(_LENGTH_BYTES, "big"))
    pipe.write(message)
    pipe.flush()


def _receive(pipe: IO[bytes], max_bytes: int) -> bytes | None:
    """Return a message; None when the other side is gone, or sends one that is too long."""
    length = int.from_bytes(pipe.read(_LENGTH_BYTES).rjust(_LENGTH_BYTES, b"\xff"), "big")
    if length > max_bytes:
        return None
    message = pipe.read(length)
    return message if len(message) == length else None


# -- in the other process --------------------------------------------------------------------------


def serve() -> None:
    """Answer on standard output what comes on standard input, until nobody asks any more."""
    # What a library prints must not get between the answers.
    asked, answered = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    _limit_memory()
    sys.addaudithook(_refuse)
    while select.select([asked], [], [], _IDLE_SECONDS)[0]:
        message = _receive(asked, MAX_ANSWER_BYTES)
        if message is None:
            return
        function, _, data = message.partition(b"\0")
        _limit_time()
        _send(answered, json.dumps(_answer(function.decode(), data)).encode("ascii"))


def _answer(function: str, data: bytes) -> Mapping[str, object]:
    try:
        module, _, name = function.partition(":")
        read: Callable[[bytes], Extracted] = getattr(import_module(module), name)
        return {"read": read(data)}
    except SkipDocument as skip:
        return {"skip": [skip.reason, skip.detail]}
    except Exception as error:  # noqa: BLE001 - a stranger's file may find any fault of a reader
        return {"skip": ["unreadable", traceback.format_exception_only(error)[-1].strip()[:300]]}


_REFUSED = ("socket.", "subprocess.Popen", "os.system", "os.exec", "os.fork", "os.posix_spawn")


def _refuse(event: str, _: tuple[object, ...]) -> None:
    """Let no library reach the network or another program for what a document names."""
    if event.startswith(_REFUSED):
        raise PermissionError(f"a reader of documents may not do {event}")


def _limit_memory() -> None:
    import resource  # noqa: PLC0415 - not on every system

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(ValueError, OSError):  # a lower limit of the user stands
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _limit_time() -> None:
    """Allow the next file its processor time; the kernel ends the process when it is over."""
    import resource  # noqa: PLC0415 - not on every system

    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + CPU_SECONDS
    with suppress(ValueError, OSError):
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, hard))
