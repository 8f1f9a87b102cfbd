"""A model runner whose embeddings cost nothing: ``python benchmarks/free_runner.py``.

It is the embedded runner with one path answered before it reaches an engine: embeddings are a hash
of the text, normalised. What a command spends against it is the engine's cost and the client's
share of HTTP, JSON and base64, none of a model. ``GET /counted`` tells how many texts were
embedded since the last call and in how many requests, without the eight drift texts of a run. The
address is printed on the first line of standard output.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np

from merganser.indexing.drift import DRIFT_TEXTS
from merganser.runner.embedded_runner import EmbeddedRunner

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

sys.path.append(str(Path(__file__).parents[1]))  # for scripts that use the test double

MODEL = "ai/all-minilm"
DIMENSIONS = 384


def hash_vectors(texts: Sequence[str]) -> NDArray[np.float32]:
    """Return for each text a fixed unit vector, (n, 384) float32."""
    data = b"".join(hashlib.shake_256(text.encode()).digest(DIMENSIONS) for text in texts)
    vectors = np.frombuffer(data, dtype=np.uint8).reshape(-1, DIMENSIONS).astype(np.float32) - 127.5
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


class FreeEmbeddings:
    """ASGI middleware that answers for the embedding engine."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._texts = self._requests = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request, or hand it on."""
        path = scope.get("path", "")
        if path == "/counted":
            counted = {"texts": self._texts, "requests": self._requests}
            self._texts = self._requests = 0
            await send_json(send, counted)
        elif path.endswith("/v1/embeddings"):
            document = json.loads(await read_body(receive))
            texts = document["input"]
            texts = [texts] if isinstance(texts, str) else texts
            texts_counted = sum(text not in DRIFT_TEXTS for text in texts)
            self._texts += texts_counted
            self._requests += texts_counted > 0
            await send_json(send, _answer(document, texts))
        else:
            await self._app(scope, receive, send)


def _answer(document: dict[str, Any], texts: Sequence[str]) -> dict[str, Any]:
    vectors = hash_vectors(texts)
    rows: list[Any] = vectors.tolist()
    if document.get("encoding_format") == "base64":
        rows = [base64.b64encode(row.tobytes()).decode() for row in vectors]
    data = [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)]
    tokens = sum(len(text) for text in texts) // 4
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "model": document.get("model"), "data": data, "usage": usage}


async def read_body(receive: Any) -> bytes:
    """Read the whole body of a request."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def send_json(send: Any, value: object) -> None:
    """Answer with one JSON document."""
    head = [(b"content-type", b"application/json; charset=utf-8")]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": json.dumps(value).encode()})


@contextmanager
def served(*words: str) -> Generator[tuple[str, int]]:
    """Run a script that serves in a process of its own; give its address and process id."""
    with subprocess.Popen(
        [sys.executable, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            raise SystemExit(f"{words[0]} did not start")
        try:
            yield url, process.pid
        finally:
            process.terminate()


def free_runner() -> AbstractContextManager[tuple[str, int]]:
    """Run the free runner in a process of its own; give its address and process id."""
    return served(__file__)


def counted(url: str) -> dict[str, int]:
    """Return the numbers of ``texts`` embedded and of ``requests`` since the last call."""
    answer: dict[str, int] = httpx.get(f"{url}/counted", trust_env=False).json()
    return answer


def serve(*middleware: Any, models: Sequence[str] = (MODEL,)) -> None:
    """Serve with this before the embedded runner until the parent goes."""
    with EmbeddedRunner(pulled=list(models), middleware=middleware) as runner:
        print(runner.url, flush=True)
        while sys.stdin.read(1):
            time.sleep(1)


if __name__ == "__main__":
    serve(FreeEmbeddings)
