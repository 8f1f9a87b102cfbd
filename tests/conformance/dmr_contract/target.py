"""The server under test, the registry of cases and what all cases share."""

from __future__ import annotations

import json
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, cast

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

Json: TypeAlias = dict[str, Any]

Need = Literal["faults", "store", "everything", "embedded", "docker"]
"""What a case asks of a target beyond HTTP; a user's own server grants none of these.

``faults``: an object that injects faults. ``store``: models may be pulled, tagged, loaded and
deleted. ``everything``: touches models and configs that the case did not bring. ``embedded``: only
a server that is not Docker's own has this duty. ``docker``: a route that no client of ours calls,
so that only Docker's own server must have it.
"""

PullFault = Literal[
    "unauthorized-before",
    "not-found-before",
    "unsupported-before",
    "error-line",
    "hub-unauthorized",
    "hub-not-found",
    "abrupt-close",
]
"""Scripted outcomes of the next pull (section 7.4)."""

LONG_READ_SECONDS = 360.0
"""A model may load for 300 s before the runner gives up (section 6)."""

INFERENCE_MODES = ("completion", "embedding", "reranking")


class NotApplicable(Exception):  # noqa: N818 - it is a verdict, not an error
    """The target lacks an optional part of the contract, so the case says nothing about it."""


