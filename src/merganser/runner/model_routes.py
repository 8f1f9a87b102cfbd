"""The model manager: ``/models`` and all under it (section 1.1)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from merganser.runner.model_names import is_valid, qualify
from merganser.runner.model_store import ModelConflictError
from merganser.runner.model_tar import BadModelTarError, read_model_tar
from merganser.runner.pulls import RawText
from merganser.runner.replies import (
    StreamReply,
    TextError,
    json_reply,
    read_body,
    text_reply,
    unless_gone,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from merganser.runner.pulls import Line
    from merganser.runner.state import RunnerState

# Go's html.EscapeString, whose entities differ from Python's.
_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&#34;", "'": "&#39;"})


async def list_models(state: RunnerState, request: Request) -> Response:
    """GET /models."""
    del request
    return json_reply([model.to_json() for model in state.store])


async def get_model(state: RunnerState, request: Request, reference: str) -> Response:
    """GET /models/{ref}, local or as the catalogue has it."""
    if request.query_params.get("remote", "").lower() in {"true", "1", "t"}:
        return _remote_model(state, reference)
    model = state.store.find(reference, by_bare_name=True)
    if model is None:
        raise TextError(404, "model not found")
    return json_reply(model.to_json())


def _remote_model(state: RunnerState, reference: str) -> Response:
    target = state.puller.resolve(reference)
    if target is None:
        raise TextError(
            404,
            f'error while getting remote model: failed to pull model "{reference}": '
            "MANIFEST_UNKNOWN - Model not found",
        )
    document: dict[str, Any] = {
        "id": f"sha256:{target.model.files[0].sha256}",
        "tags": [qualify(reference)],
        "created": 0,
        "config": {
            "architecture": target.model.architecture,
            "parameters": target.model.parameters,
            "context_size": target.model.context_tokens,
        },
    }
    if target.alias_of:
        document["merganser"] = {"alias_of": target.alias_of}
    return json_reply(document)


async def create_model(state: RunnerState, request: Request) -> Response:
    """POST /models/create: pull, with progress in one of two encodings."""
    try:
        document = json.loads(await read_body(request))
        reference, token = document["from"], document.get("bearer-token")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise TextError(400, "invalid request body") from None
    if not isinstance(reference, str) or not is_valid(reference):
        raise TextError(400, "Invalid model reference")
    lines = state.puller.pull(reference, token)
    # No header is sent before the first line: an early failure still has its own status.
    first = await unless_gone(request.receive, anext(lines))
    as_json = request.headers.get("accept", "") == "application/json"
    return StreamReply(
        _encoded(first, lines, as_json=as_json),
        content_type="application/json" if as_json else "text/plain",
        headers={"Cache-Control": "no-cache"},
    )


async def _encoded(
    first: Line, lines: AsyncIterator[Line], *, as_json: bool
) -> AsyncIterator[bytes]:
    yield encode_line(first, as_json=as_json)
    async for line in lines:
        yield encode_line(line, as_json=as_json)


def encode_line(line: Line, *, as_json: bool) -> bytes:
    """Write a line of the stream, as JSON or, for other clients, escaped for HTML."""
    if isinstance(line, RawText):
        return f"{line.text}\n".encode()
    text = json.dumps(line, ensure_ascii=False, separators=(",", ":"))
    return f"{text if as_json else text.translate(_HTML)}\n".encode()


async def load_model(state: RunnerState, request: Request) -> Response:
    """POST /models/load: take a model from a tar stream (section 8)."""
    try:
        artifact = await read_model_tar(request.stream(), state.scratch)
    except (BadModelTarError, OSError) as error:
        raise TextError(500, f"error while loading model: {error}") from error
    state.store.add(artifact, None)
    line = {
        "type": "success",
        "message": "Model loaded successfully",
        "total": 0,
        "layer": {"size": 0, "current": 0},
    }
    return text_reply(json.dumps(line, separators=(",", ":")) + "\n")


async def tag_model(state: RunnerState, request: Request, reference: str) -> Response:
    """POST /models/{ref}/tag?repo=R&tag=T."""
    repository = request.query_params.get("repo", "")
    tag = request.query_params.get("tag", "")
    if not repository or not tag:
        raise TextError(400, "missing repo or tag query parameter")
    model = state.store.find(reference)
    if model is None:
        raise TextError(404, "model not found")
    target = f"{repository}:{tag}"
    state.store.tag(model, target)
    message = f'Model tagged successfully with "{target}"'
    return json_reply({"message": message, "target": target}, status=201)


async def delete_model(state: RunnerState, request: Request, reference: str) -> Response:
    """DELETE /models/{ref}?force=bool; a running engine goes on running."""
    force = request.query_params.get("force", "").lower() in {"true", "1", "t"}
    try:
        actions = state.store.delete(reference, force=force)
    except ModelConflictError as error:
        raise TextError(409, f"error while deleting model: {error}") from error
    if actions is None:
        raise TextError(404, "error while deleting model: model not found")
    return json_reply(actions)


async def purge_models(state: RunnerState, request: Request) -> Response:
    """DELETE /models/purge; conversions stay in the cache, where they can be made again."""
    del request
    state.store.purge()
    return Response(b"")
