"""What goes over the wire to and from a model server, as frozen types.

The functions here turn decoded JSON into these types and check only shape; they do no HTTP. Every
key of the server's ``config`` is optional, so each field that comes from it may be None.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from merganser.models.ref import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

Mode: TypeAlias = Literal["completion", "embedding", "reranking"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long to wait for what, in seconds.

    Attributes:
        connect: For the connection itself.
        admin: For calls that only read or set state.
        load: For a request that may have to load the model first. The server gives up after
            300 s, and a client that gives up earlier kills the half-loaded engine, so that every
            retry starts from zero and never succeeds.
        inference: For embedding and reranking with a model that answered a moment ago.
        token: Between two pieces of a streamed answer, after the first.
        stall: Without a byte of a pull, after its first line.
        busy: For a model to become idle before it is reconfigured.
        answer: For the whole of a streamed answer after its first piece; two seconds for each token
            that it may have, where that is more.
        body: For the rest of an answer when its first byte is there: with ``load``, ``inference``
            or ``admin`` it bounds a server that sends a byte now and then.
        queue: For the answer to a pull to begin. A server that pulls two other models says nothing
            until one of them is there, which may take hours; nor does one that hangs.
    """

    connect: float = 5.0
    admin: float = 30.0
    load: float = 360.0
    inference: float = 120.0
    token: float = 120.0
    stall: float = 120.0
    busy: float = 300.0
    body: float = 120.0
    answer: float = 1800.0
    queue: float = 12 * 3600.0


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that is local to the server.

    Attributes:
        ref: As the user wrote it.
        canonical: The name that requests carry.
        id: ``sha256:`` and the manifest's digest: the stable key of caches. On a server that
            manages no models it is only the name it lists.
        tags: Fully qualified, as the server returned them.
        context_size: Tokens, as packaged; often unknown.
        architecture: For example ``gemma3``.
        quantization: For example ``MOSTLY_Q4_K_M``.
        parameters: For people, for example ``3.88B``.
        size: On disk, for people, for example ``2.31GiB``.
        name: ``general.name`` of the GGUF file.
        alias_of: What is really served when the tag is an alias, else None.
        managed: False on a server without Docker Model Runner's management calls.
        note: What a user should know about this model, or empty.
    """

    ref: str
    canonical: str
    id: str
    _: KW_ONLY
    tags: tuple[str, ...] = ()
    context_size: int | None = None
    architecture: str | None = None
    quantization: str | None = None
    parameters: str | None = None
    size: str | None = None
    name: str | None = None
    alias_of: str | None = None
    managed: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True)
class EmbeddingBatch:
    """The vectors of one request, in the order of its inputs.

    Attributes:
        vectors: (n, dim) float32, finite, as the server scaled them.
        prompt_tokens: As the server counted them, or 0 when it does not say.
    """

    vectors: NDArray[np.float32]
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class RerankScore:
    """The raw score of one document: higher is more relevant, the scale is the model's own."""

    index: int
    score: float


@dataclass(frozen=True, slots=True)
class RunningModel:
    """One engine process of ``GET /engines/ps``."""

    backend: str
    model: str
    mode: str
    in_use: bool
    loading: bool
    last_used: str
    keep_alive: str | None


@dataclass(frozen=True, slots=True)
class RemovedModel:
    """What a server removed.

    Attributes:
        untagged: Names that the model had.
        deleted: Ids whose weights are gone; empty where other names still mean the model.
        stopped: Engines that ran it and were idle.
    """

    untagged: tuple[str, ...]
    deleted: tuple[str, ...]
    stopped: int


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """Bytes on disk, as ``GET /engines/df`` says."""

    models_bytes: int
    engine_bytes: int


@dataclass(frozen=True, slots=True)
class RunnerStatus:
    """What ``docker model status`` shows.

    Attributes:
        running: The model manager answers.
        version: For example ``v1.2.6``, or None for a server older than v1.0.30.
        engines: Name and state of each engine, for example ``Running: llama.cpp 642c721``.
    """

    running: bool
    version: str | None
    engines: tuple[tuple[str, str], ...]


def as_mapping(value: Any) -> dict[str, Any]:
    """Return decoded JSON as an object, or an empty one when it is something else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """Return decoded JSON as an array, or an empty one when it is something else."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def as_text(value: Any) -> str | None:
    """Return decoded JSON as a string that is not empty, or None."""
    return value if isinstance(value, str) and value else None


def as_count(value: Any) -> int | None:
    """Return decoded JSON as an integer above 0 of at most 63 bits, or None."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and 0 < value < 1 << 63 else None


def parse_model(document: Mapping[str, Any], *, ref: str = "") -> ServedModel:
    """Read one Model of ``GET /models``.

    Args:
        document: The decoded object; CNCF ModelPack artifacts have an almost empty ``config``.
        ref: What was asked for; without it the first tag stands in.
    """
    config = as_mapping(document.get("config"))
    gguf = as_mapping(config.get("gguf"))
    tags = tuple(tag for tag in as_list(document.get("tags")) if isinstance(tag, str))
    model_id = as_text(document.get("id")) or ""
    shown = ref or (tags[0] if tags else model_id)
    alias_of = as_text(as_mapping(document.get("merganser")).get("alias_of"))
    return ServedModel(
        ref=shown,
        canonical=canonical(shown),
        id=model_id,
        tags=tags,
        context_size=as_count(config.get("context_size")),
        architecture=as_text(config.get("architecture"))
        or as_text(gguf.get("general.architecture")),
        quantization=as_text(config.get("quantization")),
        parameters=as_text(config.get("parameters")),
        size=as_text(config.get("size")),
        name=as_text(gguf.get("general.name")),
        alias_of=alias_of,
        note=f"{shown} is an alias: {alias_of} is what answers" if alias_of else "",
    )


def parse_running(document: Any) -> tuple[RunningModel, ...]:
    """Read ``GET /engines/ps``."""
    return tuple(
        RunningModel(
            backend=as_text(row.get("backend_name")) or "",
            model=as_text(row.get("model_name")) or "",
            mode=as_text(row.get("mode")) or "",
            in_use=row.get("in_use") is True,
            loading=row.get("loading") is True,
            last_used=as_text(row.get("last_used")) or "",
            keep_alive=as_text(row.get("keep_alive")),
        )
        for row in map(as_mapping, as_list(document))
    )
