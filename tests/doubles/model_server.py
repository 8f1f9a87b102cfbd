"""A small model server that speaks the contract and fails on request.

It is a real HTTP server on loopback. What it says by default is Docker Model Runner's contract in
small; ``faults`` are answers that come first, each once, and ``seen`` is what was asked.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import html
import json
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from merganser.models.client import ModelRunner
from merganser.models.ref import canonical
from merganser.models.retry import RetryPolicy
from merganser.models.wire import Timeouts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from starlette.requests import Request

METHODS = ["GET", "POST", "DELETE"]
EMBEDDER = "ai/embeddinggemma"


@dataclass(frozen=True)
class Seen:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class Fault:
    """An answer that comes once instead of the real one."""

    path: str
    response: Response
    delay: float = 0.0


@dataclass
class Double:
    """The server's state, which tests set and read.

    Attributes:
        heeds_configuration: An engine that is not configured gives other vectors and answers.
        restarts_at: Numbers of inferences, from 1, at which the server dies and comes back
            without answering; it forgets what was configured.
        restarts_after: The same, after the answer, so that nobody sees an error.
        refused_flags: Words that ``_configure`` refuses.
        registry: What the server adds to a name without one, as DEFAULT_REGISTRY says.
        deadly_flags: Words that it takes, and with which the engine ends at its start.
    """

    url: str = ""
    prefix: str = ""
    managed: bool = True
    tags: dict[str, str] = field(default_factory=dict[str, str])
    model_json: dict[str, Any] = field(default_factory=dict[str, Any])
    token_limit: int = 512
    most_inputs: int | None = None
    dimensions: int = 16
    pull_lines: list[str] = field(default_factory=list[str])
    pull_pauses: dict[int, float] = field(default_factory=dict[int, float])
    pull_adds: bool = True
    chat_events: list[str] = field(default_factory=list[str])
    rerank_scores: list[float] | None = None
    engines: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    configs: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    busy_polls: int = 0
    delay: float = 0.0
    faults: list[Fault] = field(default_factory=list[Fault])
    seen: list[Seen] = field(default_factory=list[Seen])
    in_flight: int = 0
    most_in_flight: int = 0
    heeds_configuration: bool = False
    restarts_at: set[int] = field(default_factory=set[int])
    restarts_after: set[int] = field(default_factory=set[int])
    inferences: int = 0
    restart: Any = None
    refused_flags: set[str] = field(default_factory=set[str])
    registry: str = "docker.io"
    deadly_flags: set[str] = field(default_factory=set[str])

    def add_model(self, ref: str, **more: Any) -> str:
        """Make a model local and give its id."""
        digest = "sha256:" + hashlib.sha256(canonical(ref).encode()).hexdigest()
        self.tags[f"{self.registry}/{canonical(ref)}"] = digest
        self.model_json[digest] = {"config": {}, **more}
        return digest

    def fail(
        self,
        path: str,
        status: int,
        body: str | dict[str, Any],
        *,
        times: int = 1,
        delay: float = 0.0,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Answer the next requests to a path with this."""
        for _ in range(times):
            response = (
                JSONResponse(body, status, headers)
                if isinstance(body, dict)
                else PlainTextResponse(body, status, headers)
            )
            self.faults.append(Fault(path, response, delay))

    def asked(self, path: str) -> list[Seen]:
        return [one for one in self.seen if one.path == path]

    async def handle(self, request: Request) -> Response:
        path = request.url.path
        raw = await request.body()
        body: dict[str, Any] = json.loads(raw) if raw else {}
        self.seen.append(
            Seen(request.method, path, dict(request.query_params), dict(request.headers), body)
        )
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            restarts = self._count(path)
            if restarts == "now":
                await self._restart()
                return Response(status_code=500)
            await asyncio.sleep(self.delay)
            for fault in self.faults:
                if fault.path == path:
                    self.faults.remove(fault)
                    await asyncio.sleep(fault.delay)
                    return fault.response
            answer = await self.answer(request.method, path, request, body)
            if restarts == "then":
                answer.background = BackgroundTask(self._restart)
            return answer
        finally:
            self.in_flight -= 1

    def _count(self, path: str) -> str:
        """Count an inference; say whether the server restarts ``now``, ``then`` or not at all."""
        if not path.endswith(("/embeddings", "/rerank", "/chat/completions")):
            return ""
        self.inferences += 1
        if self.inferences in self.restarts_at:
            return "now"
        return "then" if self.inferences in self.restarts_after else ""

    async def _restart(self) -> None:
        self.configs.clear()
        self.engines.clear()
        self.restart()

    def is_configured(self, mode: str) -> bool:
        return any(row["Mode"] == mode for row in self.configs)

    async def answer(
        self, method: str, path: str, request: Request, body: dict[str, Any]
    ) -> Response:
        if not path.startswith(self.prefix):
            return PlainTextResponse("page not found\n", 404)
        path = path.removeprefix(self.prefix)
        for api in ("/engines/v1", "/v1"):
            if path.startswith(api + "/") and (self.managed or api == "/v1"):
                return await self.openai(path.removeprefix(api), body)
        if self.managed:
            return self.manage(method, path, request, body)
        return JSONResponse({"detail": "Not Found"}, 404)

    async def openai(self, path: str, body: dict[str, Any]) -> Response:
        if path == "/models":
            data = [{"id": tag, "object": "model"} for tag in self.tags]
            return JSONResponse({"object": "list", "data": data})
        if path.startswith("/models/"):
            asked = {"model": path.removeprefix("/models/")}
            return self.missing(asked) or JSONResponse({"id": asked["model"], "object": "model"})
        if path == "/rerank":
            return PlainTextResponse("backend not found\n", 404)
        if (missing := self.missing(body)) is not None:
            return missing
        if path == "/embeddings":
            return self.dead_engine("embedding") or self.embed(body)
        if body.get("max_tokens") == 1 and "stream" not in body:
            return Response(status_code=200)  # it loads
        assert body["stream"], "every answer is read as a stream"
        return StreamingResponse(self.chat(), media_type="text/event-stream")

    def missing(self, body: dict[str, Any]) -> Response | None:
        ref = body.get("model", "")
        known = {canonical(tag.removeprefix(f"{self.registry}/")) for tag in self.tags}
        if canonical(ref) in known:
            return None
        text = f"error while getting model: get model '\"{ref}\"': model not found\n"
        return PlainTextResponse(text, 404)

    def embed(self, body: dict[str, Any]) -> Response:
        texts: list[str] = body["input"]
        if self.most_inputs is not None and len(texts) > self.most_inputs:
            # As text-embeddings-inference puts it.
            error = f"batch size {len(texts)} > maximum allowed batch size {self.most_inputs}"
            return JSONResponse({"error": error, "error_type": "Validation"}, 422)
        for text in texts:
            tokens = len(text.split())
            if tokens > self.token_limit:
                message = (
                    f"input ({tokens} tokens) is too large to process. increase the physical "
                    f"batch size (current batch size: {self.token_limit})"
                )
                error = {"code": 500, "message": message, "type": "server_error"}
                return JSONResponse({"error": error}, 500)
        rows: list[dict[str, Any]] = []
        for index, text in enumerate(texts):
            is_other = self.heeds_configuration and not self.is_configured("embedding")
            vector = vector_of(f"unconfigured {text}" if is_other else text, self.dimensions)
            value: Any = vector.tolist()
            if body.get("encoding_format") == "base64":
                value = base64.b64encode(vector.astype("<f4").tobytes()).decode()
            rows.append({"index": index, "object": "embedding", "embedding": value})
        rows.reverse()
        tokens = sum(len(text.split()) for text in texts)
        return JSONResponse({"data": rows, "usage": {"prompt_tokens": tokens}})

    async def chat(self) -> AsyncIterator[str]:
        for event in self.chat_events:
            yield event + "\n\n"

    async def pull(self, accept: str | None) -> AsyncIterator[str]:
        for position, line in enumerate(self.pull_lines):
            await asyncio.sleep(self.pull_pauses.get(position, 0.0))
            plain = accept == "application/json" or not line.startswith("{")
            yield (line if plain else html.escape(line)) + "\n"

    def manage(self, method: str, path: str, request: Request, body: dict[str, Any]) -> Response:
        fixed: dict[tuple[str, str], Any] = {
            ("GET", "/version"): {"version": "v1.2.6"},
            ("GET", "/engines/status"): {"llama.cpp": "Running: llama.cpp 642c721"},
            ("GET", "/engines/df"): {"models_disk_usage": 1000, "default_backend_disk_usage": 200},
            ("GET", "/engines/_configure"): self.configs,
            ("GET", "/models"): [self.describe(tag) for tag in self.tags],
        }
        if (method, path) in fixed:
            return JSONResponse(fixed[method, path])
        actions: dict[tuple[str, str], Callable[[], Response]] = {
            ("GET", "/logs"): lambda: PlainTextResponse("one\ntwo\n"),
            ("GET", "/engines/ps"): self.ps,
            ("POST", "/engines/_configure"): lambda: self.configure(body),
            ("POST", "/engines/unload"): self.unload,
            ("POST", "/engines/rerank"): lambda: self.missing(body) or self.rerank(request, body),
            ("POST", "/models/create"): lambda: self.create(request, body),
        }
        if (method, path) in actions:
            return actions[method, path]()
        if method == "GET" and path.startswith("/models/"):
            return self.find(path.removeprefix("/models/"))
        return PlainTextResponse("not found\n", 404)

    def create(self, request: Request, body: dict[str, Any]) -> Response:
        if self.pull_adds and any('"success"' in line for line in self.pull_lines):
            self.add_model(body["from"])
        accept = request.headers.get("accept")
        return StreamingResponse(self.pull(accept), media_type="application/json")

    def unload(self) -> Response:
        count = len(self.engines)
        self.engines.clear()
        return JSONResponse({"unloaded_runners": count})

    def ps(self) -> Response:
        rows = [dict(row) for row in self.engines]
        if self.busy_polls > 0:
            self.busy_polls -= 1
            rows.append({"backend_name": "llama.cpp", "model_name": EMBEDDER, "in_use": True})
        return JSONResponse(rows)

    def configure(self, body: dict[str, Any]) -> Response:
        if self.busy_polls > 0:
            return PlainTextResponse("runner already active\n", 409)
        for word in body.get("runtime-flags", []):
            if word in self.refused_flags:
                text = f'runtime flag "{word}" is not allowed for backend "llama.cpp"\n'
                return PlainTextResponse(text, 500)
        config = {key: body[key] for key in body if key not in {"model", "mode"}}
        row = {"Backend": "llama.cpp", "Model": body["model"], "Mode": body["mode"]}
        self.configs[:] = [one for one in self.configs if one | row != one]
        self.configs.append({**row, "ModelID": "", "Config": config})
        stray = {"backend_name": "llama.cpp", "model_name": body["model"], "mode": "completion"}
        self.engines.append(stray)
        return Response(status_code=202)

    def dead_engine(self, mode: str) -> Response | None:
        standing = [row["Config"] for row in self.configs if row["Mode"] == mode]
        for word in [word for one in standing for word in one.get("runtime-flags", [])]:
            if word in self.deadly_flags:
                text = (
                    "unable to load runner: error waiting for runner to be ready: llama.cpp "
                    "terminated unexpectedly: llama.cpp failed: warning: no usable GPU found\n"
                    f"error: invalid argument: {word}\n"
                )
                return PlainTextResponse(text, 500)
        return None

    def rerank(self, request: Request, body: dict[str, Any]) -> Response:
        if request.headers.get("x-preload-only") == "true":
            return Response(status_code=200)
        documents: list[str] = body["documents"]
        query = set(body["query"].lower().split())
        scores = self.rerank_scores or [
            len(query & set(document.lower().split())) / len(query) for document in documents
        ]
        rows = [{"index": i, "relevance_score": scores[i]} for i in range(len(documents))]
        rows.sort(key=lambda row: -row["relevance_score"])
        return JSONResponse({"results": rows[: body.get("top_n", len(rows))]})

    def find(self, ref: str) -> Response:
        wanted = canonical(ref)
        for tag in self.tags:
            bare = wanted.partition(":")[0].rpartition("/")[2]
            # Like the real one, any model of that bare name is found.
            if canonical(tag) == wanted or f"/{bare}:" in tag:
                return JSONResponse(self.describe(tag))
        return PlainTextResponse("model not found\n", 404)

    def describe(self, tag: str) -> dict[str, Any]:
        digest = self.tags[tag]
        return {"id": digest, "tags": [tag], "created": 0, **self.model_json[digest]}


