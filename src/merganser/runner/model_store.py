"""The models that can be asked, and their tags (docs/model-runner.md, sections 1.1 and 2).

A model is identified by its digest and may have several tags. A tag that was given because another
model stands in for the wanted one remembers which: its Model JSON says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from merganser.errors import MerganserError
from merganser.models.ref import canonical

if TYPE_CHECKING:
    from collections.abc import Iterator

    from merganser.runner.artifacts import Artifact


_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:[/:@][A-Za-z0-9][A-Za-z0-9._-]*)*")


def is_valid(reference: str) -> bool:
    """Tell whether the text can be a model's name or id at all."""
    return _REFERENCE.fullmatch(reference.strip()) is not None


def qualify(reference: str) -> str:
    """Return the tag as the store keeps it, ``docker.io/ai/qwen3:latest``; an id as it is."""
    name = canonical(reference)
    registry, slash, _ = name.partition("/")
    if not slash or "." in registry or ":" in registry or registry == "localhost":
        return name
    return f"docker.io/{name}"


def _bare_name(reference: str) -> str:
    """Return the last part of the name without its tag, ``qwen3`` of ``ai/qwen3:latest``."""
    return canonical(reference).rpartition("/")[2].partition(":")[0]


class ModelConflictError(MerganserError):
    """A model with several tags was to be deleted by its id, without force."""


@dataclass(slots=True)
class _Entry:
    artifact: Artifact
    tags: dict[str, str] = field(default_factory=dict[str, str])  # tag → model it stands in for


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model as one reference sees it.

    Attributes:
        artifact: What is loaded.
        tags: Fully qualified, oldest first.
        alias_of: The packaged model that stands behind the asked tag, or "".
    """

    artifact: Artifact
    tags: tuple[str, ...]
    alias_of: str = ""

    @property
    def name(self) -> str:
        """First tag, else the id."""
        return self.tags[0] if self.tags else self.artifact.digest

    def to_json(self) -> dict[str, Any]:
        """Return the model as ``GET /models`` shows it; the key ``merganser`` is ours."""
        document: dict[str, Any] = {"id": self.artifact.digest}
        if self.tags:
            document["tags"] = list(self.tags)
        document |= {"created": self.artifact.created, "config": dict(self.artifact.config)}
        if self.alias_of:
            document["merganser"] = {"alias_of": self.alias_of}
        return document

    def to_openai(self) -> dict[str, Any]:
        """Return the OpenAI view: the first tag and a few facts."""
        config = self.artifact.config
        facts = {
            "context_window": config.get("context_size"),
            "architecture": config.get("architecture"),
            "parameters": config.get("parameters"),
            "quantization": config.get("quantization"),
            "size": config.get("size"),
        }
        return {
            "id": self.name,
            "object": "model",
            "created": self.artifact.created,
            "owned_by": "docker",
            "dmr": {key: value for key, value in facts.items() if value},
        }


class ModelStore:
    """Models by digest and by tag; used from the server's event loop only."""

    def __init__(self) -> None:
        self._entries = dict[str, _Entry]()

    def __iter__(self) -> Iterator[FoundModel]:
        """Yield each model once, with all its tags; an alias is named if it has no own tag."""
        for entry in self._entries.values():
            aliases = list(entry.tags.values())
            yield FoundModel(
                entry.artifact, tuple(entry.tags), aliases[0] if all(aliases) and aliases else ""
            )

    def add(self, artifact: Artifact, reference: str | None, *, alias_of: str = "") -> None:
        """Keep a model, under a tag if one is given; a tag moves from its former model."""
        entry = self._entries.setdefault(artifact.digest, _Entry(artifact))
        if reference:
            self._move_tag(qualify(reference), entry, alias_of)

    def find(self, reference: str, *, by_bare_name: bool = False) -> FoundModel | None:
        """Return the model of a tag or id.

        Args:
            reference: In any spelling.
            by_bare_name: Also accept a name without its organisation and tag.
        """
        if entry := self._by_digest(reference):
            return FoundModel(entry.artifact, tuple(entry.tags))
        wanted = qualify(reference)
        for entry in self._entries.values():
            if wanted in entry.tags:
                return FoundModel(entry.artifact, tuple(entry.tags), entry.tags[wanted])
        if by_bare_name and "/" not in reference:
            for entry in self._entries.values():
                for tag, alias_of in entry.tags.items():
                    if _bare_name(tag) == _bare_name(reference):
                        return FoundModel(entry.artifact, tuple(entry.tags), alias_of)
        return None

    def delete(self, reference: str, *, force: bool) -> list[dict[str, str]] | None:
        """Remove a tag, and the model with its last tag; None when there is no such model.

        Raises:
            ModelConflictError: By id, with several tags, and not forced.
        """
        entry = self._by_digest(reference)
        if entry is None:
            return self._untag(qualify(reference))
        if len(entry.tags) > 1 and not force:
            raise ModelConflictError(
                f'unable to delete "{reference}" (must be forced) due to multiple tag references: '
                "resource conflict"
            )
        del self._entries[entry.artifact.digest]
        return [*({"Untagged": tag} for tag in entry.tags), {"Deleted": entry.artifact.digest}]

    def size_bytes(self) -> int:
        """Sum of all models on disk."""
        return sum(entry.artifact.size_bytes for entry in self._entries.values())

    def _untag(self, tag: str) -> list[dict[str, str]] | None:
        for digest, entry in list(self._entries.items()):
            if tag in entry.tags:
                del entry.tags[tag]
                if entry.tags:
                    return [{"Untagged": tag}]
                del self._entries[digest]
                return [{"Untagged": tag}, {"Deleted": digest}]
        return None

    def _move_tag(self, tag: str, entry: _Entry, alias_of: str) -> None:
        for other in self._entries.values():
            if other is not entry:
                other.tags.pop(tag, None)
        entry.tags[tag] = canonical(alias_of).removesuffix(":latest") if alias_of else ""

    def _by_digest(self, reference: str) -> _Entry | None:
        name = canonical(reference)
        if not name or "/" in name:
            return None
        wanted = name.removeprefix("sha256:")
        for digest, entry in self._entries.items():
            if digest.removeprefix("sha256:").startswith(wanted):
                return entry
        return None
