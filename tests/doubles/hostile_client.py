"""Ask a hostile server in a process of its own and tell what came of it, as JSON on stdout.

Arguments: what is asked for (``embeddings``, ``chat``, ``pull``) and the server's address.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from time import monotonic
from typing import Any

from merganser.embedding.embedder import Embedder
from merganser.errors import MerganserError
from merganser.models.client import ModelRunner
from merganser.models.outage import waiting_for_server
from merganser.models.ref import ModelRef
from merganser.models.retry import RetryPolicy
from merganser.models.wire import ServedModel, Timeouts

TEXTS = [f"text number {n}" for n in range(12)]
PATIENCE = Timeouts(
    connect=2, admin=2, load=3, inference=3, token=1, stall=0.3, busy=2, body=2, answer=3, queue=3
)
RETRY = RetryPolicy(attempts=2, first_seconds=0.01)


async def _ask(what: str, url: str) -> Any:
    async with ModelRunner(url, timeouts=PATIENCE, retry=RETRY, pull_retry=RETRY, env={}) as client:
        if what == "pull":
            await client.pull("ai/m")
            return "pulled"
        if what == "chat":
            return (await client.chat("m", "Hello?", max_tokens=2)).text
        model = ModelRef(name="m", provider="dmr", model="m")
        served = ServedModel("m", "m", "sha256:" + "1" * 64, managed=False)
        embedder = Embedder(client, model, served, dimensions=None)
        return (await embedder.embed_documents(TEXTS)).tolist()


def main() -> None:
    """Ask, and print the answer or the error, the seconds and the most memory in MB."""
    told: dict[str, Any] = {"answer": None, "error": None, "is_typed": None}
    began = monotonic()
    try:
        with waiting_for_server(3.0, tell=lambda _text: None):
            told["answer"] = asyncio.run(_ask(*sys.argv[1:3]))
    except Exception as error:  # noqa: BLE001 - whatever it is, the test judges it
        told["error"] = f"{type(error).__name__}: {error}"
        told["is_typed"] = isinstance(error, MerganserError)
    told["seconds"] = monotonic() - began
    # Not what getrusage says, which begins with the memory of the process that started this one.
    peak = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text("utf-8"))
    assert peak is not None
    told["megabytes"] = int(peak[1]) / 1024
    print(json.dumps(told))  # noqa: T201 - what the test reads


if __name__ == "__main__":
    main()
