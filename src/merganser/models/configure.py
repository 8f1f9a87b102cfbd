"""Configure how the server runs a model, once per mode, and load it in the mode that is wanted.

A configuration is keyed by model and mode and replaced whole: an embedding request does not see
what was set for completion. It lives in the server's memory only, so it is compared and applied
again before each job. Applying one makes the server preload the model in completion mode, whatever
mode was configured; ``load_for`` clears that stray engine away.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING, Any

from merganser.errors import RequestRejectedError, RunnerUnavailableError
from merganser.humanize import parse_duration
from merganser.models.ref import canonical
from merganser.models.runtime_flags import find_refused, reason_in, translate, words_of
from merganser.models.wire import Mode, as_count, as_list, as_mapping, as_text, parse_running
from merganser.progress import remark

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from merganser.models.connection import Connection
    from merganser.models.ref import DraftModel, ModelRef, ModelUse
    from merganser.models.runtime_flags import RuntimeFlag
    from merganser.models.wire import RunningModel, ServedModel

# llama.cpp processes a text for embedding or reranking in one physical batch, 512 tokens by
# default, and rejects longer ones. Chunks are up to 4,000 characters, about 1,300 tokens of code;
# a larger batch costs CPU time and memory for nothing.
DEFAULT_BATCH_TOKENS = 2048
_LARGEST_BATCH_TOKENS = 8192
_BATCH_FLAGS = frozenset({"-b", "--batch-size", "-ub", "--ubatch-size"})
# The completion preload after a configuration ends by itself after 60 s.
_STRAY_SECONDS = 65.0
_POLL_SECONDS = 0.5
_MODES: dict[str, Mode] = {
    "chat": "completion",
    "embedding": "embedding",
    "reranking": "reranking",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigureRequest:
    """What one model gets in one mode.

    Attributes:
        mode: The mode; the server keeps one configuration per mode.
        context_size: Tokens, or None for what the model was packaged with.
        runtime_flags: llama.cpp flags in the words that the server takes.
        draft: The draft model of speculative decoding, or None.
        keep_alive: A Go duration such as ``10m``, ``0`` or ``-1``, or None for 5 minutes.
    """

    mode: Mode
    context_size: int | None = None
    runtime_flags: tuple[str, ...] = ()
    draft: DraftModel | None = None
    keep_alive: str | None = None

    def body(self, ref: str) -> dict[str, Any]:
        """Return the JSON of ``POST /engines/_configure``; its keys mix hyphens and underscores."""
        body: dict[str, Any] = {"model": canonical(ref), "mode": self.mode}
        if self.context_size is not None:
            body["context-size"] = self.context_size
        if self.runtime_flags:
            body["runtime-flags"] = list(self.runtime_flags)
        if self.draft is not None:
            body["speculative"] = {
                "draft_model": canonical(self.draft.model),
                "num_tokens": self.draft.num_tokens,
                "min_acceptance_rate": self.draft.acceptance_rate,
            }
        if self.keep_alive is not None:
            body["keep_alive"] = self.keep_alive
        return body


def mode_of(use: ModelUse) -> Mode | None:
    """Return the mode that a use runs in; None for a draft, which runs inside its target."""
    return _MODES.get(use.role)


def configure_request(use: ModelUse, served: ServedModel | None = None) -> ConfigureRequest | None:
    """Work out what a use needs to be configured.

    Args:
        use: The model and what it is for.
        served: What the server says about it, for the size of its context.

    Returns:
        None when the server's defaults are what is wanted.
    """
    mode = mode_of(use)
    if mode is None:
        return None
    model = use.model
    flags = words_of(model.runtime_flags)
    if mode != "completion":
        flags += _batch_flags(model, flags, served)
    request = ConfigureRequest(
        mode=mode,
        context_size=model.context_size,
        runtime_flags=flags,
        draft=model.draft if mode == "completion" else None,
        keep_alive=model.keep_alive,
    )
    return None if request == ConfigureRequest(mode=mode) else request


def _batch_flags(
    model: ModelRef, flags: Sequence[str], served: ServedModel | None
) -> tuple[str, ...]:
    """Return the flags that let one input fill the context; the user's own flags win."""
    if not _BATCH_FLAGS.isdisjoint(flags):
        return ()
    if model.context_size is not None:
        tokens = min(model.context_size, _LARGEST_BATCH_TOKENS)
    else:
        packaged = served.context_size if served is not None else None
        tokens = min(packaged or DEFAULT_BATCH_TOKENS, DEFAULT_BATCH_TOKENS)
    return ("--batch-size", str(tokens), "--ubatch-size", str(tokens))


@dataclass(frozen=True, slots=True)
class SetUp:
    """What became of setting a model up.

    Attributes:
        use: As the server has it: its model without the flags that were refused.
        is_new: The server did not have this configuration.
        left_out: A sentence for each flag that was refused now, with its place in the config.
    """

    use: ModelUse
    is_new: bool
    left_out: tuple[str, ...]


