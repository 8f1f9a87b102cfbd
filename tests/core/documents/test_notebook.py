"""What is read of a notebook, and where its cells stand."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from merganser.chunking import Chunk, ChunkingOptions, chunk_document
from merganser.documents.notebook_text import read_notebook
from merganser.errors import SkipDocument

OPTIONS = ChunkingOptions(size=400, overlap=0, code_aware=True, respect_word_boundaries=True)


def write(*cells: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4} | more).encode()


def code(source: str | list[str], *outputs: dict[str, Any]) -> dict[str, Any]:
    return {"cell_type": "code", "source": source, "outputs": outputs}


def chunk(data: bytes, options: ChunkingOptions = OPTIONS) -> list[Chunk]:
    read = read_notebook(data)
    return chunk_document(
        read.text,
        language="notebook",
        options=options,
        headings=read.headings,
        places=read.places,
        embedded=read.embedded,
    )


PICTURE = base64.b64encode(bytes(range(256)) * 300).decode()
NOTEBOOK = write(
    {"cell_type": "markdown", "source": ["# Churn\n", "\n", "We fit a tree.\n"]},
    code(
        ["import numpy as np\n", "\n", "def fit_churn(frame):\n", "    return frame\n"],
        {
            "output_type": "display_data",
            "data": {"image/png": PICTURE, "text/plain": "<Figure size 640x480 with 1 Axes>"},
        },
    ),
    {"cell_type": "markdown", "source": "## Results", "attachments": {"a.png": {"x": PICTURE}}},
    code(
        "score(model)",
        {"output_type": "stream", "text": ["1%\r50%\r100%\n", "\x1b[31mdone\x1b[0m\n"]},
        {
            "output_type": "execute_result",
            "data": {"text/plain": ["   recall\n", "0    0.91"], "text/html": "<table></table>"},
        },
        {
            "output_type": "error",
            "ename": "KeyError",
            "traceback": ["\x1b[0;31mKeyError\x1b[0m  Traceback", "KeyError: 'age'"],
        },
    ),
)


def test_cells_are_text_with_what_their_code_put_out():
    read = read_notebook(NOTEBOOK)

    assert read.text.split("\n\n") == [
        "# Churn",
        "We fit a tree.",
        "import numpy as np",
        "def fit_churn(frame):\n    return frame",
        "## Results",
        "score(model)",
        "100%\ndone\n   recall\n0    0.91\nKeyError  Traceback\nKeyError: 'age'",
        "",
    ]
    assert "Figure" not in read.text
    assert PICTURE[:40] not in read.text
    assert [(h.level, h.title) for h in read.headings or ()] == [(1, "Churn"), (2, "Results")]
    assert [read.text[e.start : e.end] for e in read.embedded] == [
        "import numpy as np\n\ndef fit_churn(frame):\n    return frame\n",
        "score(model)",
    ]


def test_a_chunk_is_cited_by_cell_and_line():
    chunks = chunk(NOTEBOOK, ChunkingOptions(size=70, overlap=0, code_aware=True))

    assert [(c.place, c.symbol) for c in chunks] == [
        ("cell 1, lines 1-3", "Churn"),
        ("cell 2, lines 1-4", "Churn > fit_churn"),
        ("cells 3-4", "Churn > Results"),
        ("cell 4, output lines 1-6", "Churn > Results"),
    ]


def test_definitions_of_a_cell_that_is_too_long_are_kept_whole():
    body = "".join(f"    total += {n}\n" for n in range(8))
    cells = [code("".join(f"def part_{n}(total):\n{body}    return total\n\n" for n in range(6)))]
    options = ChunkingOptions(size=230, overlap=0, code_aware=True)
    chunks = chunk(write({"cell_type": "markdown", "source": "# Parts"}, *cells), options)

    assert [(c.symbol, c.kind) for c in chunks] == [
        (f"Parts > part_{n}", "function") for n in range(6)
    ]
    assert (chunks[0].place, chunks[-1].place) == ("cells 1-2", "cell 2, lines 56-65")


OLD = json.dumps(
    {
        "nbformat": 3,
        "metadata": {"name": "old"},
        "worksheets": [
            {
                "cells": [
                    {"cell_type": "heading", "level": 2, "source": ["Old words"]},
                    {
                        "cell_type": "code",
                        "language": "python",
                        "input": ["def swim():\n", "    pass"],
                        "outputs": [
                            {"output_type": "pyout", "text": ["42"], "html": ["<b>42</b>"]},
                            {"output_type": "display_data", "png": PICTURE, "text": ["<Figure>"]},
                            {"output_type": "pyerr", "ename": "E", "evalue": "x", "traceback": []},
                            {"output_type": "pyout", "html": ["<table><tr><td>cell</table>"]},
                        ],
                    },
                ]
            }
        ],
    }
).encode()


def test_notebooks_of_before_nbformat_4_are_read():
    read = read_notebook(OLD)

    assert read.text == "Old words\n\ndef swim():\n    pass\n\n42\nE: x\ncell\n\n"
    assert [(h.level, h.title) for h in read.headings or ()] == [(2, "Old words")]


@pytest.mark.parametrize(
    "cell",
    [
        None,
        7,
        {"cell_type": "code"},
        {"cell_type": "code", "source": None, "outputs": None},
        {"cell_type": "code", "source": [1, None], "outputs": ["x", {"output_type": 3}]},
        {"cell_type": "heading", "level": {}, "source": "# a"},
        {"cell_type": "code", "source": "1", "outputs": [{"output_type": "stream", "text": 5}]},
        {"cell_type": "code", "source": "1", "outputs": [{"data": {"text/plain": {"a": 1}}}]},
        {"cell_type": "markdown", "source": "![x](attachment:a)", "attachments": 5},
    ],
)
def test_a_malformed_cell_costs_itself_alone(cell: Any):
    read = read_notebook(write(cell, code("marker = 1")))

    assert "marker = 1" in read.text
    assert read.places[-1].steps == (("cell", 2), ("line", 1))


@pytest.mark.parametrize(
    ("data", "reason", "detail"),
    [
        (NOTEBOOK[:-500], "damaged", "not a notebook"),
        (b"[" * 200_000, "damaged", "not a notebook"),
        (b'{"cells": [], "nbformat": 4}', "empty", "no cells"),
        (write(code(" ")), "empty", "its 1 cells hold no text"),
        (b"[1, 2]", "damaged", "JSON of another form"),
        (b'{"nbformat": ' + b"9" * 5_000 + b"}", "damaged", "not a notebook"),
        (b"<<<<<<< HEAD\n" + NOTEBOOK, "damaged", "not a notebook"),
        (write(code("x = 1 # " + "y" * 8_000_000)), "too large", "more than 8,000,000"),
    ],
)
def test_what_is_no_notebook_is_left_out_with_the_reason(data: bytes, reason: str, detail: str):
    with pytest.raises(SkipDocument) as skipped:
        read_notebook(data)

    assert skipped.value.reason == reason
    assert detail in skipped.value.detail


@pytest.mark.parametrize(
    ("metadata", "source", "language"),
    [
        ({"language_info": {"name": "R"}}, "f <- 1", "r"),
        ({"kernelspec": {"language": "julia"}}, "f = 1", "julia"),
        ({"kernelspec": {"language": "python"}}, "%%bash\nls", "bash"),
        ({}, "%%time\nx = 1", "python"),
        ({"language_info": {"name": "ipython"}}, "x = 1", "python"),
        ({"language_info": 5}, "x = 1", "python"),
    ],
)
def test_code_is_in_the_language_of_the_notebook(metadata: Any, source: str, language: str):
    [embedded] = read_notebook(write(code(source), metadata=metadata)).embedded

    assert embedded.language == language
