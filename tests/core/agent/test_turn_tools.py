"""A turn with tools: searches and files that the model asks for, and what it is told of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from merganser.agent.answer import describe_source
from merganser.config.load import Config
from merganser.errors import StoreBusyError, StoreError
from merganser.retrieval.hits import Hit, SearchResult
from tests.doubles import FaultyRunner, ScriptedAnswer, ScriptedCall

if TYPE_CHECKING:
    from pathlib import Path

    from merganser.config.spec_agents import RequestedMode
    from tests.core.agent.conftest import Turns

SEARCH = ScriptedAnswer(tool_calls=(ScriptedCall("birds", {"query": "merganser food"}),))

WriteConfig = Callable[..., Config]
GivenHits = Callable[..., Any]


async def test_a_tool_turn_searches_answers_and_names_its_sources(
    turns: type[Turns], runner: FaultyRunner, write_config: WriteConfig, given_hits: GivenHits
):
    runner.faults.script_chat([SEARCH, "It eats fish [1]."])
    retriever = given_hits()

    answer = await turns.ask(runner, write_config(), retriever)

    assert retriever.questions == ["merganser food"]
    assert (
        answer.text,
        answer.outcome,
        answer.rag_mode,
        answer.finish_reason,
        answer.model,
    ) == ("It eats fish [1].", "answered", "tool", "stop", "ai/smollm2")
    assert [(str(line), line.cited) for line in answer.sources] == [
        ("ducks.md:1-3", True),
        ("geese.md:5-5", False),
    ]
    assert [(use.name, use.outcome) for use in answer.tool_calls] == [("birds", "success")]
    assert answer.usage.requests == 2
    assert answer.usage.input_tokens > 0
    assert answer.usage.output_tokens > 0
    assert answer.seconds > 0


async def test_a_source_of_a_search_has_its_commit_and_link_and_the_model_is_not_shown_them(
    turns: type[Turns], runner: FaultyRunner, write_config: WriteConfig, given_hits: GivenHits
):
    runner.faults.script_chat([SEARCH, "It eats fish [1]."])
    link = "https://github.com/org/repo/blob/5fdac2d/ducks.md?plain=1#L1-L3"
    hits = (
        Hit("ducks.md", 1, 3, "It eats fish.\n", 1.0, commit="5fdac2d", url=link),
        Hit("geese.md", 5, 5, "It eats grass.\n", 0.5),
    )

    answer = await turns.ask(runner, write_config(), given_hits(hits))

    assert [(one["commit"], one["url"]) for one in answer.to_json()["sources"]] == [
        ("5fdac2d", link),
        (None, None),
    ]
    assert "5fdac2d" not in json.dumps(runner.faults.scripted_requests)


@pytest.mark.usefixtures("citing_model")
@pytest.mark.parametrize("mode", ["tool", "context"])
async def test_an_answer_that_cites_what_changed_says_so(
    turns: type[Turns],
    runner: FaultyRunner,
    write_config: WriteConfig,
    given_hits: GivenHits,
    mode: RequestedMode,
):
    runner.faults.script_chat([SEARCH, "It eats fish [1]."][mode == "context" :])
    hits = (
        Hit("ducks.md", 1, 3, "It eats fish.\n", 1.0, freshness="changed"),
        Hit("geese.md", 5, 5, "It eats grass.\n", 0.5, freshness="gone"),
    )

    answer = await turns.ask(runner, write_config(), given_hits(hits), rag_mode=mode)

    assert [line.freshness for line in answer.sources] == ["changed", "gone"]
    assert [str(line) for line in answer.stale] == ["ducks.md:1-3"]
    assert "cites what changed or was removed since it was indexed: ducks.md:1-3" in answer.notes
    assert "changed since it was indexed" in describe_source(answer.sources[0])


@pytest.mark.usefixtures("citing_model")
@pytest.mark.parametrize("mode", ["tool", "context"])
async def test_no_secret_of_a_passage_reaches_the_model_or_the_answer(
    turns: type[Turns],
    runner: FaultyRunner,
    write_config: WriteConfig,
    given_hits: GivenHits,
    mode: RequestedMode,
):
    runner.faults.script_chat([SEARCH, "It is there [1]."][mode == "context" :])
    token = "ghp_" + "k3Vb9QxTz7Lm2NcR8sWd4YfH6jPaE5uGiKoX"
    hits = (Hit("deploy.md", 1, 2, f"What a merganser eats:\nTOKEN={token}\n", 1.0),)

    answer = await turns.ask(runner, write_config(), given_hits(hits), rag_mode=mode)

    shown = json.dumps(runner.faults.scripted_requests)
    assert "TOKEN=[secret: github-token]" in shown
    assert token[4:20] not in shown + json.dumps(answer.to_json())
    assert [str(line) for line in answer.sources] == ["deploy.md:1-2"]


async def test_the_tool_returns_ids_lines_and_the_references_keys(
    turns: type[Turns], runner: FaultyRunner, write_config: WriteConfig, given_hits: GivenHits
):
    runner.faults.script_chat([SEARCH, "Fish [1]."])

    await turns.ask(runner, write_config(), given_hits())

    ((duck, goose),) = turns.tool_rows(runner)
    assert (
        duck["id"],
        duck["source_path"],
        duck["lines"],
        duck["similarity"],
    ) == (1, "ducks.md", "1-3", 0.9)
    assert (goose["id"], goose["content"]) == (2, "A goose eats grass.\n")


async def test_more_than_ten_results_reach_the_model(
    turns: type[Turns], runner: FaultyRunner, write_config: WriteConfig, given_hits: GivenHits
):
    runner.faults.script_chat([SEARCH, "Fish [1]."])
    hits = tuple(Hit(f"{n}.md", 1, 1, "Fish.\n", 1.0 / (n + 1)) for n in range(15))

    await turns.ask(runner, write_config(), given_hits(hits))

    assert len(turns.tool_rows(runner)[0]) == 15


async def test_tools_are_described_without_what_local_templates_cannot_render(
    turns: type[Turns], runner: FaultyRunner, write_config: WriteConfig, given_hits: GivenHits
):
    runner.faults.script_chat(["Fish."])

    await turns.ask(runner, write_config(), given_hits())

    (request,) = runner.faults.scripted_requests
    (tool,) = request["tools"]
    assert tool["function"]["description"]
    assert "additionalProperties" not in json.dumps(request)
    assert "strict" not in tool["function"]
    assert request["max_tokens"] == 200


async def test_citing_an_unknown_number_is_a_failure_and_the_answer_is_still_shown(
    turns: type[Turns], runner: FaultyRunner, write_config: WriteConfig, given_hits: GivenHits
):
    runner.faults.script_chat([SEARCH, "It eats fish [1] and bread [9]."])

    answer = await turns.ask(runner, write_config(), given_hits())

    assert answer.outcome == "failed: cites unknown source"
    assert answer.invalid_citations == ("[9]",)
    assert answer.text == "It eats fish [1] and bread [9]."
    assert "cites what was never retrieved: [9]" in answer.notes


async def test_a_place_outside_the_retrieved_lines_is_a_failure(
    turns: type[Turns], runner: FaultyRunner, write_config: WriteConfig, given_hits: GivenHits
):
    runner.faults.script_chat([SEARCH, "It eats fish (ducks.md:3), see ducks.md:4."])

    answer = await turns.ask(runner, write_config(), given_hits())

    assert answer.invalid_citations == ("ducks.md:4",)


async def test_a_passage_found_again_keeps_its_number(
    turns: type[Turns], runner: FaultyRunner, write_config: WriteConfig, given_hits: GivenHits
):
    duck, goose = given_hits().answers[0]
    swan = Hit("swans.md", 1, 1, "A swan.\n", 0.3)
    runner.faults.script_chat([SEARCH, turns.call("birds", query="others"), "Fish [1], swan [3]."])

    answer = await turns.ask(runner, write_config(), given_hits((duck, goose), (swan, goose)))

    first, second = turns.tool_rows(runner)
    assert [row["id"] for row in first] == [1, 2]
    assert [row["id"] for row in second] == [3, 2]
    assert [line.id for line in answer.sources if line.cited] == [1, 3]


async def test_searches_side_by_side_never_share_a_number(
    turns: type[Turns], runner: FaultyRunner, write_config: WriteConfig, given_hits: GivenHits
):
    duck, goose = given_hits().answers[0]
    both = ScriptedAnswer(
        tool_calls=(ScriptedCall("birds", {"query": "a"}), ScriptedCall("birds", {"query": "b"}))
    )
    runner.faults.script_chat([both, "Fish."])

    await turns.ask(runner, write_config(), given_hits((duck,), (goose,)))

    numbers = [row["id"] for rows in turns.tool_rows(runner) for row in rows]
    assert len(set(numbers)) == 2


async def test_a_search_that_fails_is_told_to_the_model(
    turns: type[Turns], runner: FaultyRunner, write_config: WriteConfig
):
    class Broken:
        async def search(self, question: str) -> SearchResult:
            raise StoreError(f"no index for {question!r}")

    runner.faults.script_chat([SEARCH, "I cannot search."])

    answer = await turns.ask(runner, write_config(), Broken())

    (told,) = (
        message["content"]
        for message in turns.messages_of(runner.faults.scripted_requests[-1])
        if message["role"] == "tool"
    )
    assert "the search failed: no index for 'merganser food'" in told
    assert [use.outcome for use in answer.tool_calls] == ["failed"]
    assert "the model answered without any retrieved text" in answer.notes


async def test_a_search_that_may_work_later_fails_the_turn_for_a_retry(
    turns: type[Turns], runner: FaultyRunner, write_config: WriteConfig
):
    class Busy:
        async def search(self, question: str) -> SearchResult:
            raise StoreBusyError(question)

    runner.faults.script_chat([SEARCH])

    with pytest.raises(StoreBusyError):
        await turns.ask(runner, write_config(), Busy())


async def test_an_empty_query_is_refused(
    turns: type[Turns], runner: FaultyRunner, write_config: WriteConfig, given_hits: GivenHits
):
    runner.faults.script_chat([turns.call("birds", query=" "), "I do not know."])
    retriever = given_hits()

    answer = await turns.ask(runner, write_config(), retriever)

    assert retriever.questions == []
    assert [use.outcome for use in answer.tool_calls] == ["failed"]


async def test_files_are_read_and_their_lines_may_be_cited(
    turns: type[Turns],
    runner: FaultyRunner,
    write_config: WriteConfig,
    given_hits: GivenHits,
    tmp_path: Path,
):
    (tmp_path / "notes.md").write_text("one\ntwo\nthree\n")
    runner.faults.script_chat(
        [turns.call("read_file", path="notes.md", start_line=2), "Two, see notes.md:2."]
    )

    answer = await turns.ask(runner, write_config(filesystem=True), given_hits())

    told = turns.messages_of(runner.faults.scripted_requests[-1])[-1]["content"]
    assert told == "notes.md\n2\ttwo\n3\tthree"
    assert [(str(line), line.cited, line.source) for line in answer.sources] == [
        ("notes.md:2-3", True, "read_file")
    ]


async def test_files_outside_the_roots_are_refused_and_the_turn_goes_on(
    turns: type[Turns], runner: FaultyRunner, write_config: WriteConfig, given_hits: GivenHits
):
    runner.faults.script_chat(
        [
            turns.call("read_file", path="/etc/passwd"),
            turns.call("read_file", path="../x"),
            turns.call("search_files_content", path=".", query=""),
            "I may not.",
        ]
    )

    answer = await turns.ask(runner, write_config(filesystem=True), given_hits())

    assert [use.outcome for use in answer.tool_calls] == ["failed"] * 3
    assert answer.text == "I may not."
    assert "root:" not in json.dumps(runner.faults.scripted_requests)


async def test_every_reading_tool_works_and_none_that_writes_is_offered(
    turns: type[Turns],
    runner: FaultyRunner,
    write_config: WriteConfig,
    given_hits: GivenHits,
    tmp_path: Path,
):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("def run(): ...\n")
    runner.faults.script_chat(
        [
            turns.call("list_directory", path="src"),
            turns.call("directory_tree", path="src"),
            turns.call("search_files_content", path="src", query="def"),
            turns.call("read_multiple_files", paths=["src/a.py", "src/none.py"]),
            "Done.",
        ]
    )

    answer = await turns.ask(runner, write_config(filesystem=True), given_hits())

    last = runner.faults.scripted_requests[-1]
    told = [message["content"] for message in turns.messages_of(last) if message["role"] == "tool"]
    assert told == [
        "a.py",
        "a.py",
        "src/a.py:1: def run(): ...",
        "src/a.py\n1\tdef run(): ...\n\nsrc/none.py: 'src/none.py' does not exist",
    ]
    assert all(use.outcome == "success" for use in answer.tool_calls)
    offered = {tool["function"]["name"] for tool in last["tools"]}
    assert offered == {
        "birds",
        "directory_tree",
        "list_directory",
        "read_file",
        "read_multiple_files",
        "search_files_content",
    }
    assert "Files cannot be written" in turns.messages_of(last)[0]["content"]


async def test_a_tool_that_does_not_exist_is_told_to_the_model(
    turns: type[Turns], runner: FaultyRunner, write_config: WriteConfig, given_hits: GivenHits
):
    runner.faults.script_chat([turns.call("write_file", path="a", content="b"), "I cannot write."])

    answer = await turns.ask(runner, write_config(filesystem=True), given_hits())

    assert answer.text == "I cannot write."
    assert [use.outcome for use in answer.tool_calls] == ["failed"]
