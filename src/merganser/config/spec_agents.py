"""``agents``: who answers, with which model, instruction and tools."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from merganser.config.config_tree import is_list
from merganser.config.spec_base import Flag, StrictModel, Text, ToolName, fault
from merganser.config.spec_models import AUTO_MODEL

RequestedMode = Literal["auto", "tool", "context"]


class FilesystemToolset(StrictModel):
    """Read, list and search files below the working directory."""

    type: Literal["filesystem"]
    """Which kind of toolset this is."""

    instruction: str | None = None
    """Text for the model's system prompt."""

    ignore_vcs: Flag = True
    """Leave out what git ignores."""


class RagToolset(StrictModel):
    """Search one rag."""

    type: Literal["rag"]
    """Which kind of toolset this is."""

    ref: Text
    """Name under ``rag``."""

    name: ToolName | None = None
    """Name of the tool for this agent; the rag's own when left out."""

    instruction: str | None = None
    """Text for the model's system prompt; the rag's own when left out."""


ToolsetSpec = Annotated[FilesystemToolset | RagToolset, Field(discriminator="type")]


def _join(value: Any) -> Any:
    if not is_list(value):
        return value
    if not all(isinstance(part, str) for part in value):
        raise fault("must be text or a list of texts")
    return "\n\n".join(value)


class AgentSpec(StrictModel):
    """One agent."""

    model: Text = AUTO_MODEL
    """A name under ``models``, an inline ``provider/model``, or ``auto`` for dmr/ai/qwen3."""

    description: str = ""
    """What the agent is for, as other agents and people read it."""

    instruction: Annotated[str, BeforeValidator(_join, json_schema_input_type=str | list[str])] = ""
    """The system prompt; a list is joined by blank lines."""

    rag: tuple[Text, ...] = ()
    """Names under ``rag`` that the agent may search."""

    rag_mode: RequestedMode = "auto"
    """How the agent reads its rags: by calling a ``tool``, or from passages in its ``context``.
    ``auto`` tests whether the model can call tools, and uses the context if not."""

    toolsets: tuple[ToolsetSpec, ...] = ()
    """Tools of the agent."""
