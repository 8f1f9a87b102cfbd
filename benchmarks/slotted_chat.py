"""A model runner with N slots: ``python benchmarks/slotted_chat.py SLOTS SECONDS``.

It is the embedded runner with one path answered before it reaches an engine: a chat takes a slot
for a fixed time, as one to a model on another machine would, and cites a source. ``GET /kept``
tells the chats since the last call, and how full they kept the slots: the integral of slots in use
over slots times the time from the first start to the last one. The address is printed on the first
line of standard output.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from free_runner import read_body, send_json, serve

from tests.doubles import ScriptedAnswer
from tests.doubles.scripted import scripted_response

CHAT_MODEL = "ai/smollm2"
QUESTION = "How deep does duck number"
"""How a batch's questions begin; other requests, such as loading the model, hold no slot."""

_PROBE_SOURCES = ("museum/hours.md", "pool/release.py")
"""What answers the probe of citations is the third source; for a batch the first is as good."""


class SlottedChat:
    """ASGI middleware that answers for the chat engine."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._count, self._seconds = int(sys.argv[1]), float(sys.argv[2])
        self._slots = asyncio.Semaphore(self._count)
        self._spans: list[tuple[float, float]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request, or hand it on."""
        path = scope.get("path", "")
        if path == "/kept":
            await send_json(send, self._kept())
        elif path.endswith("/v1/chat/completions"):
            body = await read_body(receive)
            is_probe = any(source in body.decode() for source in _PROBE_SOURCES)
            if QUESTION in body.decode():
                async with self._slots:
                    began = time.monotonic()
                    await asyncio.sleep(self._seconds)
                    self._spans.append((began, time.monotonic()))
            answer = ScriptedAnswer("It is so [3]." if is_probe else "It is so [1].")
            await scripted_response(answer, json.loads(body))(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _kept(self) -> dict[str, float]:
        spans, self._spans = self._spans, []
        if len(spans) < 2:
            return {"chats": len(spans), "kept": 0.0, "answering": 0.0}
        first, last = min(start for start, _ in spans), max(start for start, _ in spans)
        used = sum(min(end, last) - start for start, end in spans)
        kept = used / (self._count * (last - first))
        return {"chats": len(spans), "kept": kept, "answering": max(e for _, e in spans) - first}


if __name__ == "__main__":
    serve(SlottedChat, models=[CHAT_MODEL])
