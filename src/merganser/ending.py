"""One signal ends any command, whatever it waits for.

A signal raises in the main thread, which then gives up in good order. What does not come to its end
within ``GRACE_SECONDS``, because a thread waits for a server or computes, is cut off: everything
that is on disk is whole at any moment, as it is for a process that is killed.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from contextlib import suppress
from threading import Thread, current_thread, main_thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

GRACE_SECONDS = 6.0
"""Time to give up in good order; a supervisor kills after ten."""

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}


class EndedError(KeyboardInterrupt):
    """SIGTERM or SIGHUP came; whoever lets a Ctrl-C through lets it through too."""


class _Ending:
    """What this process knows of its end."""

    is_watched = False
    received: int | None = None
    before_cut: Callable[[], object] | None = None


_ending = _Ending()


def end_on_signals() -> None:
    """Have SIGINT, SIGTERM and SIGHUP end this process; call once, in the main thread."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # nohup has SIGHUP ignored
            signal.signal(number, _raise)
    cut_off_after_signals()


def cut_off_after_signals() -> None:
    """Cut this process off some time after a signal that something else handles.

    Does nothing outside the main thread, which alone may watch signals.
    """
    if current_thread() is not main_thread():
        return
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    # Written at once, also while the main thread is in a call that handles no signals.
    signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    Thread(target=_watch, args=(receiver, sender), name="merganser-ending", daemon=True).start()
    _ending.is_watched = True


def cut_off_later(number: int) -> None:
    """Cut this process off after the grace, for who handles signals by other means.

    Args:
        number: The signal that came.
    """
    if _ending.is_watched and _ending.received is None:
        _ending.received = number
        Thread(target=_cut_off_after, args=(time.monotonic() + GRACE_SECONDS,), daemon=True).start()


def before_cut(call: Callable[[], object] | None) -> None:
    """Set what is called before this process is cut off; it must take a second at most."""
    _ending.before_cut = call


def exit_code() -> int:
    """Return the exit code of a command that was ended: 128 and the signal's number."""
    return 128 + (_ending.received or signal.SIGINT)


def what_ended() -> str:
    """Return the name of the signal that came."""
    return _NAMES[signal.Signals(_ending.received or signal.SIGINT)]


def _raise(number: int, frame: FrameType | None) -> None:
    del frame
    _ending.received = _ending.received or number
    raise EndedError


def _watch(receiver: socket.socket, sender: socket.socket) -> None:
    """Wait for the first signal, then for the grace or an impatient Ctrl-C."""
    with receiver, sender:
        number = _next(receiver)
        _ending.received = _ending.received or number
        deadline = time.monotonic() + GRACE_SECONDS
        with suppress(TimeoutError):
            while (left := deadline - time.monotonic()) > 0:
                receiver.settimeout(left)
                if _next(receiver) == signal.SIGINT:
                    break
        _cut_off_after(time.monotonic())


def _next(receiver: socket.socket) -> int:
    """Return the next signal that ends.

    Raises:
        TimeoutError: None came in the socket's time.
    """
    while True:
        number = receiver.recv(1)[0]
        if number in _ENDING:
            return number


def _cut_off_after(deadline: float) -> None:
    time.sleep(max(0.0, deadline - time.monotonic()))
    if _ending.before_cut is not None:
        call = Thread(target=_ending.before_cut, daemon=True)
        call.start()
        call.join(1.0)
    if "multiprocessing" in sys.modules:
        from multiprocessing import active_children  # noqa: PLC0415 - loaded if there are any

        for child in active_children():
            child.kill()
    with suppress(OSError, ValueError):
        if sys.stderr.isatty():
            sys.stderr.write("\x1b[?25h")  # a progress bar had hidden the cursor
        sys.stderr.write(f"\n{what_ended()}: ended; finished shards and answers are kept\n")
        sys.stderr.flush()
    os._exit(exit_code())
