"""What several commands share: options, output and the way to a model server."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from merganser.cli.terminal import say
from merganser.documents.kinds import KINDS
from merganser.models.ref import PullPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from merganser.config.flow_definition import DataTable
    from merganser.config.index_definition import IndexDefinition
    from merganser.config.load import Config
    from merganser.services.prefect_server import History
    from merganser.services.supervisor import Service


Command = TypeVar("Command", bound="Callable[..., Any]")


@dataclass(frozen=True, slots=True)
class Reach:
    """How a command reaches models and history.

    Attributes:
        model_map: Model names to replace, as given.
        base_url: A model server's address, or None to look for one.
        embedded: Serve models from this machine, without Docker.
        pull: What to do about models that are not on the server.
        ephemeral: Use no Prefect server: runs are not recorded.
        wait_for_server: How long a model server that is away is waited for; None for the default.
    """

    model_map: Mapping[str, str]
    base_url: str | None
    embedded: bool
    pull: PullPolicy
    ephemeral: bool
    wait_for_server: timedelta | None = None

    def load(self, file: str) -> Config:
        """Load the config and show its warnings on stderr.

        Raises:
            SpecErrors: All problems of the file.
        """
        return load_shown(file, self.model_map)

    def address(self) -> str | None:
        """Return the model server's address, or None to look for one."""
        return model_server(self.base_url, embedded=self.embedded)


def model_server(base_url: str | None, *, embedded: bool) -> str | None:
    """Return the address of the model server that is asked for, or None to look for one.

    Args:
        base_url: What ``--base-url`` says.
        embedded: Without it, start or reuse the embedded runner.
    """
    if base_url or not embedded:
        return base_url
    from merganser.services.runner import ensure_runner

    service = ensure_runner()
    if service.note:
        say(f"note: {service.note}; the models are at {service.url}", err=True)
    return service.url


def load_shown(file: str, model_map: Mapping[str, str]) -> Config:
    """Load a config and show its warnings on stderr.

    Raises:
        SpecErrors: All problems of the file.
    """
    from merganser.config.load import load_config

    config = load_config(file, model_map=model_map)
    for warning in config.warnings:
        say(f"warning: {warning}", err=True)
    return config


def indexes_by_name(config: Config, rags: Sequence[str] = ()) -> dict[str, IndexDefinition]:
    """Return the indexes of some rags, or of all of them."""
    from merganser.config.rag_definition import resolve_rag

    names = rags or tuple(config.spec.rag)
    return {index.name: index for name in names for index in resolve_rag(config, name).indexes}


def reach_options(function: Callable[..., int]) -> Callable[..., int]:
    """Add the options that say how models and history are reached; they come as ``reach``."""

    @wraps(function)
    def command(**options: Any) -> int:
        given = {name: options.pop(name) for name in _REACH if name in options}
        reach = Reach(**given)
        return function(reach=reach, **options)

    for option in reversed(_REACH_OPTIONS):
        command = option(command)
    return command


_REACH = [field.name for field in fields(Reach)]


def runner_options(function: Command) -> Command:
    """Add ``--base-url`` and ``--embedded`` for a process whose runs find the models."""
    for option in reversed(_RUNNER_OPTIONS):
        function = option(function)
    return function


def reach_models(base_url: str | None, *, embedded: bool) -> None:
    """Set where this process and the runs that it starts look for models."""
    if address := model_server(base_url, embedded=embedded):
        os.environ["MODEL_RUNNER_HOST"] = address


def keep_models() -> str:
    """Keep the models of this machine up for the runs that this process starts.

    Returns:
        What people should know; empty when all is as it was.
    """
    from merganser.errors import MerganserError
    from merganser.services.runner import revive_runner

    try:
        url = revive_runner()
    except MerganserError as error:
        return f"the model server is gone and does not start again: {error}"
    if url is None or url == os.environ.get("MODEL_RUNNER_HOST"):
        return ""
    os.environ["MODEL_RUNNER_HOST"] = url
    return f"the models are at {url} now"


file_argument = click.argument("file", type=click.Path(dir_okay=False))
"""The config, FILE."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")


class _Words(click.ParamType[str]):
    """Text that a model can be given; a terminal passes on any bytes."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse bytes that are no Unicode text.

        Raises:
            click.BadParameter: The message shows where it is not.
        """
        try:
            value.encode()
        except UnicodeEncodeError as error:
            shown = value.encode(errors="backslashreplace").decode()
            self.fail(f"{shown!r} is no UTF-8 text, at character {error.start + 1}", param, ctx)
        return value


WORDS = _Words()
"""Type of a command's argument that goes to a model."""


