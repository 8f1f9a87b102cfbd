"""The HTTP connection to a model server: time limits, retries and errors of every call.

All requests of the client but those of chats go through here, so that each failure becomes a typed
error and each call waits as long as its kind may take.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import httpx
import orjson

from merganser.errors import (
    ModelRunnerError,
    ProtocolError,
    RunnerUnavailableError,
    TransientError,
)
from merganser.humanize import show_age
from merganser.models.response_limits import (
    MOST_BYTES,
    MOST_REDIRECTS,
    as_whole,
    read_body,
    redirected,
    require_encoding,
)
from merganser.models.retry import NO_RETRY, RetryPolicy, with_retries
from merganser.models.server_errors import (
    error_for,
    error_for_exception,
    error_in_success,
    read_message,
)
from merganser.models.transport import OPENED, open_client
from merganser.telemetry import span

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Mapping
    from contextlib import AbstractContextManager

    from merganser.models.address import Address
    from merganser.models.upkeep import Upkeep
    from merganser.models.wire import Timeouts
    from merganser.telemetry import Attributes, Span

# Long enough to cover a batch, short enough that the server's idle eviction (5 minutes, or the
# slots of a small machine taken by another model) rarely falls between.
_WARM_SECONDS = 60.0

_IS_JSON = {"Content-Type": "application/json"}

PROVIDER = "merganser"
"""Of every model in spans, whatever serves it; Pydantic AI's say the same of agents' models."""


class Connection:
    """An open connection to one address.

    Args:
        address: Where.
        timeouts: How long each kind of call may take.
        retry: What a call does by itself about transient failures.
        token: Sent as ``Authorization: Bearer``, for servers that want one.

    Attributes:
        doubts: How often something happened that a restart of the server may explain: a request
            failed, or one that watches over no configuration opened a connection.
    """

    def __init__(
        self, address: Address, *, timeouts: Timeouts, retry: RetryPolicy, token: str | None = None
    ) -> None:
        self.address = address
        self.timeouts = timeouts
        self.retry = retry
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.client = open_client(address, timeout=self._limit(timeouts.admin), headers=headers)
        self._answered: dict[tuple[str, str], float] = {}
        self.doubts = 0

    async def __aenter__(self) -> Self:
        await self.client.__aenter__()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.client.aclose()

    def shown(self, path: str) -> str:
        """Return the address of a call, for messages."""
        return self.address.shown + path

    def span(
        self, operation: str, model: str, attributes: Attributes | None = None
    ) -> AbstractContextManager[Span]:
        """Return the span of a call to a model, by the GenAI semantic conventions.

        Args:
            operation: ``embeddings``, ``chat`` or ``rerank``.
            model: The name that the server knows it by.
            attributes: More of the request.
        """
        where = urlsplit(self.address.shown)
        common: Attributes = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": PROVIDER,
            "gen_ai.request.model": model,
            "server.address": where.hostname or self.address.shown,
            **({"server.port": where.port} if where.port else {}),
        }
        return span(f"{operation} {model}", {**common, **(attributes or {})}, is_request=True)

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        model: str | None = None,
        read_seconds: float | None = None,
        expected: Collection[int] = (),
        retry: RetryPolicy | None = None,
        upkeep: Upkeep | None = None,
        most_bytes: int = MOST_BYTES,
    ) -> httpx.Response:
        """Send one request and read the whole answer.

        Redirects are followed on the same host alone.

        Args:
            method: The HTTP method.
            path: Below the address's root.
            body: Sent as JSON.
            params: The query.
            headers: More headers.
            model: The model that the request is about, for the error.
            read_seconds: How long to wait for the answer; the admin limit by default.
            expected: Statuses besides 2xx that the caller handles itself.
            retry: Instead of the connection's own policy.
            upkeep: The configuration that has to stand where this is answered.
            most_bytes: Of the answer, decompressed.

        Raises:
            ProtocolError: The answer is too large, or it sends us to another host.
            ModelRunnerError: The typed error of what went wrong; see ``server_errors``.
        """
        silence = read_seconds if read_seconds is not None else self.timeouts.admin
        limit = self._limit(silence)
        # Encoded once for all tries; httpx would use the standard library, ten times slower.
        content = None if body is None else orjson.dumps(body)
        sent = {**(headers or {}), **({} if body is None else _IS_JSON)}

        async def attempt() -> httpx.Response:
            if upkeep is not None:
                await upkeep.ensure()
            request = self.client.build_request(
                method,
                self.address.root + path,
                content=content,
                params=params,
                headers=sent,
                timeout=limit,
            )
            response = await self._send(
                request, path, silence + self.timeouts.body, upkeep, most_bytes
            )
            if not response.is_success and response.status_code not in expected:
                raise self.error(response, response.text, path=path, model=model)
            return response

        def note(_error: TransientError) -> None:
            # Whatever was loaded and configured may be gone, so the next request asks and waits.
            self.doubts += 1
            self.forget_answers()

        return await with_retries(
            attempt, self.retry if retry is None else retry, on_transient=note
        )

    async def _note_opened(self, event: str, _info: Any) -> None:
        if event.endswith(OPENED):
            self.doubts += 1

    async def _send(
        self,
        request: httpx.Request,
        path: str,
        seconds: float,
        upkeep: Upkeep | None,
        most_bytes: int,
    ) -> httpx.Response:
        """Send a request, follow lawful redirects and read the answer within its bounds."""
        url = self.shown(path)
        try:
            async with asyncio.timeout(seconds) as timer:
                for _ in range(MOST_REDIRECTS + 1):
                    request.extensions["trace"] = (
                        upkeep.watch(timer, seconds) if upkeep is not None else self._note_opened
                    )
                    response = await self.client.send(request, stream=True)
                    try:
                        body = await read_body(response, most_bytes, url)
                    finally:
                        await response.aclose()
                    following = redirected(request, response, url)
                    if following is None:
                        return as_whole(response, body)
                    request = following
        except httpx.HTTPError as exc:
            raise error_for_exception(exc, url=url) from exc
        except TimeoutError as exc:
            message = f"{url} did not end its answer within {seconds:g} s"
            raise RunnerUnavailableError(message, url=url) from exc
        raise ProtocolError(f"{url}: more than {MOST_REDIRECTS} redirects", url=url)

    async def json(self, method: str, path: str, **options: Any) -> Any:
        """Send one request and decode the JSON of its answer.

        Raises:
            ProtocolError: The answer is no JSON.
            ModelRunnerError: As for ``request``.
        """
        policy: RetryPolicy = options.pop("retry", None) or self.retry

        async def ask() -> Any:
            response = await self.request(method, path, retry=NO_RETRY, **options)
            document = self.decode(response, path=path)
            error = error_in_success(document, url=self.shown(path), model=options.get("model"))
            if error is not None:
                raise error
            return document

        return await with_retries(ask, policy)

    def decode(self, response: httpx.Response, *, path: str) -> Any:
        """Decode an answer's JSON.

        Raises:
            ProtocolError: The answer is no JSON.
        """
        with suppress(orjson.JSONDecodeError):
            return orjson.loads(response.content)
        # What is not strict JSON: NaN, which the caller refuses with better words, or UTF-16.
        try:
            return response.json()
        except (ValueError, RecursionError) as exc:
            url = self.shown(path)
            message = f"{url} answered {response.status_code} without JSON: {response.text[:200]!r}"
            raise ProtocolError(message, status=response.status_code, url=url) from exc

    @asynccontextmanager
    async def stream(
        self,
        path: str,
        *,
        body: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
        model: str | None = None,
        begin_seconds: float,
        retry: RetryPolicy | None = None,
    ) -> AsyncGenerator[httpx.Response, None]:
        """POST and yield the answer before its body is read; a failed status raises.

        Only what fails before the answer's first byte is retried, so nothing is done twice.

        Args:
            path: Below the address's root.
            body: Sent as JSON.
            headers: More headers.
            model: The model that the request is about, for the error.
            begin_seconds: Until the answer begins, whatever comes before it. Its body has no limit
                here.
            retry: Instead of the connection's own policy.

        Raises:
            ModelRunnerError: The typed error of what went wrong, also while the body is read.
        """
        limit, url = self._limit(None), self.shown(path)

        async def attempt() -> httpx.Response:
            request = self.client.build_request(
                "POST", self.address.root + path, json=body, headers=headers, timeout=limit
            )
            try:
                for _ in range(MOST_REDIRECTS + 1):
                    request.extensions["trace"] = self._note_opened
                    response = await self._begin(request, begin_seconds, url)
                    if response.is_success:
                        require_encoding(response.headers, url)
                        return response
                    try:
                        async with asyncio.timeout(self.timeouts.body):
                            said = await read_body(response, MOST_BYTES, url)
                    finally:
                        await response.aclose()
                    following = redirected(request, response, url)
                    if following is None:
                        text = as_whole(response, said).text
                        raise self.error(response, text, path=path, model=model)
                    request = following
            except httpx.HTTPError as exc:
                raise error_for_exception(exc, url=url) from exc
            except TimeoutError as exc:
                message = f"{url} did not end its answer within {self.timeouts.body:g} s"
                raise RunnerUnavailableError(message, url=url) from exc
            raise ProtocolError(f"{url}: more than {MOST_REDIRECTS} redirects", url=url)

        response = await with_retries(attempt, self.retry if retry is None else retry)
        try:
            yield response
        except httpx.HTTPError as exc:
            raise error_for_exception(exc, url=url) from exc
        finally:
            await response.aclose()

    async def _begin(self, request: httpx.Request, seconds: float, url: str) -> httpx.Response:
        """Send a request and return its answer once the headers are there."""
        try:
            async with asyncio.timeout(seconds):
                return await self.client.send(request, stream=True)
        except TimeoutError as exc:
            # No transient error: another try would wait as long again.
            message = f"{url} did not begin its answer within {show_age(seconds)}"
            raise ModelRunnerError(message, url=url) from exc

    def error(
        self, response: httpx.Response, text: str, *, path: str, model: str | None
    ) -> ModelRunnerError:
        """Return the typed error of a failed answer."""
        return error_for(
            response.status_code,
            read_message(text),
            url=self.shown(path),
            model=model,
            retry_after=response.headers.get("Retry-After"),
        )

    def patience(self, model: str, mode: str) -> float:
        """Return the seconds to wait for an inference, which may have to load the model first."""
        last = self._answered.get((model, mode))
        warm = last is not None and monotonic() - last < _WARM_SECONDS
        return self.timeouts.inference if warm else self.timeouts.load

    def note_answer(self, model: str, mode: str) -> None:
        """Remember that a model is loaded in a mode."""
        self._answered[model, mode] = monotonic()

    def forget_answers(self) -> None:
        """Forget which models are loaded: after an unload, or after a failure."""
        self._answered.clear()

    def _limit(self, read_seconds: float | None) -> httpx.Timeout:
        # No pool limit: waiting for a free connection is waiting for our own other requests.
        return httpx.Timeout(
            connect=self.timeouts.connect, read=read_seconds, write=60.0, pool=None
        )