# Words of flags that a server has refused, so that no later call of this process tries them again,
# which may cost an engine's start each: by address, model and mode.
_refused: dict[tuple[str, str, Mode], set[tuple[str, ...]]] = {}


async def set_up(
    connection: Connection,
    use: ModelUse,
    served: ServedModel,
    *,
    always_load: bool,
    on_set: Callable[[], None] = lambda: None,
) -> SetUp:
    """Configure a model and load it, without the flags that the server or the engine refuses.

    docker-agent drops the whole configuration of which one flag is refused, silently; here the rest
    is kept, and what is left out is told.

    Args:
        connection: To a server that manages models.
        use: The model and what it is for; no draft.
        served: What the server has under that name.
        always_load: Load the model even where the configuration stood.
        on_set: Called when the configuration was not there and is set.

    Raises:
        RunnerUnavailableError: The model stayed busy for longer than the limit.
        RequestRejectedError: Something else than a flag is refused, or it cannot be loaded.
    """
    ref, mode = use.model.model, mode_of(use)
    assert mode is not None
    refused = _refused.setdefault((connection.address.shown, canonical(ref), mode), set())
    use = replace(use, model=_without(use.model, refused))
    is_new, told = False, list[str]()
    while True:
        request = configure_request(use, served)
        if request is None and refused:
            request = ConfigureRequest(mode=mode)  # what was refused at the load may stand
        try:
            if request is not None and await configure(connection, ref, request):
                is_new = True
                on_set()
            if is_new or always_load:
                await load_for(connection, ref, mode)
        except RequestRejectedError as error:
            flags = find_refused(translate(use.model.runtime_flags), str(error))
            if not flags:
                raise
            told += [_left_out(use.model, flag, error) for flag in flags]
            refused |= {flag.words for flag in flags}
            use = replace(use, model=_without(use.model, refused))
        else:
            return SetUp(use, is_new, tuple(told))


def _without(model: ModelRef, refused: Collection[tuple[str, ...]]) -> ModelRef:
    """Return a model without some of its flags."""
    flags = translate(model.runtime_flags)
    kept = [flag for flag in flags if flag.words not in refused]
    if len(kept) == len(flags):
        return model
    items = list[tuple[str, int]]()
    for flag in kept:
        is_alone = len(translate(flag.written)) == 1
        words = flag.written if is_alone else flag.words
        items += [(w, flag.first + i if is_alone else flag.first) for i, w in enumerate(words)]
    places = model.flag_positions
    return replace(
        model,
        runtime_flags=tuple(word for word, _ in items),
        flag_positions=tuple(places[index] for _, index in items) if places else (),
    )


def _left_out(model: ModelRef, flag: RuntimeFlag, error: RequestRejectedError) -> str:
    """Say which flag is left out, where it stands, and what the server said."""
    place = f"{model.flag_positions[flag.first]}: " if model.flag_positions else ""
    return (
        f"{place}the flag {' '.join(flag.written)!r} of {canonical(model.model)!r} is refused and "
        f"left out: {reason_in(str(error))}"
    )


async def read_configurations(
    connection: Connection, ref: str
) -> list[tuple[str, dict[str, Any]]] | None:
    """Read what is configured for a model.

    Returns:
        Mode and settings of each backend that has some, or None when the server is older than
        v1.0.10 and cannot say.
    """
    response = await connection.request(
        "GET",
        "/engines/_configure",
        params={"model": canonical(ref)},
        expected={HTTPStatus.NOT_FOUND},
    )
    if response.status_code == HTTPStatus.NOT_FOUND:
        return None
    rows = as_list(connection.decode(response, path="/engines/_configure"))
    return [
        (as_text(row.get("Mode")) or "", as_mapping(row.get("Config")))
        for row in map(as_mapping, rows)
    ]


