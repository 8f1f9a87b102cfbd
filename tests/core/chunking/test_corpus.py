"""A real corpus: the installed Prefect package, which is also what the demo indexes."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from merganser.chunking import ChunkingOptions, chunk_document
from merganser.documents.data_runs import find_data, find_minified_lines
from merganser.documents.encoding import decode
from merganser.documents.reading import DocumentText, read_document
from merganser.documents.scanning import scan_documents
from merganser.errors import SkipDocument

if TYPE_CHECKING:
    from merganser.documents.scanning import Document

OPTIONS = ChunkingOptions(size=1000, overlap=0, code_aware=True)


@pytest.fixture(scope="module")
def corpus() -> list[tuple[Document, DocumentText]]:
    spec = importlib.util.find_spec("prefect")
    assert spec is not None
    assert spec.origin is not None
    scan = scan_documents(["."], base=Path(spec.origin).parent)
    read: list[tuple[Document, DocumentText]] = []
    for document in scan.documents:
        try:
            read.append((document, read_document(document)))
        except SkipDocument as skipped:
            assert skipped.reason in {"generated", "minified", "empty", "encoding", "binary"}  # noqa: PT017 - most files are not skipped
    return read


def test_every_file_is_large_enough_a_sample(corpus: list[tuple[Document, DocumentText]]):
    python = [document for document, _ in corpus if document.language == "python"]

    assert len(python) > 500


def test_the_joined_chunks_are_the_bytes_of_every_text_file(
    corpus: list[tuple[Document, DocumentText]],
):
    for document, read in corpus:
        if read.headings is not None:
            continue  # the text of HTML is extracted
        whole = decode(Path(document.absolute).read_bytes()).text
        if find_data(whole) or find_minified_lines(whole, document.language) or read.redactions:
            continue  # marks stand in place of it
        chunks = chunk_document(read.text, language=document.language, options=OPTIONS)

        joined = "".join(read.text[chunk.start_char : chunk.end_char] for chunk in chunks)
        data = Path(document.absolute).read_bytes()
        decoded = decode(data)
        assert data == decoded.bom + joined.encode(decoded.encoding)


def test_line_numbers_point_at_the_text_of_every_chunk(
    corpus: list[tuple[Document, DocumentText]],
):
    options = ChunkingOptions(size=1000, overlap=75, code_aware=True)
    for document, read in corpus:
        lines = read.text.split("\n")
        for chunk in chunk_document(read.text, language=document.language, options=options):
            assert len(chunk.text) <= options.size
            shown = "\n".join(lines[chunk.start_line - 1 : chunk.end_line]) + "\n"
            span = read.text[chunk.start_char : chunk.end_char]
            assert span in shown
            assert chunk.text.endswith(span)
            # Rows of a table have a line of its header in front.
            assert chunk.text.removesuffix(span).strip() in read.text


def test_one_inserted_line_changes_few_chunks(corpus: list[tuple[Document, DocumentText]]):
    draw = random.Random(20)  # noqa: S311 - a sample, not a secret
    files = [(d, r) for d, r in corpus if d.language == "python" and r.text.count("\n") > 20]
    changed = 0
    edits = 200
    for _ in range(edits):
        document, read = draw.choice(files)
        lines = read.text.splitlines(keepends=True)
        at = draw.randrange(len(lines))
        indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())].rstrip("\n")
        edited = "".join([*lines[:at], f"{indent}inserted = 1\n", *lines[at:]])
        before = chunk_document(read.text, language=document.language, options=OPTIONS)
        after = chunk_document(edited, language=document.language, options=OPTIONS)
        changed += len({c.text for c in after} - {c.text for c in before})

    assert changed / edits <= 1.6
