"""The model manager, ``/models`` and all under it (``docs/model-runner.md``, section 1.1)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from merganser.runner.model_store import ModelConflictError, is_valid, qualify
from merganser.runner.pulls import RawText
from merganser.runner.replies import StreamReply, TextError, read_body, unless_gone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from merganser.runner.model_store import ModelStore
    from merganser.runner.pulls import Line, Puller

# Go's html.EscapeString, whose entities differ from Python's.
_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&#34;", "'": "&#39;"})


class ModelRoutes:
    """Lists, pulls and deletes models.

    Args:
        store: The models that are here.
        puller: Makes more of them available.
    """

    def __init__(self, store: ModelStore, puller: Puller) -> None:
        self._store = store
        self._puller = puller

    @property
    def routes(self) -> list[Route]:
        """Paths and methods."""
        model = "/models/{reference:path}"
        return [
            Route("/models", self._list),
            Route("/models/", self._list),
            Route("/models/create", self._pull, methods=["POST"]),
            Route(model, self._get),
            Route(model, self._delete, methods=["DELETE"]),
        ]

    async def _list(self, _: Request) -> Response:
        return JSONResponse([model.to_json() for model in self._store])

    async def _get(self, request: Request) -> Response:
        """Return a model that is here or, with ``?remote=true``, one that can be pulled."""
        reference = request.path_params["reference"]
        if _is_set(request, "remote"):
            return self._get_remote(reference)
        model = self._store.find(reference, by_bare_name=True)
        if model is None:
            raise TextError(404, "model not found")
        return JSONResponse(model.to_json())

    def _get_remote(self, reference: str) -> Response:
        target = self._puller.resolve(reference)
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
        return JSONResponse(document)

    async def _pull(self, request: Request) -> Response:
        """Pull a model, with progress in one of two encodings."""
        try:
            document = json.loads(await read_body(request))
            reference, token = document["from"], document.get("bearer-token")
        except (ValueError, KeyError, TypeError, AttributeError):
            raise TextError(400, "invalid request body") from None
        if not isinstance(reference, str) or not is_valid(reference):
            raise TextError(400, "Invalid model reference")
        lines = self._puller.pull(reference, token)
        # No header is sent before the first line: an early failure still has its own status.
        first = await unless_gone(request.receive, anext(lines))
        as_json = request.headers.get("accept", "") == "application/json"
        return pull_reply(first, lines, as_json=as_json)

    async def _delete(self, request: Request) -> Response:
        """Remove a tag or a model; a running engine goes on running."""
        reference = request.path_params["reference"]
        try:
            actions = self._store.delete(reference, force=_is_set(request, "force"))
        except ModelConflictError as error:
            raise TextError(409, f"error while deleting model: {error}") from error
        if actions is None:
            raise TextError(404, "error while deleting model: model not found")
        return JSONResponse(actions)


def _is_set(request: Request, flag: str) -> bool:
    return request.query_params.get(flag, "").lower() in {"true", "1", "t"}


def pull_reply(first: Line, lines: AsyncIterator[Line], *, as_json: bool) -> Response:
    """Return the answer that streams the lines of a pull, as JSON or escaped for HTML."""

    async def encoded() -> AsyncIterator[bytes]:
        yield _encode(first, as_json=as_json)
        async for line in lines:
            yield _encode(line, as_json=as_json)

    return StreamReply(
        encoded(),
        content_type="application/json" if as_json else "text/plain",
        headers={"Cache-Control": "no-cache"},
    )


def _encode(line: Line, *, as_json: bool) -> bytes:
    if isinstance(line, RawText):
        return f"{line.text}\n".encode()
    text = json.dumps(line, ensure_ascii=False, separators=(",", ":"))
    return f"{text if as_json else text.translate(_HTML)}\n".encode()