async def configure(connection: Connection, ref: str, request: ConfigureRequest) -> bool:
    """Apply a configuration unless it stands already.

    Args:
        connection: To a server that manages models.
        ref: A model that is local; for an unknown one the server would keep an orphan.
        request: The whole configuration of one mode.

    Returns:
        False when the server had it already.

    Raises:
        RunnerUnavailableError: The model stayed busy for longer than the limit.
        RequestRejectedError: A flag is not allowed, or the server knows no such mode.
    """
    body = request.body(ref)
    wanted = _settings(body)
    present = [
        _settings(settings)
        for mode, settings in await read_configurations(connection, ref) or ()
        if mode == request.mode
    ]
    if wanted in present:
        return False
    if any(one.get("speculative") != wanted.get("speculative") for one in present):
        # Another draft model makes an engine beside the old one, which would stay in memory.
        await unload(connection, ref)
    deadline: float | None = None
    while True:
        response = await connection.request(
            "POST", "/engines/_configure", body=body, model=ref, expected={HTTPStatus.CONFLICT}
        )
        if response.status_code != HTTPStatus.CONFLICT:
            return True
        if deadline is None:
            deadline = monotonic() + connection.timeouts.busy
            remark(
                f"{canonical(ref)!r} at {connection.address.shown} is answering others under "
                f"another configuration; waiting up to {connection.timeouts.busy:g} s for it to "
                "be idle (`docker model ps` shows it)"
            )
        await _wait_idle(connection, ref, deadline)


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    """Return what a configuration really sets, in one spelling, to compare two of them."""
    keys = ("context-size", "runtime-flags", "speculative", "keep_alive")
    kept = {key: config.get(key) for key in keys if config.get(key)}
    if isinstance(alive := kept.get("keep_alive"), str):
        kept["keep_alive"] = _duration_seconds(alive)
    if speculative := as_mapping(kept.get("speculative")):
        draft = as_text(speculative.get("draft_model")) or ""
        kept["speculative"] = {**speculative, "draft_model": canonical(draft)}
    return kept


def _duration_seconds(text: str) -> float | str:
    """Return the seconds of ``10m`` or ``10m0s``; -1 for never, the text itself for any other."""
    if text.startswith("-"):
        return -1.0
    seconds = parse_duration(text)
    return text if seconds is None else seconds


async def _wait_idle(connection: Connection, ref: str, deadline: float) -> None:
    while True:
        await asyncio.sleep(_POLL_SECONDS)
        engines = await engines_of(connection, ref)
        if not any(engine.in_use for engine in engines):
            return
        if monotonic() > deadline:
            where = connection.address.shown
            message = (
                f"{canonical(ref)!r} at {where} was serving others for "
                f"{connection.timeouts.busy:g} s and cannot be configured for us; "
                "`docker model ps` shows them"
            )
            raise RunnerUnavailableError(message, status=HTTPStatus.CONFLICT, url=where)


async def running(connection: Connection) -> tuple[RunningModel, ...]:
    """List the engines that run."""
    return parse_running(await connection.json("GET", "/engines/ps"))


async def engines_of(connection: Connection, ref: str) -> tuple[RunningModel, ...]:
    """List the engines of one model; the server names it as its first requester did."""
    name = canonical(ref)
    return tuple(engine for engine in await running(connection) if canonical(engine.model) == name)


async def unload(connection: Connection, ref: str) -> int:
    """Stop the idle engines of a model in all its modes; busy ones stay.

    Returns:
        How many engines stopped.
    """
    # Without a backend the engines of all of them stop, and configurations are kept.
    body = {"all": False, "backend": "", "models": [canonical(ref)]}
    answer = as_mapping(await connection.json("POST", "/engines/unload", body=body))
    connection.forget_answers()
    return as_count(answer.get("unloaded_runners")) or 0


async def preload(connection: Connection, ref: str, mode: Mode, *, name: str) -> None:
    """Load a model in a mode, through the real endpoint of that mode.

    Servers that do not know ``X-Preload-Only`` answer the small request itself, to the same end.

    Args:
        connection: To any server.
        ref: The model, for errors.
        mode: What it will be used for.
        name: The name that the server knows it by.

    Raises:
        ModelNotFoundError: It is not local.
        RequestRejectedError: It cannot be loaded: the engine crashed or there is no memory.
    """
    body: dict[str, Any] = {"model": name}
    api = connection.address.openai_prefix
    match mode:
        case "embedding":
            path = f"{api}/embeddings"
            body["input"] = ["warm up"]
        case "reranking":
            path = "/engines/rerank"
            body |= {"query": "warm up", "documents": ["warm up"]}
        case "completion":
            path = f"{api}/chat/completions"
            body |= {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    await connection.request(
        "POST",
        path,
        body=body,
        headers={"X-Preload-Only": "true"},
        model=ref,
        read_seconds=connection.timeouts.load,
    )
    connection.note_answer(name, mode)


async def load_for(connection: Connection, ref: str, mode: Mode) -> None:
    """Load a model in a mode and clear away the completion engine that configuring it started.

    Args:
        connection: To a server that manages models.
        ref: The model, just configured for this mode.
        mode: What it will be used for.
    """
    name = canonical(ref)
    await preload(connection, ref, mode, name=name)
    if mode == "completion":
        return
    deadline = monotonic() + _STRAY_SECONDS
    while monotonic() < deadline:
        strays = [e for e in await engines_of(connection, ref) if e.mode == "completion"]
        if not strays:
            return
        if any(stray.loading for stray in strays):
            await asyncio.sleep(_POLL_SECONDS)
            continue
        if any(stray.in_use for stray in strays):
            return  # someone chats with it
        # There is no unload per mode: stop both, which keeps the configuration, and load the one.
        await unload(connection, ref)
        await preload(connection, ref, mode, name=name)
        return
