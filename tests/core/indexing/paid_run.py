"""Index a folder with the model of a server, in a process that a test kills.

Called as ``python -m tests.core.indexing.paid_run URL BASE``.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from merganser.chunking import ChunkingOptions
from merganser.config.index_definition import EmbeddingDefinition, IndexDefinition
from merganser.embedding.embedder import Embedder
from merganser.indexing.run import index_once_async
from merganser.models.client import ModelRunner
from merganser.models.ref import ModelRef

MODEL = ModelRef(name="e", provider="dmr", model="ai/embeddinggemma")
REQUESTS, TEXTS = 3, 4  # under way at a time, and in each of them


def definition(base: Path) -> IndexDefinition:
    return IndexDefinition(
        name="docs",
        folder=base.parent / "index",
        base=base,
        docs=(".",),
        docs_positions=(None,),
        respect_vcs=True,
        chunking=ChunkingOptions(size=200, overlap=0),
        embedding=EmbeddingDefinition(model=MODEL, dimensions=None),
    )


async def main(url: str, base: Path) -> None:
    async with ModelRunner(url, env={}) as client:
        served = await client.model(MODEL.model)
        assert served is not None
        embedder = Embedder(
            client, MODEL, served, dimensions=None, batch_size=TEXTS, concurrency=REQUESTS
        )
        await index_once_async(definition(base), embedder)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
