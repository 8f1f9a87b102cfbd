"""The tools that a turn offers to the model: one search tool per rag, and reading files.

Sources are read back from the message history, so that a resumed turn, whose tools do not run
again, has them too.

Schemas and arguments are not left to Pydantic AI: its schemas have keys that chat templates of
local models cannot render, and it counts wrong arguments as retries and ends the turn after a few,
whereas here the model is told what is wrong and goes on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from merganser.agent.events import ToolAnswered
from merganser.agent.evidence import (
    Evidence,
    evidence_from_json,
    evidence_to_json,
    fit_evidence,
    number_hits,
    origins_of,
)
from merganser.agent.no_follow import FilesystemError
from merganser.errors import MerganserError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pydantic_ai import FunctionToolset, RunContext, Tool
    from pydantic_ai.messages import ModelMessage, ToolReturn, ToolReturnPart

    from merganser.agent.agent_definition import AgentRag
    from merganser.agent.answer import HitSource
    from merganser.agent.events import EventSink
    from merganser.agent.filesystem import Filesystem, TextLines
    from merganser.retrieval.hits import SearchResult

MAX_LINE_NUMBER = 10**9
"""More lines than any file has that is read."""

_NUMBER = re.compile(r"[0-9]{1,10}")

NUMBERS_PER_CALL = 100
"""Numbers reserved for each of several searches in one model response; above any limit in use."""


@dataclass(frozen=True, slots=True)
class TurnScope:
    """What the tools of one attempt at a turn share; part of every cache key.

    Attributes:
        turn_id: The turn.
        characters: Room for the text that one tool call returns.
    """

    turn_id: str
    characters: int


def rag_toolset(
    rags: Sequence[AgentRag], retrievers: Mapping[str, HitSource], on_event: EventSink
) -> FunctionToolset[TurnScope]:
    """Return a toolset with one search tool for each rag.

    Args:
        rags: The agent's.
        retrievers: One for each rag, by the rag's name.
        on_event: Called with results.
    """
    from pydantic_ai import FunctionToolset

    names = {rag.tool_name: rag.name for rag in rags}
    tools = [_rag_tool(rag, retrievers[rag.name], names, on_event) for rag in rags]
    return FunctionToolset(tools, id="rag", max_retries=2)


def _rag_tool(
    rag: AgentRag, retriever: HitSource, rags: Mapping[str, str], on_event: EventSink
) -> Tool[TurnScope]:
    from pydantic_ai import Tool, ToolFailed
    from pydantic_ai.messages import ToolReturn

    async def search(ctx: RunContext[TurnScope], **arguments: Any) -> ToolReturn[Any]:
        try:
            query = _text(arguments, "query")
            result = await retriever.search(query)
        except TransientError:
            # The orchestrator retries this; the model could only give up.
            raise
        except MerganserError as error:
            on_event(ToolAnswered(rag.tool_name, "failed", str(error)))
            raise ToolFailed(f"the search failed: {error}") from error
        known, first = _given_numbers(ctx, rags)
        numbered = number_hits(result.hits, source=rag.name, first=first, known=known)
        kept, left_out = fit_evidence(numbered, ctx.deps.characters)
        summary = f"{len(kept)} passages" + (f", {left_out} cut or left out" if left_out else "")
        on_event(ToolAnswered(rag.tool_name, "success", summary))
        rows = [evidence_to_json(item) for item in kept]
        beside = {"notes": notes_of(rag.name, result), "origins": origins_of(kept)}
        return ToolReturn(return_value=rows, metadata=beside)

    schema = _schema({"query": ("string", "What to search for, in natural language.")}, ["query"])
    return Tool[TurnScope].from_schema(
        search, name=rag.tool_name, description=rag.description, json_schema=schema, takes_ctx=True
    )


def _given_numbers(
    ctx: RunContext[TurnScope], rags: Mapping[str, str]
) -> tuple[dict[tuple[str, str, int, int], int], int]:
    """Return the numbers given so far, and the first free one for this call.

    Calls of one response run concurrently and do not see each other's results, so each gets a range
    of its own by its place in the response.
    """
    known: dict[tuple[str, str, int, int], int] = {}
    for item in evidence_of(ctx.messages, rags):
        if item.id is not None:
            known[item.key] = item.id
    first = max(known.values(), default=0) + 1
    last = ctx.messages[-1] if ctx.messages else None
    calls = [c.tool_call_id for c in getattr(last, "tool_calls", ()) if c.tool_name in rags]
    position = calls.index(ctx.tool_call_id) if ctx.tool_call_id in calls else 0
    return known, first + position * NUMBERS_PER_CALL


def filesystem_toolset(files: Filesystem, on_event: EventSink) -> FunctionToolset[TurnScope]:
    """Return a toolset that gives the model read-only access to files.

    The tools have docker-agent's names; those that write are missing, so the model cannot call
    them, and the system message says that files cannot be written.

    >>> from pathlib import Path
    >>> from merganser.agent.filesystem import Filesystem
    >>> toolset = filesystem_toolset(Filesystem.at(Path()), lambda event: None)
    >>> sorted(toolset.tools)[:3]
    ['directory_tree', 'list_directory', 'read_file']
    """
    from pydantic_ai import FunctionToolset

    def tool(
        name: str,
        description: str,
        parameters: dict[str, tuple[str, str]],
        required: list[str],
        call: Callable[[dict[str, Any]], tuple[str, Sequence[TextLines]]],
    ) -> Tool[TurnScope]:
        return _file_tool(name, description, _schema(parameters, required), call, on_event)

    path = {"path": ("string", "Path relative to the root.")}
    lines = {
        "start_line": ("integer", "First line to read, from 1."),
        "end_line": ("integer", "Last line to read."),
    }
    return FunctionToolset(
        [
            tool(
                "read_file",
                "Read a text file, or some of its lines. Lines come with their numbers.",
                path | lines,
                ["path"],
                lambda given: _read(files, [_text(given, "path")], _range(given)),
            ),
            tool(
                "read_multiple_files",
                "Read several text files.",
                {"paths": ("array", "Paths relative to the root.")},
                ["paths"],
                lambda given: _read(files, _texts(given, "paths"), (None, None)),
            ),
            tool(
                "list_directory",
                "List a directory's files and directories.",
                path,
                ["path"],
                lambda given: _listing(files.list_directory(_text(given, "path"))),
            ),
            tool(
                "directory_tree",
                "Show everything below a directory as a tree.",
                path,
                ["path"],
                lambda given: _listing(files.directory_tree(_text(given, "path"))),
            ),
            tool(
                "search_files_content",
                "Find the lines of files below a path that contain a text or match a pattern.",
                path
                | {
                    "query": ("string", "The text or regular expression to find."),
                    "is_regex": ("boolean", "Whether the query is a regular expression."),
                    "excludePatterns": ("array", "Globs of paths to leave out."),
                },
                ["path", "query"],
                lambda given: _listing(
                    files.search_files_content(
                        _text(given, "path"),
                        _text(given, "query"),
                        is_regex=given.get("is_regex") is True,
                        exclude_patterns=_texts(given, "excludePatterns"),
                    )
                ),
            ),
        ],
        id="filesystem",
        max_retries=2,
    )


def _file_tool(
    name: str,
    description: str,
    schema: dict[str, Any],
    call: Callable[[dict[str, Any]], tuple[str, Sequence[TextLines]]],
    on_event: EventSink,
) -> Tool[TurnScope]:
    from pydantic_ai import Tool, ToolFailed
    from pydantic_ai.messages import ToolReturn

    def run(ctx: RunContext[TurnScope], **arguments: Any) -> ToolReturn[Any]:
        try:
            text, read = call(arguments)
        except FilesystemError as error:
            on_event(ToolAnswered(name, "failed", str(error)))
            raise ToolFailed(str(error)) from error
        if len(text) > ctx.deps.characters:
            text = text[: ctx.deps.characters] + "\n... (cut; ask for fewer lines)"
        on_event(ToolAnswered(name, "success", f"{len(text):,} characters"))
        places = [[part.path, part.start_line, part.end_line] for part in read]
        return ToolReturn(return_value=text or "(empty)", metadata={"read": places})

    return Tool[TurnScope].from_schema(
        run, name=name, description=description, json_schema=schema, takes_ctx=True
    )


def _read(
    files: Filesystem, paths: Sequence[str], lines: tuple[int | None, int | None]
) -> tuple[str, Sequence[TextLines]]:
    texts: list[str] = []
    read: list[TextLines] = []
    for path in paths:
        try:
            part = files.read_file(path, *lines)
        except FilesystemError as error:
            if len(paths) == 1:
                raise
            texts.append(f"{path}: {error}")
            continue
        numbered = "\n".join(
            f"{number}\t{line}"
            for number, line in enumerate(part.text.splitlines(), part.start_line)
        )
        more = "\n... (more lines left out)" if part.truncated else ""
        texts.append(f"{part.path}\n{numbered}{more}")
        read.append(part)
    return "\n\n".join(texts), read


def _listing(entries: Sequence[str]) -> tuple[str, Sequence[TextLines]]:
    return "\n".join(entries), ()


def _schema(parameters: dict[str, tuple[str, str]], required: list[str]) -> dict[str, Any]:
    # No additionalProperties: some chat templates of local models cannot render it.
    properties: dict[str, dict[str, Any]] = {}
    for name, (kind, description) in parameters.items():
        properties[name] = {"type": kind, "description": description}
        if kind == "array":
            properties[name]["items"] = {"type": "string"}
    return {"type": "object", "properties": properties, "required": required}


def _text(given: dict[str, Any], name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str) or not value.strip():
        raise FilesystemError(f"{name!r} must be a text that is not empty")
    return value


def _texts(given: dict[str, Any], name: str) -> list[str]:
    value = given.get(name, [])
    # Small models often give one text where a list is asked for.
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list):
        raise FilesystemError(f"{name!r} must be a list of texts")
    return [str(item) for item in cast("list[Any]", values)]


def _range(given: dict[str, Any]) -> tuple[int | None, int | None]:
    bounds: list[int | None] = []
    for name in ("start_line", "end_line"):
        value = given.get(name)
        if value is None:
            bounds.append(None)
        else:
            # Digits that int() takes alone: "²" is a digit too, and int() refuses 5,000 of them.
            text = value if isinstance(value, str) else ""
            number = value if type(value) is int else int(text) if _NUMBER.fullmatch(text) else 0
            if not 0 < number <= MAX_LINE_NUMBER:
                raise FilesystemError(f"{name!r} must be a line number from 1")
            bounds.append(number)
    return bounds[0], bounds[1]


def notes_of(rag: str, result: SearchResult) -> list[str]:
    """Return what a reader must know about a search, each note with the rag's name."""
    notes = [*result.notes]
    if result.rerank.startswith("skipped"):
        notes.append(f"rerank: {result.rerank}")
    return [f"{rag}: {note}" for note in notes]


