"""What flows log on a terminal holds nothing that the terminal would obey.

A command shows none of it; a worker's runs do where the user lowers
``PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL``. The UI gets the text as it is.
"""

from __future__ import annotations

import logging

from prefect.logging.handlers import PrefectConsoleHandler

from merganser.humanize import visible


class _Visible(logging.Formatter):
    """Formats as another one does, with control characters as escapes."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        return visible(self._inner.format(record))


def show_controls() -> None:
    """Have Prefect's console handlers show control characters; once is enough."""
    for logger in (logging.root, *logging.root.manager.loggerDict.values()):
        for handler in getattr(logger, "handlers", ()):
            ours = isinstance(handler.formatter, _Visible)
            if isinstance(handler, PrefectConsoleHandler) and not ours:
                handler.setFormatter(_Visible(handler.formatter or logging.Formatter()))
