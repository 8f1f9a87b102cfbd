"""``merganser run``: ask an agent one question."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from merganser.cli import EXIT_STALE
from merganser.cli.options import (
    WORDS,
    Reach,
    budget_option,
    file_argument,
    fresh_option,
    json_option,
    kind_option,
    print_json,
    reach_options,
    wait_option,
)
from merganser.cli.terminal import say
from merganser.errors import PlanError

if TYPE_CHECKING:
    from merganser.agent.answer import Answer
    from merganser.agent.events import TurnEvent


@click.command()
@file_argument
@click.argument("question", type=WORDS)
@click.option("-a", "--agent", help="Who answers [default: root, else the first].")
@click.option(
    "--rag-mode",
    type=click.Choice(["auto", "tool", "context"]),
    help="How retrieved text reaches the model [default: the agent's].",
)
@budget_option
@click.option("--turn-id", help="Resume the turn of this id.")
@kind_option
@fresh_option
@wait_option
@reach_options
@json_option
def command(
    file: str,
    question: str,
    *,
    agent: str | None,
    rag_mode: str | None,
    budget: int | None,
    turn_id: str | None,
    kinds: tuple[str, ...],
    require_fresh: bool,
    as_json: bool,
    reach: Reach,
) -> int:
    """Ask an agent of FILE one QUESTION; ``-`` reads it from standard input.

    Exits with 1 when the answer cites what was never retrieved or has no text, with --require-fresh
    with 5 when a source that it cites (or, where it cites none, was given) is not what stands in
    its file.
    """
    from merganser.agent.answer import describe_source
    from merganser.agent.turn import require_question
    from merganser.cli.flow_runs import run_flow
    from merganser.config.flow_definition import AskFlow
    from merganser.config.rag_definition import with_budget

    asked = _standard_input() if question == "-" else question
    require_question(asked)
    config = with_budget(reach.load(file), budget)
    name = agent or ("root" if "root" in config.spec.agents else next(iter(config.spec.agents), ""))
    if name not in config.spec.agents:
        known = ", ".join(repr(known) for known in config.spec.agents) or "none"
        raise PlanError(f"{config.path} has no agent {name!r}; it has {known}")
    parameters: dict[str, Any] = {"question": asked, "turn_id": turn_id, "rag_mode": rag_mode}
    parameters["kinds"] = list(kinds) or None
    flow = AskFlow(name=f"ask-{name}", agent=name)
    shown = _Stream()
    outcome = run_flow(
        reach,
        config,
        flow,
        parameters,
        quiet=as_json,
        on_event=None if as_json else shown.take,
    )
    answer = outcome.answer
    assert answer is not None, "an ask flow has an answer"
    if as_json:
        print_json({**answer.to_json(), "model_notes": list(outcome.notes)})
    else:
        shown.finish(answer)
        for line in answer.sources:
            say(f"  {describe_source(line)}")
        for cited in answer.invalid_citations:
            say(f"  {cited} (cited, but never retrieved)")
        for note in dict.fromkeys((*outcome.notes, *answer.notes)):
            say(f"note: {note}", err=True)
        if answer.outcome != "answered":
            say(f"error: {answer.outcome}", err=True)
    return exit_code(answer, require_fresh=require_fresh)


def exit_code(answer: Answer, *, require_fresh: bool) -> int:
    """Return the code for an answer: whether it can be relied on comes before its freshness."""
    if answer.outcome != "answered":
        return 1
    return EXIT_STALE if require_fresh and answer.stale else 0


def _standard_input() -> str:
    """Read a question that is piped in; of one without an end only what is surely too long.

    Raises:
        click.BadParameter: It is no text.
    """
    from merganser.agent.turn import MOST_QUESTION_BYTES

    data = sys.stdin.buffer.read(MOST_QUESTION_BYTES + 1)
    try:
        # What was cut may end within a character; it is refused all the same.
        return data.decode("utf-8-sig", "strict" if len(data) <= MOST_QUESTION_BYTES else "ignore")
    except UnicodeDecodeError as error:
        message = f"standard input is no UTF-8 text, at byte {error.start + 1}"
        raise click.BadParameter(message, param_hint="QUESTION") from error


class _Stream:
    """Prints the answer as it comes, on stdout."""

    def __init__(self) -> None:
        self._text = ""

    def take(self, event: TurnEvent) -> None:
        """Print a piece of the answer, or begin a new line after a restart."""
        from merganser.agent.events import Reading, Restarted, TextDelta, ToolCalled

        match event:
            case TextDelta(text):
                self._text += text
                say(text, nl=False)
            case ToolCalled(name, arguments):
                self._end_line()
                words = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
                say(f"[{name} {words}]", err=True)
            case Reading(place):
                say(f"[reading {place}]", err=True)
            case Restarted(reason):
                self._end_line()
                say(f"[asked again: {reason}]", err=True)
                self._text = ""
            case _:
                pass

    def finish(self, answer: Answer) -> None:
        """Print what was not streamed, then the head of the sources."""
        if answer.text.strip() and answer.text.strip() not in self._text:
            self._end_line()
            say(answer.text)
        else:
            self._end_line()
        if answer.sources or answer.invalid_citations:
            say("\nsources:")

    def _end_line(self) -> None:
        if self._text and not self._text.endswith("\n"):
            self._text += "\n"
            say()
