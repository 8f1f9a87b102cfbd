"""What the reader of a format makes of a file's bytes; the protocol is in ``reading``."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from merganser.chunking.places import Place
    from merganser.chunking.sections import Embedded, Heading
    from merganser.chunking.tables import Table


class Extracted(NamedTuple):
    r"""The text of a file as its reader finds it.

    Attributes:
        text: With ``\n`` between lines where the reader makes them, else as the file has them.
        headings: By ascending ``start``; None where the structure is in the text itself, as in
            Markdown and in code.
        places: Where the lines stand, by ascending ``line``; empty where they are the file's own.
        encoding: Name of the codec that the bytes were decoded with; empty for formats that have
            none.
        note: What a reader of the run's report should know, such as ``the pictures of 3 pages
            hold no text``; mostly empty.
        embedded: Stretches of code in other languages, by ascending ``start``, without overlap.
        tables: Rows that say little without their header, by ascending ``first``; their header is
            repeated in each chunk of them.
    """

    text: str
    headings: tuple[Heading, ...] | None = None
    places: tuple[Place, ...] = ()
    encoding: str = ""
    note: str = ""
    embedded: tuple[Embedded, ...] = ()
    tables: tuple[Table, ...] = ()
