r"""Chunk a document.

Owns options, chunks and the laws. Where chunks break is decided by ``merganser.chunking.code`` (a
syntax tree), ``merganser.chunking.sections`` (headings) and ``merganser.chunking.text`` (running
text).

The laws, for every text whatsoever:

- with overlap 0 the chunks' texts joined are the text; with overlap the spans cover it, in order;
- no chunk is longer than ``size`` characters, and none parts a ``\\r\\n``;
- line numbers are exact: lines end at ``\\n`` alone, as in editors and in ``path:line``;
- no chunk is blank unless the text holds more white space at one place than a chunk may.

Where the headings come from the file's own structure (HTML and PDF), blank lines stand for what is
not shown: there no chunk is blank at all, none begins or ends with blank lines, and joining gives
every character that is not white space.

What an option does:

- ``size``: the most characters of a chunk, its overlap included.
- ``overlap``: how many characters a chunk repeats from before its start, where it goes on with
  something that was divided: running text, a long function, a long section. Whole definitions and
  sections that stand side by side share nothing, so they do not repeat each other's ends.
- ``respect_word_boundaries``: a break that would fall inside a word moves back to white space if
  the second half of the window has some, and an overlap begins at a word. No text is dropped.
- ``code_aware``: breaks follow the syntax tree of the languages of ``languages``; in other text
  they follow blank lines and line ends, and an overlap begins at a line.

Markdown, reStructuredText, AsciiDoc, Org, HTML and PDF are chunked by their headings or pages, CSV
and JSON Lines by their rows, whatever the options say: these are the text's own structure. A chunk
of rows that does not hold the header of its table, in CSV and in Markdown, has it in front: its
span and lines are those of the rows, and that header is no part of the laws.

To add a chunker, write a ``Chunker`` in a module of its own and list it in ``STRUCTURED``, or name
the definitions of a programming language in ``LANGUAGES``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from merganser.chunking.boundaries import first_sentence_start, parts_word
from merganser.chunking.code import chunk_code
from merganser.chunking.components import chunk_component
from merganser.chunking.grammars import EXTRA, grammar_versions, is_installed
from merganser.chunking.languages import LANGUAGES
from merganser.chunking.outlines import chunk_asciidoc, chunk_org, chunk_rst
from merganser.chunking.places import describe_places, find_walls
from merganser.chunking.records import (
    chunk_csv,
    chunk_json_lines,
    find_csv_table,
    find_markdown_tables,
)
from merganser.chunking.sections import chunk_markdown, chunk_sections, chunk_yaml
from merganser.chunking.tables import Headers
from merganser.chunking.text import Limits, Piece, absorb_blanks, chunk_text, safe_break
from merganser.humanize import install_extra

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from merganser.chunking.places import Place
    from merganser.chunking.sections import Embedded, Heading
    from merganser.chunking.tables import Table

CHUNKER_VERSION = 3
"""Part of the fingerprint; goes up whenever the same file and options give other chunks."""

# Longer texts are not parsed: trees take some 10 times the text's memory. The scan's own cap is
# lower, so this is met only by callers who raise it.
_MAX_PARSED = 8_000_000
# Of nested definitions and several in one chunk, of headings above each other.
_MAX_SYMBOL = 1_000
# Languages in which a sentence goes on over the ends of lines; None is a name that says nothing.
PROSE = frozenset(
    {"text", "markdown", "restructuredtext", "asciidoc", "latex", "html", "pdf", None}
)
_BLANK_LINES = re.compile(r"(?:[^\S\n]*\n)*")


Chunker = Callable[[str, Limits], list[Piece]]
"""Returns pieces that tile a text, none longer than the limits say."""

STRUCTURED: Mapping[str, Chunker] = {
    "markdown": chunk_markdown,
    "restructuredtext": chunk_rst,
    "asciidoc": chunk_asciidoc,
    "org": chunk_org,
    "csv": chunk_csv,
    "jsonl": chunk_json_lines,
}
"""Chunkers of the languages whose own structure is followed whatever the options say."""

OUTLINED: Mapping[str, Chunker] = {
    "astro": chunk_component,
    "svelte": chunk_component,
    "vue": chunk_component,
    "yaml": chunk_yaml,
}
"""Chunkers of languages that are divided without a grammar, with ``code_aware``."""


@dataclass(frozen=True, slots=True)
class ChunkingOptions:
    """How documents are chunked; lengths in characters of the decoded text.

    Attributes:
        size: The most characters of a chunk, at least 2.
        overlap: Characters repeated from the chunk before, at least 0; more than half of ``size``
            counts as half.
        respect_word_boundaries: Whether breaks keep words whole where they can.
        code_aware: Whether breaks follow syntax trees, blank lines and line ends.
        sentences: Whether no chunk ends inside a word that fits in one, and prose is cut at ends of
            sentences where it can.
        code_size: As ``size``, for the languages of ``languages``; None for the same.

    Raises:
        ValueError: A length is out of range.
    """

    _: KW_ONLY
    size: int = 1500
    overlap: int = 75
    respect_word_boundaries: bool = False
    code_aware: bool = False
    sentences: bool = False
    code_size: int | None = None

    def __post_init__(self) -> None:
        if min(self.size, self.code_size or self.size) < 2 or self.overlap < 0:
            raise ValueError(
                f"chunks need a size of at least 2 and an overlap of at least 0, "
                f"got {self.size} and {self.overlap}"
            )

    def describe(self) -> str:
        """Return what holds, in a line for people.

        >>> ChunkingOptions(size=1500, code_size=1000, code_aware=True, sentences=True).describe()
        'code at definitions, 1,000 characters; other text at sentences, 1,500; overlap 75'
        """
        whole = " at words" if self.respect_word_boundaries else ""
        other = " at sentences" if self.sentences else whole
        if not self.code_aware:
            return f"all text{other}, {self.size:,} characters; overlap {self.overlap:,}"
        return (
            f"code at definitions, {self.code_size or self.size:,} characters; "
            f"other text{other}, {self.size:,}; overlap {self.overlap:,}"
        )

    def fingerprint(self) -> str:
        """Return a hex digest that differs whenever the same text might give other chunks.

        It covers the options, the chunker's version and, when syntax trees are used, the versions
        of the grammars.
        """
        facts = {
            "chunker": CHUNKER_VERSION,
            "size": self.size,
            "overlap": self.overlap,
            "respect_word_boundaries": self.respect_word_boundaries,
            "code_aware": self.code_aware,
            "sentences": self.sentences,
            "code_size": self.code_size,
            "grammars": grammar_versions() if self.code_aware else (),
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


class Chunk(NamedTuple):
    """A stretch of one document, small enough to be embedded.

    Attributes:
        ord: Place in the document, from 0.
        text: ``document[start_char:end_char]``; with rows of a table, behind a line of its header
            where that is not among them.
        start_line: Line of the first character, from 1.
        end_line: Line of the last character; a line end belongs to the line that it ends.
        start_char: First character in the decoded text.
        end_char: One past the last character.
        symbol: ``Flow.run``; several definitions as ``load, Flow.run``; a path of headings such as
            ``Install > Linux``; empty where nothing has a name.
        kind: ``function``, ``class``, ``method``, ``module`` (code of several kinds or at the top
            of a file), ``section`` or ``text``.
        place: Where it stands in the file, such as ``slides 3-4``; empty where that is its lines.
    """

    ord: int
    text: str
    start_line: int
    end_line: int
    start_char: int
    end_char: int
    symbol: str
    kind: str
    place: str = ""


def chunk_document(
    text: str,
    *,
    language: str | None,
    options: ChunkingOptions,
    headings: Sequence[Heading] | None = None,
    places: Sequence[Place] = (),
    embedded: Sequence[Embedded] = (),
    tables: Sequence[Table] = (),
) -> list[Chunk]:
    r"""Chunk one document; an empty text has no chunks.

    Args:
        text: The decoded text, with its line ends as they are.
        language: As in ``Document.language``.
        options: Lengths and preferences.
        headings: As in ``DocumentText.headings``.
        places: As in ``DocumentText.places``.
        embedded: As in ``DocumentText.embedded``; divided by syntax where the options say so.
        tables: As in ``DocumentText.tables``.

    >>> options = ChunkingOptions(size=20, overlap=0, respect_word_boundaries=True)
    >>> text = "Mergansers dive for their food.\nThey eat fish.\n"
    >>> for chunk in chunk_document(text, language=None, options=options):
    ...     print(chunk.start_line, chunk.end_line, repr(chunk.text))
    1 1 'Mergansers dive for '
    1 2 'their food.\nThey eat'
    2 2 ' fish.\n'
    """
    if not text:
        return []
    if places and headings is None:
        headings = ()
    is_code = options.code_aware and headings is None and language in LANGUAGES
    most = options.code_size if is_code and options.code_size else options.size
    if headings is None and not tables:
        tables = _find_tables(text, language, most)
    headers = Headers(text, tables, most)
    size = most - headers.room
    overlap = min(options.overlap, size // 2, size - 2)
    structured = (
        STRUCTURED.get(language or "")
        if headings is None
        else partial(
            chunk_sections,
            headings=headings,
            embedded=embedded if options.code_aware else (),
            walls=find_walls(text, places, headings),
        )
    )
    limits = Limits(
        whole=size,
        part=size - overlap,
        structure=options.code_aware or structured is not None,
        words=options.respect_word_boundaries or options.sentences or headings is not None,
        sentences=options.sentences,
        prose=options.sentences and (structured is not None or language in PROSE),
    )
    chunker = structured or chunk_text
    parsed = language if options.code_aware and len(text) <= _MAX_PARSED else None
    if structured is None and parsed is not None:
        if parsed in OUTLINED:
            chunker = OUTLINED[parsed]
        elif parsed in LANGUAGES:
            chunker = partial(chunk_code, language=parsed)
    pieces = chunker(text, limits)
    chunks = _to_chunks(text, absorb_blanks(text, pieces, limits), overlap, limits)
    if headings is not None:
        chunks = _without_blank_edges(chunks)
    if tables:
        chunks = headers.repeat(chunks)
    if not places:
        return chunks
    return [
        chunk._replace(place=describe_places(places, chunk.start_line, chunk.end_line))
        for chunk in chunks
    ]


def describe_fallback(
    chunks: Sequence[Chunk], *, language: str | None, options: ChunkingOptions
) -> str:
    """Return the remark on a source that was cut as text; empty for any other document.

    Args:
        chunks: What ``chunk_document`` made of it.
        language: As in ``Document.language``.
        options: As they were given.
    """
    if not options.code_aware or language is None or language not in LANGUAGES or not chunks:
        return ""
    if any(chunk.kind != "text" for chunk in chunks):
        return ""
    if not is_installed(language):
        return f"cut as text: its grammar is in an extra, {install_extra(EXTRA)}"
    return "cut as text: its grammar failed"


def _find_tables(text: str, language: str | None, size: int) -> Sequence[Table]:
    """Return the tables of a text whose structure is in the text itself."""
    if language == "csv":
        return find_csv_table(text)
    if language == "markdown" and "|" in text and len(text) > size:
        return find_markdown_tables(text, size // 2)
    return ()


def _to_chunks(text: str, pieces: list[Piece], overlap: int, limits: Limits) -> list[Chunk]:
    """Number the pieces' lines and put the overlap in front of those that continue another."""
    chunks: list[Chunk] = []
    line, previous = 1, -1
    for i, (start, end, symbol, kind, continues) in enumerate(pieces):
        first, first_line = start, line
        if continues and overlap:
            first = _overlap_start(text, max(previous + 1, start - overlap), start, limits)
            first_line -= text.count("\n", first, start)
        line += text.count("\n", start, end)
        last_line = line - (text[end - 1] == "\n")
        name = symbol[:_MAX_SYMBOL]
        chunks.append(Chunk(i, text[first:end], first_line, last_line, first, end, name, kind))
        previous = start
    return chunks


