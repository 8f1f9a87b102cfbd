"""Write a scripted chat answer in llama.cpp's wire format (docs/model-runner.md, section 1.3).

The answer says that it is scripted, in ``system_fingerprint``; its token counts are words.
"""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from starlette.responses import Response, StreamingResponse

from merganser.runner.engines import encode_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from tests.doubles.faults import ScriptedAnswer

FINGERPRINT = "scripted"

_PIECES = re.compile(r"\s*\S+|\s+$")


def scripted_response(answer: ScriptedAnswer, request: Mapping[str, Any]) -> Response:
    """Answer a chat request from the script, streamed if it asks for a stream."""
    if request.get("stream"):
        return StreamingResponse(
            _stream(answer, request), headers={"Content-Type": "text/event-stream"}
        )
    message: dict[str, Any] = {"role": "assistant", "content": answer.content or None}
    if answer.tool_calls:
        message["tool_calls"] = _calls(answer)
    choice = {"finish_reason": _finish(answer), "index": 0, "message": message}
    document = _envelope(request, "chat.completion", choices=[choice])
    body = encode_json({**document, "usage": _usage(answer, request)})
    return Response(body, media_type="application/json; charset=utf-8")


async def _stream(answer: ScriptedAnswer, request: Mapping[str, Any]) -> AsyncIterator[bytes]:
    identity = f"chatcmpl-{uuid4().hex}"
    for delta in _deltas(answer):
        yield _event(request, identity, [{"finish_reason": None, "index": 0, "delta": delta}])
    end: dict[str, Any] = {"finish_reason": _finish(answer), "index": 0, "delta": {}}
    yield _event(request, identity, [end])
    options: dict[str, Any] = request.get("stream_options") or {}
    if options.get("include_usage"):
        yield _event(request, identity, [], usage=_usage(answer, request))
    yield b"data: [DONE]\n\n"


def _deltas(answer: ScriptedAnswer) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "content": None}
    for piece in _PIECES.findall(answer.content):
        yield {"content": piece}
    for index, call in enumerate(_calls(answer)):
        yield {"tool_calls": [{"index": index, **call}]}


def _event(
    request: Mapping[str, Any], identity: str, choices: list[dict[str, Any]], **more: Any
) -> bytes:
    document = _envelope(request, "chat.completion.chunk", choices=choices)
    return b"data: " + encode_json({**document, "id": identity, **more}) + b"\n\n"


def _envelope(request: Mapping[str, Any], kind: str, **parts: Any) -> dict[str, Any]:
    return {
        **parts,
        "created": int(time.time()),
        "model": request.get("model", ""),
        "system_fingerprint": FINGERPRINT,
        "object": kind,
        "id": f"chatcmpl-{uuid4().hex}",
    }


def _calls(answer: ScriptedAnswer) -> list[dict[str, Any]]:
    return [
        {
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(dict(call.arguments))},
            "id": uuid4().hex,
        }
        for call in answer.tool_calls
    ]


def _finish(answer: ScriptedAnswer) -> str:
    return answer.finish_reason or ("tool_calls" if answer.tool_calls else "stop")


def _usage(answer: ScriptedAnswer, request: Mapping[str, Any]) -> dict[str, int]:
    prompt = len(json.dumps(request.get("messages", [])).split())
    made = len(answer.content.split()) + sum(len(str(call)) // 4 for call in answer.tool_calls)
    return {"completion_tokens": made, "prompt_tokens": prompt, "total_tokens": made + prompt}
