"""Progress on stderr: bars on a terminal, one plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from merganser.cli.terminal import say, visible
from merganser.progress import Remark, listening

if TYPE_CHECKING:
    from collections.abc import Generator

    from rich.progress import ProgressColumn, Task, TaskID

    from merganser.progress import Progress

PLAIN_SECONDS = 5.0
"""Without a terminal, a log line this often tells that work goes on and does not flood a log."""


@contextmanager
def shown_progress(*, quiet: bool = False) -> Generator[None]:
    """Show what is reported during the block; nothing when ``quiet``."""
    if quiet:
        yield
    elif sys.stderr.isatty():
        with _bars():
            yield
    else:
        with listening(_PlainLines().show):
            yield


@contextmanager
def _bars() -> Generator[None]:
    from rich.console import Console
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    ids: dict[str, TaskID] = {}
    lock = Lock()
    # Drawn only while something is going on: bars redraw their lines ten times a second, and an
    # answer that streams or a question that waits below them would be erased with them.
    bars = Bars(
        *columns(console.width),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )

    def show(progress: Progress | Remark) -> None:
        with lock:
            if isinstance(progress, Remark):
                bars.console.print(visible(progress.text), markup=False, highlight=False)
                return
            bars.start()
            if progress.activity not in ids:
                ids[progress.activity] = bars.add_task(
                    visible(progress.activity), total=progress.total, unit=progress.unit
                )
            task = next(task for task in bars.tasks if task.id == ids[progress.activity])
            completed = progress.done + (task.completed if progress.advance else 0)
            total = task.total if progress.total is None else progress.total
            bars.update(task.id, completed=completed, total=total)
            if bars.finished:
                bars.stop()
                for done in bars.task_ids:
                    bars.remove_task(done)
                ids.clear()

    try:
        with listening(show):
            yield
    finally:
        bars.stop()


def columns(width: int) -> tuple[ProgressColumn, ...]:
    """Return what a bar shows, in one line: the name is cut where the terminal is narrow.

    A line that wraps is not erased when the bar is drawn again.

    Args:
        width: Of the terminal, in characters.
    """
    from rich.progress import BarColumn, ProgressColumn, TimeRemainingColumn
    from rich.table import Column
    from rich.text import Text

    class _Name(ProgressColumn):
        """What goes on."""

        def render(self, task: Task) -> Text:
            return Text(task.description, no_wrap=True, overflow="ellipsis")

    class _Amount(ProgressColumn):
        """What is done of what there is."""

        def render(self, task: Task) -> Text:
            return Text(_of(task.completed, task.total, task.fields["unit"]))

    class _Rate(ProgressColumn):
        """Units a second, as measured of late."""

        def render(self, task: Task) -> Text:
            return Text(f"{_amount(task.speed, task.fields['unit'])}/s" if task.speed else "")

    def whole() -> Column:
        return Column(no_wrap=True)

    return (
        _Name(),
        BarColumn(bar_width=max(4, min(40, width // 5)), table_column=whole()),
        _Amount(whole()),
        _Rate(whole()),
        TimeRemainingColumn(table_column=whole()),
    )


@dataclass(slots=True)
class _Activity:
    """One activity without a terminal; times are of ``time.monotonic``."""

    started: float
    done: int = 0
    total: int | None = None
    shown: float | None = None


class _PlainLines:
    """Writes the state of an activity at most every ``PLAIN_SECONDS`` seconds."""

    def __init__(self) -> None:
        self._activities = dict[str, _Activity]()
        self._lock = Lock()

    def show(self, progress: Progress | Remark) -> None:
        with self._lock:
            if isinstance(progress, Remark):
                say(progress.text, err=True)
            else:
                self._show(progress)

    def _show(self, progress: Progress) -> None:
        now = time.monotonic()
        one = self._activities.setdefault(progress.activity, _Activity(now))
        before, one.done = one.done, progress.done + (one.done if progress.advance else 0)
        one.total = one.total if progress.total is None else progress.total
        finished = one.total is not None and one.done >= one.total
        if not finished and one.shown is not None and now - one.shown < PLAIN_SECONDS:
            return
        if finished and before >= (one.total or 0) and one.shown is not None:
            return
        one.shown = now
        seconds, left = now - one.started, ""
        if one.total and one.done and seconds > 1.0 and not finished:
            rate, rest = one.done / seconds, (one.total - one.done) * seconds / one.done
            left = f", {_amount(rate, progress.unit)}/s, about {rest:.0f} s left"
        state = _of(one.done, one.total, progress.unit)
        say(f"{progress.activity}: {state}{left}", err=True)


def _of(done: float, total: float | None, unit: str) -> str:
    of = "" if total is None else f" of {_amount(total, unit)}"
    return f"{_amount(done, unit)}{of}" + ("" if unit == "bytes" else f" {unit}")


def _amount(number: float, unit: str) -> str:
    """Write a number of units; bytes with a unit that suits their size."""
    return f"{number / 1e6:,.1f} MB" if unit == "bytes" else f"{number:.0f}"