def _without_blank_edges(chunks: Iterable[Chunk]) -> list[Chunk]:
    """Take the blank lines off both ends of chunks, and leave out the chunks of nothing else."""
    kept: list[Chunk] = []
    for chunk in chunks:
        leading = _BLANK_LINES.match(chunk.text)
        assert leading is not None
        text = chunk.text[leading.end() :].rstrip()
        if not text:
            continue
        first_line = chunk.start_line + leading[0].count("\n")
        start = chunk.start_char + leading.end()
        kept.append(
            chunk._replace(
                ord=len(kept),
                text=text,
                start_line=first_line,
                end_line=first_line + text.count("\n"),
                start_char=start,
                end_char=start + len(text),
            )
        )
    return kept


def _overlap_start(text: str, earliest: int, start: int, limits: Limits) -> int:
    """Choose where an overlap begins, at ``earliest`` or after: a line, else a word, as preferred.

    In prose a sentence goes first; where no word begins there, there is no overlap.

    Never where the piece before begins, or a chunk would hold the one before it.
    """
    if limits.structure and not limits.prose:
        line = text.find("\n", earliest - 1, start - 1) + 1
        if line > 0:
            return line
    if limits.sentences:
        sentence = first_sentence_start(text, earliest, start)
        at = sentence if sentence > 0 else _first_word(text, earliest, start)
        return at if safe_break(text, 0, at) == at else start
    if limits.words and not text[earliest - 1].isspace():
        for at in range(earliest, start):
            if text[at].isspace() and not text.startswith("\r\n", at):
                return at + 1
    while earliest < start and safe_break(text, 0, earliest) != earliest:
        earliest += 1
    return earliest


def _first_word(text: str, earliest: int, start: int) -> int:
    """Return where the first word begins between two places, by white space if there is some."""
    for at in range(earliest, start):
        if text[at - 1].isspace() and not text[at].isspace():
            return at
    return next((at for at in range(earliest, start) if not parts_word(text, at)), start)
