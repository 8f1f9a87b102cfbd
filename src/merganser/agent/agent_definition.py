"""An agent as a turn needs it, with the YAML's references resolved."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

from merganser.config.rag_definition import resolve_rag
from merganser.config.resolve_model import resolve_model
from merganser.config.spec_agents import FilesystemToolset, RagToolset
from merganser.errors import PlanError
from merganser.models.ref import token_of

if TYPE_CHECKING:
    from merganser.config.load import Config
    from merganser.config.rag_definition import RagDefinition
    from merganser.config.spec_agents import RequestedMode
    from merganser.documents.selection import Selection
    from merganser.models.ref import ModelRef


@dataclass(frozen=True, slots=True)
class AgentRag:
    """A rag that an agent may search.

    Attributes:
        name: Under ``rag`` in the config.
        tool_name: What the model calls; unique in the agent.
        description: For the model; never empty.
        instruction: For the system message.
    """

    name: str
    tool_name: str
    description: str
    instruction: str


@dataclass(frozen=True, slots=True)
class AgentDefinition:
    """An agent with everything resolved.

    Attributes:
        name: In the config.
        model: The model that answers.
        instruction: The beginning of the system message.
        rags: What it may search, in the order of the config.
        filesystem: How it may read files, or None.
        selections: What its rags take of the files beside the config.
        rag_mode: How retrieved text reaches the model.
    """

    name: str
    model: ModelRef
    _: KW_ONLY
    instruction: str = ""
    rags: tuple[AgentRag, ...] = ()
    filesystem: FilesystemToolset | None = None
    selections: tuple[Selection, ...] = ()
    rag_mode: RequestedMode = "auto"

    def token(self) -> str | None:
        """Read the model's token from the environment, where it is named.

        Raises:
            SpecErrors: The variable is not set.
        """
        return token_of(self.model)


def describe_agent(config: Config, name: str) -> AgentDefinition:
    """Resolve an agent of a config.

    Raises:
        PlanError: There is no such agent; the message lists those that exist.
    """
    agent = config.spec.agents.get(name)
    if agent is None:
        known = ", ".join(map(repr, config.spec.agents)) or "none"
        raise PlanError(f"{config.path} has no agent {name!r}; it has {known}")
    files: FilesystemToolset | None = None
    resolved = [resolve_rag(config, rag) for rag in agent.rag]
    rags = [_agent_rag(rag) for rag in resolved]
    for toolset in agent.toolsets:
        match toolset:
            case RagToolset():
                rag = resolve_rag(config, toolset.ref)
                resolved.append(rag)
                rags.append(_agent_rag(rag, toolset.name, toolset.instruction))
            case FilesystemToolset():
                files = toolset
    if repeated := _repeated([rag.tool_name for rag in rags]):
        raise PlanError(f"agent {name!r} has two tools named {repeated!r}; name one of them")
    return AgentDefinition(
        name,
        resolve_model(config, agent.model),
        instruction=agent.instruction,
        rags=tuple(rags),
        filesystem=files,
        selections=tuple(
            dict.fromkeys(index.selection for rag in resolved for index in rag.indexes)
        ),
        rag_mode=agent.rag_mode,
    )


def _agent_rag(
    rag: RagDefinition, tool_name: str | None = None, instruction: str | None = None
) -> AgentRag:
    name = tool_name or rag.tool_name
    return AgentRag(
        rag.name,
        name,
        rag.description
        or (
            f"Search the indexed documents of {rag.name!r}. Give a query in natural language that "
            "says what you need; the answer is a list of passages with ids, paths and lines."
        ),
        instruction
        or rag.instruction
        or f"Use the tool {name!r} to find what the documents of {rag.name!r} say.",
    )


def _repeated(names: list[str]) -> str | None:
    return next((name for name in names if names.count(name) > 1), None)
