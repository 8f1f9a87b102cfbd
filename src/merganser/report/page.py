"""The report's page: one HTML document around the sections of indexes and batches."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING

from merganser.report.batch_section import render_batch
from merganser.report.index_section import render_index
from merganser.report.markup import show_time
from merganser.store.folder import replace_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from merganser.report.batch_facts import BatchFacts
    from merganser.report.facts import IndexFacts

# Whatever a path, an answer or an error says, the page runs no script and fetches nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def write_page(
    path: Path,
    *,
    title: str,
    indexes: Sequence[IndexFacts] = (),
    batches: Sequence[BatchFacts] = (),
    now: datetime | None = None,
) -> None:
    """Write the report so that whoever reads it meets the old one or the new one.

    Args:
        path: The file.
        title: Of the page.
        indexes: In the order of the page.
        batches: After them, likewise.
        now: For ages, with time zone; the present by default.

    Raises:
        OSError: It cannot be written.
    """
    now = now or datetime.now(UTC)
    sections = [render_index(one, now) for one in indexes]
    sections += [render_batch(one, number) for number, one in enumerate(batches)]
    text = _document(title, sections, now)
    # Names of files and answers of models may hold bytes that are no text.
    replace_file(path, text.encode("utf-8", "backslashreplace"), is_durable=False)


def _document(title: str, sections: Iterable[str], now: datetime) -> str:
    style = files("merganser.report").joinpath("style.css").read_text("utf-8")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body>"
        f"<header><h1>{escape(title)}</h1>"
        f'<p class="quiet">Made by merganser on {show_time(now)}.</p></header>'
        f"<main>{''.join(sections)}</main></body></html>\n"
    )
