"""Look at everything a run needs from its model servers and say what is wrong and what to do.

It asks what ``docker model status``, ``list``, ``ps``, ``df`` and ``logs`` ask, over HTTP, so it
works for every kind of server, and then tries each model on a question with a known answer.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, asdict, dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from merganser.errors import InputTooLongError, ModelRunnerError, SpecErrors
from merganser.models.address import NEXT_STEPS, candidate_addresses, probe_all
from merganser.models.client import ModelRunner
from merganser.models.configure import configure_request
from merganser.models.probes import probe_embedding
from merganser.models.ref import pull_command, token_of
from merganser.models.slots import describe_shortage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from merganser.models.address import Address, Probe
    from merganser.models.ref import ModelUse, Role
    from merganser.models.wire import DiskUsage, Mode, RunningModel, ServedModel

Level: TypeAlias = Literal["ok", "note", "problem"]
_Found: TypeAlias = tuple[Level, str, str]
"""What a probe makes of a model: level, detail and fix of its check."""
_Probe: TypeAlias = "Callable[[ModelRunner, str], Awaitable[_Found]]"

# Longer than llama.cpp's default batch of 512 tokens, in any tokeniser.
_LONG_INPUT = "word " * 600
_NORM_TOLERANCE = 0.01
_SHOWN_LOG_LINES = 20
_ENGINE = "llama.cpp"
_INSTALL = (
    "with Docker `docker model install-runner`, then `docker model status`; for `dmr`, which runs "
    "without Docker, a llama-server in LLAMA_SERVER_PATH"
)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What, for example ``version`` or ``embedding probe``.
        level: ``note`` is worth knowing, ``problem`` stops a run.
        detail: What was seen.
        fix: What to do about a problem; empty otherwise.
        seconds: How long it took, or None where that says nothing.
    """

    name: str
    level: Level
    detail: str
    _: KW_ONLY
    fix: str = ""
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerReport:
    """One model server, or the places where none was found.

    Attributes:
        address: Where it answers, for people, or None.
        probes: Every address that was asked, in order, with its answer.
        version: As the server says, or None.
        engines: Name and state of each engine.
        models: What is local.
        running: The engines that run.
        disk: What models and engines take, or None.
        log: The last lines of its log.
        checks: What to make of all this.
    """

    address: str | None
    probes: tuple[Probe, ...]
    version: str | None = None
    engines: tuple[tuple[str, str], ...] = ()
    models: tuple[ServedModel, ...] = ()
    running: tuple[RunningModel, ...] = ()
    disk: DiskUsage | None = None
    log: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReport:
    """One model in one role.

    Attributes:
        model: As in the config.
        role: What it is for.
        used_by: The config's key that wants it.
        served: What the server has, or None when it is missing or the server is.
        checks: What to make of it.
    """

    model: str
    role: str
    used_by: str
    served: ServedModel | None
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything that was found.

    Attributes:
        servers: One per distinct server of the models; the default one when there are no models.
        models: One per use.
    """

    servers: tuple[ServerReport, ...]
    models: tuple[ModelReport, ...]

    @property
    def checks(self) -> tuple[Check, ...]:
        """Every check, servers first."""
        reports = (*self.servers, *self.models)
        return tuple(check for report in reports for check in report.checks)

    @property
    def healthy(self) -> bool:
        """Nothing that was found stops a run."""
        return all(check.level != "problem" for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {"healthy": self.healthy, **asdict(self)}


async def diagnose(
    uses: Sequence[ModelUse] = (),
    *,
    flows: Mapping[str, Sequence[ModelUse]] | None = None,
    base_url: str | None = None,
    env: Mapping[str, str] | None = None,
    probe_models: bool = True,
) -> Diagnosis:
    """Look at the servers and models of a config, or at the default server alone.

    Never raises for what is wrong with a server: that is what it reports.

    Args:
        uses: The models that a config needs, from ``all_models``.
        flows: The models that each flow needs at a time, by its name.
        base_url: The server of models that name none.
        env: Environment with ``MODEL_RUNNER_HOST``; the process's own by default.
        probe_models: Try each model, which loads it.
    """
    by_server: dict[tuple[str | None, str | None], list[ModelUse]] = {}
    for use in uses:
        server = (use.model.base_url or base_url, use.model.token_env)
        by_server.setdefault(server, []).append(use)
    servers: list[ServerReport] = []
    models: dict[int, ModelReport] = {}
    for (url, _), some in (by_server or {(base_url, None): []}).items():
        together = {
            name: [use for use in needed if (use.model.base_url or base_url) == url]
            for name, needed in (flows or {}).items()
        }
        report, found = await _diagnose_server(
            some, together, url=url, env=env, probe_models=probe_models
        )
        servers.append(report)
        models |= {id(use): model for use, model in zip(some, found, strict=True)}
    return Diagnosis(tuple(servers), tuple(models[id(use)] for use in uses))


async def _diagnose_server(
    uses: Sequence[ModelUse],
    together: Mapping[str, Sequence[ModelUse]],
    *,
    url: str | None,
    env: Mapping[str, str] | None,
    probe_models: bool,
) -> tuple[ServerReport, list[ModelReport]]:
    def no_server(check: Check) -> tuple[ServerReport, list[ModelReport]]:
        shown = address.shown if address is not None else None
        models = [
            _report(
                use,
                None,
                Check("model", "problem", f"{use.model.model}: no server to ask", fix=NEXT_STEPS),
            )
            for use in uses
        ]
        return ServerReport(address=shown, probes=probes, checks=(check,)), models

    address, probes = await probe_all(candidate_addresses(base_url=url, env=env))
    if address is None:
        asked = ", ".join(probe.url for probe in probes)
        problem = f"no model server answers at {asked}"
        return no_server(Check("address", "problem", problem, fix=NEXT_STEPS))
    try:
        token = token_of(uses[0].model if uses else None, env=env)
    except SpecErrors as error:
        (missing,) = error.errors
        return no_server(Check("token", "problem", missing.problem, fix=missing.fix))
    async with ModelRunner(address, token=token) as runner:
        server = await _look_at_server(runner, address, probes)
        models = [await _look_at_model(runner, use, probe_models=probe_models) for use in uses]
        tried = [check for model in models for check in model.checks if check.seconds is not None]
        engines = [
            _engine_check(name, state, tried) for name, state in server.engines if name == _ENGINE
        ]
        slots = _slot_checks(together, address) if server.engines else ()
        return replace(server, checks=(*server.checks, *engines, *slots)), models


async def _look_at_server(
    runner: ModelRunner, address: Address, probes: tuple[Probe, ...]
) -> ServerReport:
    checks = [Check("address", "ok", f"{address.shown} ({address.source})")]
    try:
        status = await runner.status()
        models, running, disk = await runner.list_models(), await runner.ps(), await runner.df()
    except ModelRunnerError as error:
        checks.append(Check("status", "problem", str(error), fix="`docker model status`"))
        return ServerReport(address=address.shown, probes=probes, checks=tuple(checks))
    if not status.running:
        text = "an OpenAI-compatible server: nothing is pulled, configured or unloaded there"
        checks.append(Check("management", "note", text))
    elif status.version is None:
        text = "the server does not say its version, so it is older than v1.0.30"
        checks.append(Check("version", "note", text))
    else:
        checks.append(Check("version", "ok", status.version))
    return ServerReport(
        address=address.shown,
        probes=probes,
        version=status.version,
        engines=status.engines,
        models=models,
        running=running,
        disk=disk,
        log=await _log_tail(runner),
        checks=tuple(checks),
    )


def _engine_check(name: str, state: str, tried: Sequence[Check]) -> Check:
    """Judge an engine by its state and, where that says too little, by the models it answers for.

    A missing llama-server is reported as running with an unknown version; so is a recent one, whose
    version is in a form that the server does not read.
    """
    what = f"engine {name}"
    word, _, details = state.partition(":")
    if not word.strip().lower().startswith("running"):
        return Check(what, "problem", state, fix=_INSTALL)
    if not details.strip().endswith("unknown"):
        return Check(what, "ok", state)
    if any(check.level != "problem" for check in tried):
        return Check(what, "ok", f"{state}: the server cannot read its version, and it answers")
    if tried:
        return Check(what, "problem", f"{state}: the engine's program is missing?", fix=_INSTALL)
    text = f"{state}: its version is in a form that the server cannot read, or it is missing"
    return Check(what, "note", f"{text}; `merganser doctor FILE` tries the models of FILE")


def _slot_checks(together: Mapping[str, Sequence[ModelUse]], address: Address) -> tuple[Check, ...]:
    told = {name: describe_shortage(uses, address) for name, uses in together.items()}
    return tuple(Check("slots", "note", f"{name}: {text}") for name, text in told.items() if text)


async def _log_tail(runner: ModelRunner) -> tuple[str, ...]:
    try:
        log = await runner.logs()
    except ModelRunnerError:
        return ()  # the log only helps to explain what the checks have found
    return tuple((log or "").splitlines()[-_SHOWN_LOG_LINES:])


async def _look_at_model(runner: ModelRunner, use: ModelUse, *, probe_models: bool) -> ModelReport:
    ref = use.model.model
    try:
        served = await runner.model(ref)
    except ModelRunnerError as error:
        return _report(use, None, Check("model", "problem", str(error)))
    if served is None:
        missing = f"{ref} is not local at {runner.address.shown}"
        return _report(use, None, Check("model", "problem", missing, fix=pull_command(ref)))
    checks = [
        Check("model", "note", served.note) if served.note else Check("model", "ok", served.id)
    ]
    if served.managed and (request := configure_request(use, served)) is not None:
        checks.append(await _configuration_check(runner, ref, request.mode))
    if probe_models:
        checks += [await _try(name, probe, runner, ref) for name, probe in _PROBES[use.role]]
    return _report(use, served, *checks)


async def _configuration_check(runner: ModelRunner, ref: str, mode: Mode) -> Check:
    try:
        standing = await runner.configurations(ref)
    except ModelRunnerError as error:
        return Check("configuration", "problem", str(error))
    if standing is None:
        return Check("configuration", "note", "the server is too old to say")
    if any(mode == configured for configured, _ in standing):
        return Check("configuration", "ok", f"set for {mode}")
    return Check("configuration", "note", f"not set for {mode}; a run sets it")


async def _try(name: str, probe: _Probe, runner: ModelRunner, ref: str) -> Check:
    started = monotonic()
    try:
        level, detail, fix = await probe(runner, ref)
    except ModelRunnerError as error:
        level, detail, fix = "problem", str(error), "`docker model logs`"
    return Check(name, level, detail, fix=fix, seconds=monotonic() - started)


async def _try_embedding(runner: ModelRunner, ref: str) -> _Found:
    probe = await probe_embedding(runner, ref)
    # Vectors are normalised on our side anyway, so another norm only tells of another engine.
    usual = abs(probe.norm - 1.0) <= _NORM_TOLERANCE
    detail = f"{probe.dimensions} dimensions, norm {probe.norm:.4f}"
    return "ok" if usual else "note", detail, ""


async def _try_long_input(runner: ModelRunner, ref: str) -> _Found:
    try:
        await runner.embed(ref, [_LONG_INPUT])
    except InputTooLongError as error:
        limit = f"{error.limit} tokens" if error.limit else "its limit"
        return "note", f"texts above {limit} are split and their vectors averaged", ""
    return "ok", "600 words fit", ""


async def _try_reranking(runner: ModelRunner, ref: str) -> _Found:
    probe = await runner.probe_reranking(ref)
    detail = f"{probe.scale} scores, margin {probe.margin:.4g}"
    if probe.trusted:
        return "ok", detail, ""
    fix = "use a model made for reranking, for example hf.co/ggml-org/qwen3-reranker-0.6b-q8_0-gguf"
    return "problem", f"{detail}: this model does not rerank", fix


async def _try_tools(runner: ModelRunner, ref: str) -> _Found:
    if await runner.calls_tools(ref):
        return "ok", "calls tools", ""
    return "note", "does not call tools: it is given the retrieved context instead", ""


_PROBES: Mapping[Role, Sequence[tuple[str, _Probe]]] = {
    "embedding": (("embedding probe", _try_embedding), ("long input", _try_long_input)),
    "reranking": (("rerank probe", _try_reranking),),
    "chat": (("tool probe", _try_tools),),
    "draft": (),
}


def _report(use: ModelUse, served: ServedModel | None, *checks: Check) -> ModelReport:
    return ModelReport(
        model=use.model.model, role=use.role, used_by=use.used_by, served=served, checks=checks
    )
