"""Index a tree with cocoindex into sqlite-vec: ``python cocoindex_app.py TREE STATE``.

The peer beside which ``bench_index.py --peer PYTHON`` measures: the same files, chunks of 1,000
characters without overlap along the syntax tree, and the same free embedder. It runs in an
environment of its own, so nothing of merganser is imported, and with a Python that loads SQLite
extensions::

    /usr/bin/python3 -m venv peer && peer/bin/pip install 'cocoindex==1.0.26' sqlite-vec numpy

Prints the number of texts embedded as JSON.
"""

# The peer is installed elsewhere, so its types are unknown here.
# pyright: basic, reportMissingImports=false
from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

os.environ["COCOINDEX_DISABLE_USAGE_TRACKING"] = "1"

import cocoindex as coco
import numpy as np
from cocoindex.connectors import localfs, sqlite
from cocoindex.ops.text import RecursiveSplitter, detect_code_language
from cocoindex.resources.file import PatternFilePathMatcher
from cocoindex.resources.id import IdGenerator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TREE, STATE = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
DIMENSIONS = 384
STORE = coco.ContextKey("bench_store")

embedded = 0
splitter = RecursiveSplitter()


@dataclass
class Row:
    """One chunk as it is stored."""

    id: int
    path: str
    text: str
    start_line: int
    end_line: int
    embedding: Annotated[bytes, sqlite.SqliteType(f"float[{DIMENSIONS}]")]


def embed(text: str) -> bytes:
    """Return the text's fixed unit vector, as ``free_runner.hash_vectors`` does."""
    global embedded  # noqa: PLW0603 - a count of one process
    embedded += 1
    data = hashlib.shake_256(text.encode()).digest(DIMENSIONS)
    vector = np.frombuffer(data, dtype=np.uint8).astype(np.float32) - 127.5
    return (vector / np.linalg.norm(vector)).tobytes()


@coco.lifespan
async def lifespan(builder: Any) -> AsyncIterator[None]:
    """Say where state and vectors are."""
    builder.settings.db_path = STATE / "state"
    builder.provide_with(STORE, sqlite.managed_connection(str(STATE / "vectors.db"), load_vec=True))
    yield


@coco.fn(memo=True)
async def index_file(file: Any, table: Any) -> None:
    """Cut one file and declare its rows."""
    text = await file.read_text()
    name = str(file.file_path.path)
    chunks = splitter.split(
        text, chunk_size=1000, chunk_overlap=0, language=detect_code_language(filename=name)
    )
    ids = IdGenerator()
    for chunk in chunks:
        table.declare_row(
            row=Row(
                id=await ids.next_id(chunk.text),
                path=name,
                text=chunk.text,
                start_line=chunk.start.line,
                end_line=chunk.end.line,
                embedding=embed(chunk.text),
            )
        )


@coco.fn
async def index_tree(tree: Path) -> None:
    """Mount one component a file."""
    table = await sqlite.mount_table_target(
        STORE,
        "chunks",
        await sqlite.TableSchema.from_class(Row, primary_key=["id"]),
        virtual_table_def=sqlite.Vec0TableDef(
            auxiliary_columns=["path", "text", "start_line", "end_line"]
        ),
    )
    files = localfs.walk_dir(
        tree,
        recursive=True,
        path_matcher=PatternFilePathMatcher(included_patterns=["**/*.py", "**/*.md"]),
    )
    await coco.mount_each(index_file, files.items(), table)


app = coco.App(coco.AppConfig(name="bench"), index_tree, tree=TREE)

if __name__ == "__main__":
    STATE.mkdir(parents=True, exist_ok=True)
    app.update_blocking()
    print(json.dumps({"embedded": embedded}))
