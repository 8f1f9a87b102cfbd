"""One embedder for all shards of a run, on an event loop of its own.

Shards are embedded by threads that come and go. The connection to the model, what was learnt of
its pace and the queue of texts belong to the run, so they live in one thread that the others ask.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    import numpy as np
    from numpy.typing import NDArray

    from merganser.embedding.embedder import Embedder
    from merganser.embedding.text_queue import OnVectors

_END_SECONDS = 5.0


class EmbedService:
    """An open embedder that any thread may use.

    Args:
        open_embedder: Opens it; called, entered and left in the service's thread.

    Raises:
        MerganserError: It could not be opened.
    """

    def __init__(self, open_embedder: Callable[[], AbstractAsyncContextManager[Embedder]]) -> None:
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._ready: Future[Embedder] = Future()
        self._thread = threading.Thread(
            target=self._serve, args=(open_embedder,), name="merganser-embed", daemon=True
        )
        self._thread.start()
        self._embedder = self._ready.result()

    @property
    def fingerprint(self) -> str:
        """Everything that changes a vector; see ``Embedder.fingerprint``."""
        return self._embedder.fingerprint

    async def embed_documents(
        self, texts: Sequence[str], *, on_vectors: OnVectors | None = None
    ) -> NDArray[np.float32]:
        """Embed passages together with those of other threads; see ``Embedder.embed_documents``.

        ``on_vectors`` is called in the service's thread.

        Raises:
            ModelRunnerError: As there.
            CancelledError: The service was closed.
        """
        context = contextvars.copy_context()  # listeners to progress are found through it

        def tell(positions: Sequence[int], vectors: NDArray[np.float32]) -> None:
            if on_vectors is not None:
                context.run(on_vectors, positions, vectors)

        work = self._embedder.embed_documents(texts, on_vectors=tell)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def close(self) -> None:
        """Cancel what is under way and close the connection."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopped.set)
            self._thread.join(_END_SECONDS)

    def _serve(self, open_embedder: Callable[[], AbstractAsyncContextManager[Embedder]]) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            try:
                runner.run(self._hold(open_embedder))
            except BaseException as error:
                if self._ready.done():
                    raise
                self._ready.set_exception(error)

    async def _hold(
        self, open_embedder: Callable[[], AbstractAsyncContextManager[Embedder]]
    ) -> None:
        async with open_embedder() as embedder:
            self._ready.set_result(embedder)
            await self._stopped.wait()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
