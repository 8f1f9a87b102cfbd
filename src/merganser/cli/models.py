"""``merganser models``: what a model server has, and changing that."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from merganser.cli import EXIT_DEGRADED, EXIT_FAILED
from merganser.cli.options import json_option, model_server, print_json, runner_options
from merganser.cli.progress import shown_progress
from merganser.cli.terminal import say
from merganser.errors import ModelRunnerError
from merganser.humanize import align_columns

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine

    from merganser.models.client import ModelRunner
    from merganser.models.wire import DiskUsage, RunningModel, ServedModel

_NAMES = click.argument("names", metavar="MODEL...", nargs=-1, required=True)


@click.group()
def command() -> None:
    """List, pull and remove the models of a server, and see what it is doing."""


@command.command("list")
@runner_options
@json_option
def list_models(*, base_url: str | None, embedded: bool, as_json: bool) -> int:
    """List the models that are local to the server."""

    async def look() -> tuple[ServedModel, ...]:
        async with _open(base_url, embedded=embedded) as runner:
            return await runner.list_models()

    found = _run(look())
    if as_json:
        print_json([asdict(model) for model in found])
        return 0
    for line in align_columns([_row(model) for model in found]):
        say(line)
    if not found:
        say("no models; `merganser models pull MODEL` gets one", err=True)
    for note in dict.fromkeys(model.note for model in found if model.note):
        say(f"note: {note}", err=True)
    return 0


@command.command("pull")
@_NAMES
@runner_options
@json_option
def pull_models(
    names: tuple[str, ...], *, base_url: str | None, embedded: bool, as_json: bool
) -> int:
    """Pull models to the server. One that is there is brought up to date."""
    from merganser.models.pull import report_pull

    async def pull(runner: ModelRunner, name: str) -> dict[str, Any]:
        served = await runner.pull(name, on_progress=report_pull(name))
        say(f"pulled {name}: {_short_id(served)}", err=as_json)
        if served.note:
            say(f"note: {served.note}", err=True)
        return {"model": name, "served": asdict(served)}

    with shown_progress(quiet=as_json):
        return _do_each(names, pull, base_url, embedded=embedded, as_json=as_json)


@command.command("rm")
@_NAMES
@click.option("--force", is_flag=True, help="Also remove a model by id that has several names.")
@runner_options
@json_option
def remove_models(
    names: tuple[str, ...], *, force: bool, base_url: str | None, embedded: bool, as_json: bool
) -> int:
    """Remove models from the server. Engines that run them idly are stopped."""

    async def remove(runner: ModelRunner, name: str) -> dict[str, Any]:
        removed = await runner.remove(name, force=force)
        what = "removed" if removed.deleted else "removed the name"
        rest = "" if removed.deleted else "; the model has other names and stays"
        say(f"{what} {name}{rest}", err=as_json)
        return {"model": name, **asdict(removed)}

    return _do_each(names, remove, base_url, embedded=embedded, as_json=as_json)


@command.command("status")
@runner_options
@json_option
def show_status(*, base_url: str | None, embedded: bool, as_json: bool) -> int:
    """Show the server, its engines, what runs and the disk's use."""

    async def look() -> dict[str, Any]:
        async with _open(base_url, embedded=embedded) as runner:
            status = await runner.status()
            return {
                "address": runner.address.shown,
                "source": runner.address.source,
                "managed": status.running,
                "version": status.version,
                "engines": dict(status.engines),
                "models": len(await runner.list_models()),
                "running": await runner.ps(),
                "disk": await runner.df(),
            }

    state = _run(look())
    running: tuple[RunningModel, ...] = state["running"]
    disk: DiskUsage | None = state["disk"]
    if as_json:
        rows = [asdict(one) for one in running]
        print_json({**state, "running": rows, "disk": asdict(disk) if disk else None})
        return 0
    version = f", {state['version']}" if state["version"] else ""
    say(f"{state['address']} ({state['source']}){version}")
    for engine, condition in state["engines"].items():
        say(f"{engine}: {condition}")
    used = f", {disk.models_bytes / 1e6:,.1f} MB" if disk else ""
    say(f"{state['models']} models{used}")
    for one in running:
        doing = "loading" if one.loading else "in use" if one.in_use else "idle"
        say(f"{one.model} for {one.mode}: {doing}")
    if not state["managed"]:
        say("an OpenAI-compatible server: nothing is pulled or removed there", err=True)
    return 0


def _do_each(
    names: tuple[str, ...],
    action: Callable[[ModelRunner, str], Awaitable[dict[str, Any]]],
    base_url: str | None,
    *,
    embedded: bool,
    as_json: bool,
) -> int:
    """Do something with each model; one that fails does not stop the others.

    Raises:
        ModelRunnerError: The only one failed.
    """

    async def do_all() -> list[dict[str, Any]]:
        async with _open(base_url, embedded=embedded) as runner:
            return [await _attempt(action, runner, name, alone=not names[1:]) for name in names]

    rows = _run(do_all())
    if as_json:
        print_json(rows)
    failed = [row for row in rows if "error" in row]
    if not failed:
        return 0
    return EXIT_FAILED if len(failed) == len(rows) else EXIT_DEGRADED


async def _attempt(
    action: Callable[[ModelRunner, str], Awaitable[dict[str, Any]]],
    runner: ModelRunner,
    name: str,
    *,
    alone: bool,
) -> dict[str, Any]:
    try:
        return await action(runner, name)
    except ModelRunnerError as error:
        if alone:
            raise
        say(f"error: {error}", err=True)
        return {"model": name, "error": str(error)}


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


@asynccontextmanager
async def _open(base_url: str | None, *, embedded: bool) -> AsyncGenerator[ModelRunner]:
    from merganser.models.address import resolve_address
    from merganser.models.client import ModelRunner

    address = await resolve_address(base_url=model_server(base_url, embedded=embedded))
    async with ModelRunner(address) as runner:
        yield runner


def _row(model: ServedModel) -> tuple[str, ...]:
    context = f"{model.context_size:,} tokens" if model.context_size else ""
    name = ", ".join(tag.removeprefix("docker.io/") for tag in model.tags) or model.ref
    facts = (model.architecture, model.parameters, model.quantization, context, model.size)
    return (name, _short_id(model), *(fact or "" for fact in facts))


def _short_id(model: ServedModel) -> str:
    return model.id.removeprefix("sha256:")[:12] if model.managed else model.id
