"""Administration of the engines: ``/engines/*`` without inference (section 1.5)."""

from __future__ import annotations

import asyncio
import json
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, cast

from starlette.responses import Response

from merganser.runner.replies import StreamReply, TextError, json_reply, read_body, text_reply
from merganser.runner.scheduler import DEFAULT_BACKEND, RunnerBusyError
from merganser.runner.settings import BACKENDS, FlagError, InvalidRequestError, parse_configure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from merganser.runner.state import RunnerState


def describe_engines() -> str:
    """Name the engines that are installed, with versions."""
    found = list[str]()
    for package in ("onnxruntime", "xllamacpp"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"no {package}")
    return ", ".join(found)


async def get_status(state: RunnerState, request: Request) -> Response:
    """GET /engines/status."""
    del state, request
    status = dict.fromkeys(BACKENDS, "Not Installed: not part of the embedded runner")
    return json_reply({**status, DEFAULT_BACKEND: f"Running: {describe_engines()}"})


async def get_processes(state: RunnerState, request: Request) -> Response:
    """GET /engines/ps."""
    del request
    return json_reply(state.scheduler.processes())


async def get_disk_usage(state: RunnerState, request: Request) -> Response:
    """GET /engines/df."""
    del request
    used = state.store.size_bytes()
    return json_reply({"models_disk_usage": used, "default_backend_disk_usage": 0})


async def get_configurations(state: RunnerState, request: Request) -> Response:
    """GET /engines/_configure[?model=]."""
    entries = state.scheduler.configurations(request.query_params.get("model", ""))
    return json_reply([entry.to_json() for entry in entries])


async def configure(
    state: RunnerState, request: Request, backend: str = DEFAULT_BACKEND
) -> Response:
    """POST /engines[/{backend}]/_configure."""
    check_backend(backend)
    document = _parse(await read_body(request))
    try:
        command = parse_configure(document, backend=backend)
    except InvalidRequestError:
        raise TextError(400, "invalid request") from None
    except FlagError as error:
        raise TextError(500, str(error)) from error
    if not command.model:
        raise TextError(400, "model is required")
    try:
        await state.scheduler.configure(command.model, command.mode, command.settings)
    except RunnerBusyError as error:
        raise TextError(409, str(error)) from error
    return Response(b"", 202)


async def unload(state: RunnerState, request: Request) -> Response:
    """POST /engines/unload."""
    document = _parse(await read_body(request))
    models: Any = document.get("models") or []
    every, backend = document.get("all") or False, document.get("backend") or ""
    if not (isinstance(models, list) and isinstance(every, bool) and isinstance(backend, str)):
        raise TextError(400, "invalid request")
    references = [str(model) for model in cast("list[object]", models)]
    count = await state.scheduler.unload(references, every=every, backend=backend)
    return json_reply({"unloaded_runners": count})


async def get_requests(state: RunnerState, request: Request) -> Response:
    """GET /engines/requests, at once or as events."""
    wanted = request.query_params.get("model", "")
    model = state.store.find(wanted) if wanted else None
    name = model.name if model else wanted
    if request.headers.get("accept") != "text/event-stream":
        return json_reply(state.requests.listing(name))
    existing = request.query_params.get("include_existing") == "true"
    events = _events(state, name, existing=existing)
    return StreamReply(events, content_type="text/event-stream")


async def _events(state: RunnerState, model: str, *, existing: bool) -> AsyncIterator[bytes]:
    yield _event("connected", {"status": "connected"})
    listener = state.requests.follow()
    try:
        if existing:
            for entry in state.requests.listing(model):
                yield _event("existing_request", entry)
        while True:
            record = await listener.get()
            if model in {"", record["model"]}:
                yield _event("new_request", record)
    finally:
        state.requests.unfollow(listener)


def _event(name: str, data: object) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


async def get_version(state: RunnerState, request: Request) -> Response:
    """GET /version: who this is."""
    del request
    return json_reply({"version": state.version})


async def get_root(state: RunnerState, request: Request) -> Response:
    """GET /."""
    del state, request
    return text_reply("Docker Model Runner is running (merganser embedded runner)\n")


async def get_logs(state: RunnerState, request: Request) -> Response:
    """GET /logs: the last lines."""
    del request
    await asyncio.sleep(0)
    return text_reply("".join(f"{line}\n" for line in state.log))


def check_backend(name: str) -> None:
    """Refuse a backend that does not exist, and one that is not here.

    Raises:
        TextError: 404 or 412.
    """
    if name not in BACKENDS:
        raise TextError(404, "backend not found")
    if name != DEFAULT_BACKEND:
        raise TextError(
            412,
            f'backend "{name}" is not installed; run: docker model install-runner --backend {name}',
        )


def _parse(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        raise TextError(400, "invalid request") from None
    if not isinstance(document, dict):
        raise TextError(400, "invalid request")
    return document  # pyright: ignore[reportUnknownVariableType] - any JSON object