def vector_of(text: str, dimensions: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return a unit vector that depends on the text alone: synthetic, for shapes and order."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    vector = np.random.default_rng(seed).normal(size=dimensions)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


class Host:
    """A running server whose state is a fresh double for each test."""

    def __init__(self, uds: str | None = None) -> None:
        self.double = Double()
        self._uds = uds
        self._place: Any = ("127.0.0.1", 0) if uds is None else uds
        self.come_back()
        self.url = f"unix://{uds}" if uds else f"http://127.0.0.1:{self._place[1]}"

    def come_back(self) -> None:
        """Listen, at the same place as before."""
        app = Starlette(routes=[Route("/{path:path}", self._handle, methods=METHODS)])
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        listener = socket.socket(socket.AF_INET if self._uds is None else socket.AF_UNIX)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(self._place)
        self._place = listener.getsockname()
        arguments = {"sockets": [listener]}
        self._thread = threading.Thread(target=self._server.run, kwargs=arguments, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)

    def leave(self) -> None:
        """End as a process that is killed: what was configured is gone, and nothing listens."""
        self.double.configs.clear()
        self.double.engines.clear()
        self._drop_connections()
        self.stop()

    async def _handle(self, request: Request) -> Response:
        self.double.restart = self._drop_connections
        return await self.double.handle(request)

    def _drop_connections(self) -> None:
        """Break all connections off, as a process that dies does."""
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()

    def stop(self) -> None:
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(5)


@pytest.fixture(scope="session")
def host() -> Iterator[Host]:
    host = Host()
    yield host
    host.stop()


@pytest.fixture
def double(host: Host) -> Double:
    host.double = Double(url=host.url)
    return host.double


@pytest.fixture
def socket_double(tmp_path: Path) -> Iterator[Double]:
    """The same behind a socket and below the path that Docker Desktop uses."""
    host = Host(uds=str(tmp_path / "docker.sock"))
    host.double = Double(url=host.url, prefix="/exp/vDD4.40")
    yield host.double
    host.stop()


@pytest.fixture
async def client(double: Double) -> AsyncIterator[ModelRunner]:
    """A client with short patience."""
    policy = RetryPolicy(first_seconds=0.01, longest_seconds=0.1)
    timeouts = Timeouts(admin=5, load=5, inference=5, token=0.5, stall=0.3, busy=3)
    async with ModelRunner(
        double.url, timeouts=timeouts, retry=policy, pull_retry=policy, env={}
    ) as runner:
        yield runner