def evidence_of(messages: Sequence[ModelMessage], rags: Mapping[str, str]) -> list[Evidence]:
    """Read from a turn's messages what its tools showed the model.

    Args:
        messages: The turn's history.
        rags: The rag of each search tool, by the tool's name.

    Returns:
        The passages in the order of the calls, repeated ones included.
    """
    found: list[Evidence] = []
    for part in successes(messages):
        content = cast("object", part.content)
        if part.tool_name in rags and isinstance(content, list):
            rows = cast("list[object]", content)
            source = rags[part.tool_name]
            origins = cast("dict[str, list[str]]", _metadata(part, "origins") or {})
            read = (evidence_from_json(row, source=source, origins=origins) for row in rows)
            found += [evidence for evidence in read if evidence]
        else:
            found += [
                Evidence(path, start, end, "", source=part.tool_name)
                for path, start, end in _metadata(part, "read")
            ]
    return found


def search_notes(messages: Sequence[ModelMessage]) -> list[str]:
    """Read the notes of a turn's searches from its messages, each once."""
    notes = (note for part in successes(messages) for note in _metadata(part, "notes"))
    return list(dict.fromkeys(notes))


def successes(messages: Sequence[ModelMessage]) -> list[ToolReturnPart]:
    """Return what tools returned, without their failures, in order."""
    from pydantic_ai.messages import ModelRequest, ToolReturnPart

    return [
        part
        for message in messages
        if isinstance(message, ModelRequest)
        for part in message.parts
        if isinstance(part, ToolReturnPart) and part.outcome == "success"
    ]


def _metadata(part: ToolReturnPart, key: str) -> list[Any]:
    metadata = cast("object", part.metadata)
    if not isinstance(metadata, dict):
        return []
    return cast("dict[str, list[Any]]", metadata).get(key, [])
