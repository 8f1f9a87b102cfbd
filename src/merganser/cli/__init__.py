"""The ``merganser`` command: one module a command, imported only when it is called.

Exit codes: 0 done; 1 an error that the message explains, or a run that failed; 2 wrong usage;
3 done, but with parts that failed; 5 done, but with passages that are not fresh, where that is
required; 130 ended by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP.
"""

from __future__ import annotations

import errno
import gc
import os
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from merganser.cli.terminal import say, visible
from merganser.ending import end_on_signals, exit_code
from merganser.errors import MerganserError, PlanError
from merganser.humanize import mask_credentials
from merganser.services.prefect_settings import ignore_working_folder
from merganser.telemetry import start_telemetry

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = {
    "check": "Load a config and report every error and warning.",
    "plan": "Show what a run would do, without doing it.",
    "index": "Bring the indexes of a config up to date.",
    "files": "List every file: what is indexed, what is left out, and why.",
    "chunks": "Show how a file is cut into chunks.",
    "search": "Search an index.",
    "eval": "Measure how well searches find what they should.",
    "run": "Ask an agent one question.",
    "batch": "Answer a file of questions.",
    "deploy": "Put the flows of a config on a server, to run by themselves.",
    "serve": "Run the schedules of configs in this process.",
    "worker": "Run what is deployed to a work pool.",
    "models": "List, pull and remove the models of a server.",
    "doctor": "Look at the model server, the models, the indexes and the history.",
    "verify": "Look whether indexes are whole.",
    "repair": "Mend damaged indexes, embedding only what is gone.",
    "snapshots": "List the snapshots of an index.",
    "clones": "List the git repositories that were cloned, and remove those not used.",
    "report": "Write an HTML report of indexes and batches.",
    "rollback": "Serve an earlier snapshot again.",
    "runner": "Serve models on this machine without Docker.",
    "server": "Run the Prefect server that keeps the run history.",
}
"""Command names and their one-line help.

Each is ``command`` of ``merganser.cli.<name>``, but ``rollback`` is in ``merganser.cli.snapshots``.
"""

EXIT_FAILED = 1
EXIT_DEGRADED = 3
EXIT_STALE = 5


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called.

    ``merganser check`` must answer in milliseconds, and Prefect alone takes a second to import.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of ``--help``."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the one command that is asked for."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        if cmd_name == "rollback":
            from merganser.cli.snapshots import rollback

            return rollback
        command: click.Command = import_module(f"merganser.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the nearest name for one that does not exist."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Print the table of commands without importing any."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(
    package_name="merganser", message="%(prog)s %(version)s", help="Show the version."
)
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.pass_context
def group(ctx: click.Context, *, debug: bool) -> None:
    """Index code and documents, ask local models, watch it in Prefect."""
    ctx.obj = debug


_COLLECT_AFTER = 50_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    # Importing Prefect makes so many objects that last that the collector, at its default of 700,
    # takes a tenth of a short command's CPU for finding nothing.
    gc.set_threshold(_COLLECT_AFTER, 20, 20)
    # Our products are of a matrix and a vector, which memory bounds: a second thread of OpenBLAS
    # wins little and costs as much again by spinning. Read when numpy is imported, after this.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    ignore_working_folder()
    if arguments is None:
        end_on_signals()
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = words[: words.index("--")] if "--" in words else words
    debug = "--debug" in options
    # ``--debug`` is taken anywhere: people add it at the end of what just failed.
    if debug:
        words = ["--debug", *(w for w in options if w != "--debug"), *words[len(options) :]]
    if problem := start_telemetry():
        say(f"warning: {problem}", err=True)
    try:
        _check_folder()
        code = group.main(args=words, prog_name="merganser", standalone_mode=False)
    except click.exceptions.Abort:
        _end_interrupted()
    except click.ClickException as error:
        hint = ""
        if isinstance(error, click.NoSuchOption) and error.ctx and _takes_words(error.ctx):
            hint = " A text that begins with '-' goes after --, at the end."
        # It may hold what a file holds.
        vars(error)["message"] = visible(error.message + hint)
        error.show()
        sys.exit(error.exit_code)
    except (MerganserError, OSError, MemoryError) as error:
        if debug:
            raise
        _end_failed(_describe(error), json="--json" in words)
    except ValueError as error:
        # A Ctrl-C within pydantic's serializer comes out as its PydanticSerializationError.
        if "KeyboardInterrupt" not in str(error):
            raise
        _end_interrupted()
    sys.exit(code if isinstance(code, int) else 0)


def _takes_words(ctx: click.Context) -> bool:
    """Return whether a command takes a query or a question, which may begin like an option."""
    return any(p.name in {"query", "question"} for p in ctx.command.params)


def _check_folder() -> None:
    """Refuse to work in a folder that was removed: nothing relative can be found from there."""
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise PlanError(
            "the folder that this command runs in was removed: change to one that exists"
        ) from error


def _describe(error: Exception) -> str:
    """Say what went wrong; what the machine refuses is no mistake of the program's."""
    if isinstance(error, MemoryError):
        return f"there is not enough memory for this ({error or 'the system gives no more'})"
    if isinstance(error, OSError) and error.filename is None and error.errno == errno.ENOSPC:
        return f"what this command prints, or a file of it, cannot be written: {error.strerror}"
    return str(error) or type(error).__name__


def _end_failed(message: str, *, json: bool) -> NoReturn:
    message = mask_credentials(message)
    with suppress(OSError):  # the terminal or file that it goes to may be what failed
        say(f"error: {message}", err=True)
        if json:
            from merganser.cli.options import print_json

            print_json({"error": message})
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # the interpreter would try again when it ends, and complain
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(EXIT_FAILED)


def _end_interrupted() -> NoReturn:
    say("\ninterrupted; what was embedded and answered is kept", err=True)
    sys.exit(exit_code())