class _Duration(click.ParamType[timedelta]):
    """A length of time as configs write it."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Read ``90``, ``90s`` or ``1h30m``.

        Raises:
            click.BadParameter: It is no duration.
        """
        from pydantic_core import PydanticCustomError

        from merganser.config.spec_base import read_duration

        try:
            return read_duration(int(value) if str(value).isdecimal() else value)
        except PydanticCustomError:
            self.fail(f"{value!r} is no duration; write seconds, or 15m or 1h30m", param, ctx)


DURATION = _Duration()
"""Type of an option that is a length of time."""

kind_option = click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(KINDS),
    help="Search only such documents; repeatable.",
)
"""``--kind``, of commands that search."""

fresh_option = click.option(
    "--require-fresh",
    is_flag=True,
    help="Exit with 5 when a passage is not what stands in its file now.",
)
"""``--require-fresh``, of commands that show or cite passages."""

budget_option = click.option(
    "--budget",
    type=click.IntRange(min=100),
    metavar="TOKENS",
    help="Most tokens of the passages together, estimated at three characters a token "
    "[default: the config's].",
)
"""``--budget``, of commands that search."""

wait_option = click.option(
    "--wait-for-server",
    type=DURATION,
    help="How long to wait for a model server that is away, from the start too "
    "[default: the flow's, or 10m in mid-run].",
)
"""``--wait-for-server``, beside ``reach_options``."""


def parse_pairs(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    """Return a mapping of repeated ``a=b``; click's callback."""
    del ctx
    pairs = dict[str, str]()
    for value in values:
        name, separator, target = value.partition("=")
        if not separator or not name or not target:
            raise click.BadParameter(f"{value!r} is not of the form NAME=MODEL", param=param)
        pairs[name] = target
    return pairs


def print_json(value: object, *, on_one_line: bool = False) -> None:
    """Print one JSON document on stdout."""
    indent = None if on_one_line else 2
    click.echo(json.dumps(value, indent=indent, ensure_ascii=False, default=_encode))


def _encode(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"{type(value).__name__} has no JSON form")


_RUNNER_OPTIONS = (
    click.option(
        "--base-url", metavar="URL", help="Address of the model server [default: look for one]."
    ),
    click.option("--embedded", is_flag=True, help="Serve the models on this machine, no Docker."),
)

_REACH_OPTIONS = (
    click.option(
        "--model-map",
        multiple=True,
        metavar="WANTED=USED",
        callback=parse_pairs,
        help="Use another model than the file names; repeatable.",
    ),
    *_RUNNER_OPTIONS,
    click.option(
        "--pull",
        type=click.Choice(get_args(PullPolicy)),
        default="ask",
        show_default=True,
        help="What to do about missing models; without a terminal, ask means pull.",
    ),
    click.option(
        "--ephemeral",
        "--no-history",
        "ephemeral",
        is_flag=True,
        help="Start and use no Prefect server: the run is not recorded.",
    ),
)


SIGN_IN = "sign in once: merganser server --ui"
"""Said wherever the address of the local server's UI is."""


def show_watch(history: History, *, what: str = "", page: str = "") -> None:
    """Say on stderr where runs can be watched, and how to be let in.

    Args:
        history: Where they are recorded.
        what: Begins the line.
        page: Of the UI, as a path.
    """
    once = f" ({SIGN_IN})" if history.signs_in else ""
    say(f"{what}watch it at {history.ui_url}{page}{once}", err=True)
    if history.note:
        say(f"note: {history.note}", err=True)


def show_service(
    service: Service | None,
    *,
    stop: bool,
    as_json: bool,
    told: Mapping[str, str | None] | None = None,
) -> int:
    """Print whether a background service runs, after ending it when ``stop``.

    Args:
        service: None when none runs.
        stop: End it.
        as_json: Print JSON.
        told: What JSON tells besides.

    Returns:
        The exit code, 1 when none was running.
    """
    from merganser.services.supervisor import stop_service

    stopped = service is not None and stop and stop_service(service.name)
    if as_json:
        url = service.url if service and not stopped else None
        print_json({"running": url is not None, "url": url, **(told or {})})
    else:
        text = f"running at {service.url}" if service else "not running"
        say("stopped" if stopped else text)
    return 0 if service else 1


def data_table(text: str, option: str) -> DataTable:
    """Return the table that ``file`` or ``file.duckdb#table`` names in the working folder."""
    from pydantic_core import PydanticCustomError

    from merganser.config.flow_definition import DataTable
    from merganser.config.spec_flows import split_table

    try:
        path, table = split_table(text)
    except PydanticCustomError as error:
        raise click.UsageError(f"{option}: {error.message()}") from None
    return DataTable(Path(path).absolute(), table)
