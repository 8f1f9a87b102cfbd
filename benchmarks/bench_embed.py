"""Measure the embedding pipeline against what the server itself can do for the same texts.

    python benchmarks/bench_embed.py [TREE] [--texts N] [--only PROFILE]

The pipeline is what an index run uses: shards of 512 texts from four threads through one
``EmbedService``, which finds the request size and the concurrency by itself. Beside it stands the
best fixed client: length-sorted requests of a fixed size, a fixed number in flight. Its settings
are tried on a part of the texts, the best and a large one on all, before and
after the pipeline.

Three servers are simulated (real HTTP, hashed vectors, time as the profile says): ``one-slot``,
``eight-slots`` and ``slowing``, which loses six slots after half of the work. ``real`` is the
embedded runner with real weights, on this machine's processors. They work side by
side, as they mostly sleep; each is a process of its own, and so is its client. ``real`` has every
24th text that is not too long. Without options it takes four minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import time
from collections import deque
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from free_runner import MODEL, FreeEmbeddings, read_body, serve, served
from measuring import default_tree

from merganser.chunking import ChunkingOptions, chunk_document
from merganser.documents.reading import read_document
from merganser.documents.scanning import scan_documents
from merganser.embedding.embedder import Embedder, count_words
from merganser.embedding.pace import learnt
from merganser.embedding.service import EmbedService
from merganser.errors import SkipDocument
from merganser.models.client import ModelRunner
from merganser.models.ref import ModelRef
from merganser.models.wire import ServedModel

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence

SHARD_TEXTS = 512
SHARDS_AT_A_TIME = 4
CHARACTERS_PER_TOKEN = 4
SIZES = (4_096, 16_384, 32_768)
SCREENED_SHARE = 10
REAL_SHARE = 24
MOST_WORDS = 220  # of 1,428 chunks of code none below 229 was too long for 512 tokens
_BEGIN = "/begin/"


@dataclass(frozen=True)
class Profile:
    """How a simulated server takes its time.

    Attributes:
        slots: Requests that it works on at once; others wait.
        request_seconds: Of each request.
        token_seconds: Of each token in a slot.
        slots_later: After half of the characters.
        repeat: How often the texts are sent, so that a fast server has work for a while.
    """

    slots: int
    request_seconds: float
    token_seconds: float
    slots_later: int | None = None
    repeat: int = 1


PROFILES = {
    "one-slot": Profile(1, 0.01, 1 / 50_000),
    "eight-slots": Profile(8, 0.1, 1 / 10_000, repeat=2),
    "slowing": Profile(8, 0.1, 1 / 10_000, slots_later=2),
}


class PacedEmbeddings:
    """ASGI middleware that makes embeddings take the time of a profile."""

    def __init__(self, app: Any, profile: Profile) -> None:
        self._app = FreeEmbeddings(app)
        self._profile = profile
        self._busy = 0
        self._left = asyncio.Condition()
        self._sent = self._sent_until_later = 0  # characters

    @property
    def _slots(self) -> int:
        later = self._profile.slots_later
        return later if later and self._sent > self._sent_until_later else self._profile.slots

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Wait for a slot, and in it; then answer."""
        path = scope.get("path", "")
        if path.startswith(_BEGIN):
            self._sent, self._sent_until_later = 0, int(path.removeprefix(_BEGIN)) // 2
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        if not path.endswith("/v1/embeddings"):
            await self._app(scope, receive, send)
            return
        body = await read_body(receive)
        texts = json.loads(body)["input"]
        tokens = sum(map(len, texts)) / CHARACTERS_PER_TOKEN
        async with self._left:
            await self._left.wait_for(lambda: self._busy < self._slots)
            self._busy += 1
        try:
            await asyncio.sleep(
                self._profile.request_seconds + tokens * self._profile.token_seconds
            )
        finally:
            async with self._left:
                self._busy -= 1
                self._sent += sum(map(len, texts))
                self._left.notify_all()

        async def replay() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)