class FaultControls(Protocol):
    """What the suite asks of a runner beside its HTTP port."""

    def slow_load(self, seconds: float) -> None:
        """Let every engine load take this long at least."""
        ...

    def slow_pull(self, seconds: float) -> None:
        """Let every pull take this long at least."""
        ...

    def fail_next_pull(self, fault: PullFault) -> None:
        """Let the next pull end in this way."""
        ...

    def pullable_model(self) -> str:
        """Name a model that can be pulled without a network, whether it is local or not."""
        ...

    def add_model(self, identifier: str, config: Json) -> None:
        """Keep an untagged model of this id and config, which no engine has to load."""
        ...

    def tag_model(self, identifier: str, reference: str) -> None:
        """Return a model one more tag."""
        ...

    def crash_next_load(self, message: str) -> None:
        """Let the next engine load end with this text on its standard error."""
        ...

    def cut_next_stream(self) -> None:
        """Let the next chat stream break off without its end."""
        ...

    def reset(self) -> None:
        """Take all faults back."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server under test.

    Attributes:
        url: Its root, without a trailing slash.
        embedding_model: Reference of a local model that embeds.
        chat_model: Reference of a local model that chats; not the embedding model.
        rerank_model: Reference of a local model that can be asked to rerank.
        http: A client whose base is the root.
        faults: Injects faults and brings models, or None where only HTTP does.
        embedded: Whether the server is one that stands in for Docker's.
        disposable: Whether a real server's models may be loaded, tagged and deleted.
        slots: Engines that it keeps at one time, or None when that is not known.
    """

    url: str
    embedding_model: str
    chat_model: str
    rerank_model: str
    http: httpx.Client
    faults: FaultControls | None = None
    embedded: bool = False
    disposable: bool = False
    slots: int | None = None

    @property
    def controls(self) -> FaultControls:
        """The controls of a case that needs faults."""
        assert self.faults is not None, "the case should have been skipped: no faults here"
        return self.faults

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Send a GET to a path below the root, taken as it is written."""
        return self.send("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        """Send a POST with a JSON body (nothing for None)."""
        if body is not None:
            options["json"] = body
        return self.send("POST", path, **options)

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send any request; httpx would clean ``//`` of a relative path, an absolute URL stays."""
        return self.http.request(method, f"{self.url}{path}", **options)

    def embed(self, inputs: Any, **fields: Any) -> httpx.Response:
        """Ask for embeddings by the embedding model."""
        body = {"model": self.embedding_model, "input": inputs, **fields}
        return self.post("/engines/v1/embeddings", body)

    def chat(self, text: str, **fields: Any) -> httpx.Response:
        """Ask the chat model, deterministically and shortly unless told otherwise."""
        return self.post("/engines/v1/chat/completions", self.chat_body(text, **fields))

    def chat_body(self, text: str, **fields: Any) -> Json:
        """Return the body of a chat request."""
        messages = [{"role": "user", "content": text}]
        defaults = {"max_tokens": 16, "temperature": 0, "seed": 1}
        return {"model": self.chat_model, "messages": messages, **defaults, **fields}

    def rank(self, query: str, documents: Sequence[str], **fields: Any) -> httpx.Response:
        """Ask for an order of the documents."""
        body = {"model": self.rerank_model, "query": query, "documents": documents, **fields}
        return self.post("/engines/rerank", body)

    def model(self, reference: str) -> Json:
        """Return the Model JSON of a local model."""
        return as_object(self.get(f"/models/{reference}"))

    def runners(self, reference: str, mode: str | None = None) -> list[Json]:
        """List what ``/engines/ps`` says of a model's engines, by any of its names."""
        names = self.names(reference)
        entries = as_objects(self.get("/engines/ps"))
        return [
            entry
            for entry in entries
            if str(entry.get("model_name", "")) in names and mode in {None, entry.get("mode")}
        ]

    def names(self, reference: str) -> set[str]:
        """List the spellings by which a server may name a model in ``ps`` and ``_configure``."""
        model = self.model(reference)
        tags = [str(tag) for tag in model.get("tags", [])]
        shorter = [tag.removeprefix("docker.io/") for tag in tags]
        untagged = [tag.rpartition(":")[0] for tag in [*tags, *shorter] if tag.endswith(":latest")]
        identifier = str(model["id"])
        return {reference, identifier, identifier[7:], *tags, *shorter, *untagged}

    def unload(self, *references: str, forget: bool = True) -> int:
        """Evict the idle engines of models, by default with their configs, and count them."""
        body = {"models": list(references), "backend": "llama.cpp" if forget else ""}
        return int(as_object(self.post("/engines/unload", body))["unloaded_runners"])

    def configure(self, reference: str, **fields: Any) -> None:
        """Configure a model, waiting as section 3 advises while one of its engines is busy.

        Keyword underscores are written as hyphens, as most keys of ``_configure`` are; pass
        ``keep_alive`` with its underscore.
        """
        body = {
            key if key == "keep_alive" else key.replace("_", "-"): fields[key] for key in fields
        }
        deadline = time.monotonic() + 90
        while True:
            response = self.post("/engines/_configure", {"model": reference, **body})
            if response.status_code != 409 or time.monotonic() > deadline:
                break
            time.sleep(0.1)

        assert (response.status_code, response.content) == (202, b""), describe(response)

    def configurations(self, reference: str) -> dict[str, Json]:
        """Return a model's configs by mode."""
        response = self.get("/engines/_configure", params={"model": reference})
        entries = as_objects(response)
        return {str(entry.get("Mode")): cast("Json", entry.get("Config")) for entry in entries}

    @contextmanager
    def fresh(self, *references: str) -> Generator[None]:
        """Start with no engine and no config of the models, and leave them so."""
        self.settle(*references)
        try:
            yield
        finally:
            self.settle(*references)

    def settle(self, *references: str) -> None:
        """Evict the models' engines until none is left, and forget their configs."""

        def nothing_left() -> bool:
            self.unload(*references)
            return not any(self.runners(reference) for reference in references)

        wait_until(nothing_left, f"the engines of {references} did not end", seconds=90)

    @contextmanager
    def busy_chat(self, **fields: Any) -> Generator[None]:
        """Hold a long chat stream open, so that the chat model's engine is in use."""
        body = self.chat_body("Count from one to a thousand.", stream=True, **fields)
        body |= {"max_tokens": 2000, "ignore_eos": True}
        url = f"{self.url}/engines/v1/chat/completions"
        with self.http.stream("POST", url, json=body) as response:
            lines = response.iter_lines()
            assert next(lines, "").startswith("data:"), f"no stream: status {response.status_code}"
            yield


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One checked sentence of the contract.

    Attributes:
        name: The function's name.
        section: Of docs/model-runner.md.
        needs: What it asks of the target beyond HTTP.
        run: Passes, raises AssertionError, or raises NotApplicable.
    """

    name: str
    section: str
    needs: frozenset[Need] = field(default_factory=frozenset[Need])
    run: Callable[[Target], None]


CASES: dict[str, Case] = {}
"""All cases by name, in the order of their registration."""


def case(
    section: str, *needs: Need
) -> Callable[[Callable[[Target], None]], Callable[[Target], None]]:
    """Register a function as a case of a section of docs/model-runner.md."""

    def register(function: Callable[[Target], None]) -> Callable[[Target], None]:
        name = function.__name__
        assert name not in CASES, f"two cases are called {name}"
        CASES[name] = Case(name=name, section=section, needs=frozenset(needs), run=function)
        return function

    return register


def describe(response: httpx.Response) -> str:
    """Say what came back, for the message of a failed case."""
    kind = response.headers.get("content-type", "no content type")
    request = response.request
    return (
        f"{request.method} {request.url.raw_path.decode()} -> "
        f"{response.status_code} ({kind}): {response.text[:500]!r}"
    )


def as_json(response: httpx.Response, status: int = 200) -> Any:
    """Decode a JSON answer of the expected status."""
    assert response.status_code == status, describe(response)
    kind = response.headers.get("content-type", "")
    assert kind.partition(";")[0] == "application/json", describe(response)
    try:
        return json.loads(response.content)
    except ValueError as error:
        raise AssertionError(f"not JSON: {describe(response)}") from error


def as_object(response: httpx.Response, status: int = 200) -> Json:
    """Decode a JSON object."""
    value = as_json(response, status)
    assert isinstance(value, dict), describe(response)
    return cast("Json", value)


def as_objects(response: httpx.Response, status: int = 200) -> list[Json]:
    """Decode a JSON array of objects; ``null`` is none."""
    value = as_json(response, status)
    assert isinstance(value, list), describe(response)
    entries = cast("list[Any]", value)
    assert all(isinstance(entry, dict) for entry in entries), describe(response)
    return cast("list[Json]", entries)


def assert_runner_error(response: httpx.Response, status: int, message: str) -> None:
    """Expect an error of the runner itself: plain text, exactly this and a newline."""
    assert_text_error(response, status)
    assert response.text == f"{message}\n", describe(response)


def assert_text_error(
    response: httpx.Response, status: int, pattern: str = r"[\s\S]+"
) -> re.Match[str]:
    """Expect an error of the runner itself whose text is of a pattern.

    The form is that of Go's ``http.Error``: ``text/plain``, ``nosniff``, one trailing newline.
    """
    assert response.status_code == status, describe(response)
    headers = response.headers
    assert headers.get("content-type") == "text/plain; charset=utf-8", describe(response)
    assert headers.get("x-content-type-options") == "nosniff", describe(response)
    assert response.text.endswith("\n"), describe(response)
    match = re.fullmatch(pattern, response.text.removesuffix("\n"))
    assert match is not None, f"expected {pattern!r}: {describe(response)}"
    return match


def assert_engine_error(
    response: httpx.Response, status: int, pattern: str, kind: str | None = None
) -> Json:
    """Expect an error of the engine: a JSON object whose ``error`` has code, message and type."""
    assert response.status_code == status, describe(response)
    error = as_object(response, status).get("error")
    assert isinstance(error, dict), describe(response)
    fields = cast("Json", error)
    assert fields.get("code") == status, describe(response)
    message = fields.get("message")
    assert isinstance(message, str), describe(response)
    assert re.search(pattern, message), f"expected {pattern!r}: {describe(response)}"
    assert isinstance(fields.get("type"), str), describe(response)
    if kind is not None:
        assert fields["type"] == kind, describe(response)
    return fields


def assert_whole(value: Any, what: str, *, least: int = 0) -> int:
    """Expect a JSON integer of at least ``least``."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    assert is_whole, f"{what} must be an integer, got {value!r}"
    assert value >= least, f"{what} must be at least {least}, got {value}"
    return int(value)


