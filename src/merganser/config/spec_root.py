"""The whole file."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from merganser.config.spec_agents import AgentSpec
from merganser.config.spec_base import FlowName, StrictModel, Text, fault
from merganser.config.spec_flows import FlowSpec
from merganser.config.spec_models import ModelSpec, ProviderSpec
from merganser.config.spec_rag import RagSpec

LATEST_VERSION = 16
"""The newest version of cagent's language whose keys are known here."""


def _check_version(value: Any) -> Any:
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not text.isdecimal() or int(text) > LATEST_VERSION or text != str(int(text)):
        raise fault(
            f"{value!r} is not a known version of the language",
            fix=f'write "0" to "{LATEST_VERSION}", or leave it out for the latest',
        )
    return text


class MetadataSpec(StrictModel):
    """Who made the file and what for."""

    author: str | None = None
    """Who made it."""
    license: str | None = None
    """How it may be used."""
    description: str | None = None
    """What it is for, in a line."""
    readme: str | None = None
    """What it is for, at length."""
    version: str | None = None
    """The file's own version."""
    tags: tuple[str, ...] = ()
    """Words to find it by."""


class Spec(StrictModel):
    """A config: cagent's language, with ``flows`` and ``extends`` added."""

    version: (
        Annotated[str, BeforeValidator(_check_version, json_schema_input_type=str | int)] | None
    ) = None
    """Version of cagent's language, "0" to "16"; the latest when left out."""

    extends: Text | None = None
    """Another file, relative to this one, whose keys hold where this one has none."""

    defaults: Literal["cagent", "merganser"] = "merganser"
    """Whose defaults hold for what the file leaves out: ``cagent`` divides documents as cagent does
    (1500 characters, wherever they end) where a strategy has no ``chunking``."""

    agents: Mapping[Text, AgentSpec] = Field(default_factory=dict[str, AgentSpec])
    """Agents by name; ``root``, else the first, is asked when none is named."""

    models: Mapping[Text, ModelSpec] = Field(default_factory=dict[str, ModelSpec])
    """Models by name."""

    providers: Mapping[Text, ProviderSpec] = Field(default_factory=dict[str, ProviderSpec])
    """OpenAI-compatible servers by name."""

    rag: Mapping[Text, RagSpec] = Field(default_factory=dict[str, RagSpec])
    """Searchable collections of documents by name."""

    flows: Mapping[FlowName, FlowSpec] = Field(default_factory=dict[str, Any])
    """What runs by itself, by name. When left out each rag gives a flow ``index-<rag>``."""

    metadata: MetadataSpec = MetadataSpec()
    """Who made the file and what for."""

    @property
    def entry_agent(self) -> str | None:
        """The agent that is asked when none is named: ``root``, else the first."""
        return "root" if "root" in self.agents else next(iter(self.agents), None)