def main() -> None:
    """Measure the chosen profiles and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tree", type=Path, nargs="?", help="default: the installed Prefect package")
    parser.add_argument("--texts", type=int, default=8_000, help="how many are taken, at most")
    parser.add_argument("--only", choices=[*PROFILES, "real"], action="append")
    parser.add_argument("--serve", choices=[*PROFILES, "real"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        profile = PROFILES.get(arguments.serve)
        serve(*([partial(PacedEmbeddings, profile=profile)] if profile else []))
        return
    texts = read_texts(arguments.tree or default_tree(), arguments.texts)
    print(f"{len(texts):,} texts, {sum(map(len, texts)):,} characters\n")
    print("| server | texts/s: pipeline | best fixed | its tokens x requests | pipeline / best |")
    print("| --- | ---: | ---: | ---: | ---: |")
    chosen: Sequence[str] = arguments.only or [*PROFILES, "real"]
    with ProcessPoolExecutor(len(PROFILES)) as pool:
        for row in pool.map(partial(measure, texts), [name for name in chosen if name != "real"]):
            print(row, flush=True)
    if "real" in chosen:
        print(measure(texts, "real"), flush=True)


def read_texts(tree: Path, most: int) -> list[str]:
    """Cut the Python and Markdown files of a tree as the demo does; give every n-th text."""
    options = ChunkingOptions(size=1000, overlap=0, code_aware=True)
    scan = scan_documents((".",), base=tree, respect_vcs=False, exclude=())
    documents = [d for d in scan.documents if d.path.endswith((".py", ".md"))]
    texts: list[str] = []
    for document in documents:
        try:
            read = read_document(document)
        except SkipDocument:
            continue
        chunks = chunk_document(
            read.text, language=document.language, options=options, headings=read.headings
        )
        texts += (chunk.text for chunk in chunks)
    return texts[:: -(-len(texts) // most)]


def measure(texts: Sequence[str], name: str) -> str:
    """Return one server's row: seconds of the pipeline and of the best fixed client."""
    profile = PROFILES.get(name)
    if profile:
        texts = [*texts] * profile.repeat
    else:  # the fixed client cannot split what is too long for the model
        texts = [text for text in texts[::REAL_SHARE] if count_words(text) < MOST_WORDS]
    with served(__file__, "--serve", name) as (url, _):

        def begin(texts: Sequence[str]) -> None:
            if profile is not None:
                path = f"{_BEGIN}{sum(map(len, texts))}"
                httpx.get(url + path, trust_env=False).raise_for_status()

        asyncio.run(send_fixed(url, texts[:8], 1_024, 1))  # loads the model
        part = texts[:: 1 if len(texts) < SHARD_TEXTS else SCREENED_SHARE]
        screened: list[tuple[float, int, int]] = []
        # Fewer than the slots leave some idle, more than twice as many only wait.
        slots = profile.slots if profile else os.cpu_count() or 1
        for tokens, requests in itertools.product(SIZES, (slots, 2 * slots)):
            begin(part)
            screened.append((timed_fixed(url, part, tokens, requests), tokens, requests))
        # A part of the texts fills few large requests, so one such setting is tried on all too.
        pipeline = 0.0
        fixed: list[tuple[float, int, int]] = []
        for tokens, requests in (min(screened)[1:], (SIZES[1], 2 * slots)):
            begin(texts)
            fixed.append((timed_fixed(url, texts, tokens, requests), tokens, requests))
            if not pipeline:
                begin(texts)
                pipeline = timed_pipeline(url, texts)
    best, tokens, requests = min(fixed)
    rates = f"{len(texts) / pipeline:,.1f} | {len(texts) / best:,.1f}"
    return f"| {name} | {rates} | {tokens:,} x {requests} | {pipeline / best:.3f} |"


def timed_fixed(url: str, texts: Sequence[str], tokens: int, requests: int) -> float:
    """Return the seconds of the fixed client."""
    began = time.monotonic()
    asyncio.run(send_fixed(url, texts, tokens, requests))
    return time.monotonic() - began


async def send_fixed(url: str, texts: Sequence[str], tokens: int, requests: int) -> None:
    """Send length-sorted requests of about so many tokens, so many at a time."""
    batches = deque(fixed_batches(texts, tokens * CHARACTERS_PER_TOKEN))

    async with ModelRunner(url) as runner:

        async def work() -> None:
            while batches:
                await runner.embed(MODEL, batches.popleft())

        await asyncio.gather(*(work() for _ in range(requests)))


def fixed_batches(texts: Sequence[str], characters: int) -> Iterator[list[str]]:
    """Cut the texts into requests, the longest first, so that all workers end together."""
    batch: list[str] = []
    room = characters
    for text in sorted(texts, key=len, reverse=True):
        if batch and len(text) > room:
            yield batch
            batch, room = [], characters
        batch.append(text)
        room -= len(text)
    if batch:
        yield batch


def timed_pipeline(url: str, texts: Sequence[str]) -> float:
    """Return the seconds of an index run's embedding, beginning without any knowledge."""
    learnt.clear()
    shards = [texts[i : i + SHARD_TEXTS] for i in range(0, len(texts), SHARD_TEXTS)]

    @asynccontextmanager
    async def open_embedder() -> AsyncGenerator[Embedder]:
        async with ModelRunner(url) as runner:
            served = await runner.model(MODEL) or ServedModel(MODEL, MODEL, MODEL)
            model = ModelRef(name=MODEL, provider="dmr", model=MODEL)
            yield Embedder(runner, model, served, dimensions=None)

    began = time.monotonic()
    service = EmbedService(open_embedder)

    def embed(shard: Sequence[str]) -> int:
        return len(asyncio.run(service.embed_documents(shard)))

    with ThreadPoolExecutor(SHARDS_AT_A_TIME) as pool:
        assert sum(pool.map(embed, shards)) == len(texts)
    service.close()
    return time.monotonic() - began


if __name__ == "__main__":
    main()