def assert_keys(
    value: Mapping[str, Any], required: set[str], optional: set[str], what: str
) -> None:
    """Expect all required keys and no key that the contract does not know."""
    keys = set(value)
    assert required <= keys, f"{what} lacks {sorted(required - keys)}: {value!r}"
    assert keys <= required | optional, f"{what} has {sorted(keys - required - optional)}"


def words(count: int) -> str:
    """Return a text of at least this many tokens for any tokeniser."""
    pool = ("the", "sea", "is", "cold", "and", "a", "duck", "can", "dive")
    return " ".join(pool[index % len(pool)] for index in range(count))


def wait_until(condition: Callable[[], bool], problem: str, *, seconds: float = 30) -> None:
    """Poll a condition.

    Raises:
        AssertionError: It does not hold in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, problem
        time.sleep(0.03)


class Background:
    """A call in a thread of its own, whose result is fetched later."""

    def __init__(self, call: Callable[[], httpx.Response]) -> None:
        self._call = call
        self._response: httpx.Response | None = None
        self._error: httpx.HTTPError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._response = self._call()
        except httpx.HTTPError as error:
            self._error = error

    @property
    def done(self) -> bool:
        """Whether the call has ended."""
        return not self._thread.is_alive()

    def result(self, seconds: float = LONG_READ_SECONDS) -> httpx.Response:
        """Wait for the answer."""
        self._thread.join(seconds)
        assert self.done, f"no answer within {seconds} s"
        assert self._response is not None, f"the connection broke: {self._error!r}"
        return self._response
