"""Which strategies of a rag share an index, and where each index lies."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from merganser.chunking import ChunkingOptions
from merganser.config.definitions import IndexDefinition
from merganser.config.spec_rag import safe_name
from merganser.config.yaml_source import Location
from merganser.documents.file_types import INDEX_FOLDER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from merganser.config.definitions import EmbeddingDefinition
    from merganser.config.load import Config
    from merganser.config.spec_rag import RagSpec, StrategySpec


@dataclass(frozen=True, slots=True)
class _Group:
    """Strategies that share one index; ``members`` are their places in the rag."""

    docs: tuple[str, ...]
    respect_vcs: bool
    chunking: ChunkingOptions
    database: str | None
    embedding: EmbeddingDefinition | None
    members: tuple[int, ...] = field(compare=False)

    def join(self, other: _Group) -> _Group | None:
        """Give both as one, or None if they differ in documents, chunking, folder or model."""
        united = replace(
            self,
            database=self.database or other.database,
            embedding=self.embedding or other.embedding,
            members=self.members + other.members,
        )
        filled = replace(
            other,
            database=other.database or united.database,
            embedding=other.embedding or united.embedding,
        )
        return united if united == filled else None


def resolve_indexes(
    config: Config, rag: str, embeddings: Sequence[EmbeddingDefinition | None]
) -> tuple[IndexDefinition, ...]:
    """Give the index of each strategy of a rag, in their order.

    Args:
        config: The config.
        rag: A name under ``rag``.
        embeddings: What each strategy embeds with, or None.
    """
    spec = config.spec.rag[rag]
    groups = list[_Group]()
    for i, (strategy, embedding) in enumerate(zip(spec.strategies, embeddings, strict=True)):
        candidate = _candidate(spec, strategy, i, embedding)
        for number, group in enumerate(groups):
            united = group.join(candidate)
            if united:
                groups[number] = united
                break
        else:
            groups.append(candidate)
    return _lay_out(config, rag, groups)


def _candidate(
    spec: RagSpec, strategy: StrategySpec, number: int, embedding: EmbeddingDefinition | None
) -> _Group:
    chunking = strategy.chunking
    return _Group(
        docs=tuple(dict.fromkeys((*spec.docs, *strategy.docs))),
        respect_vcs=spec.respect_vcs if strategy.respect_vcs is None else strategy.respect_vcs,
        chunking=ChunkingOptions(
            size=chunking.size,
            overlap=chunking.overlap,
            respect_word_boundaries=chunking.respect_word_boundaries,
            code_aware=chunking.code_aware,
        ),
        database=strategy.database and os.path.normpath(strategy.database),
        embedding=embedding,
        members=(number,),
    )


def _lay_out(config: Config, rag: str, groups: Sequence[_Group]) -> tuple[IndexDefinition, ...]:
    spec = config.spec.rag[rag]
    names = spec.strategy_names
    places = _places(rag, spec)
    folders = set[Path]()
    indexes = dict[int, IndexDefinition]()
    for group in groups:
        first = names[group.members[0]]
        folder = _folder(config.directory, rag, group.database)
        if folder in folders:  # a folder holds one index
            folder = folder.with_name(f"{folder.stem}-{safe_name(first)}{folder.suffix}")
        folders.add(folder)
        index = IndexDefinition(
            name=rag if not indexes else f"{rag}-{first}",
            folder=folder,
            base=config.directory,
            docs=group.docs,
            docs_positions=tuple(config.position(*places[entry]) for entry in group.docs),
            respect_vcs=group.respect_vcs,
            chunking=group.chunking,
            embedding=group.embedding,
        )
        indexes.update(dict.fromkeys(group.members, index))
    return tuple(indexes[number] for number in range(len(names)))


def _folder(base: Path, rag: str, database: str | None) -> Path:
    return Path(os.path.normpath(base / (database or f"{INDEX_FOLDER}/{safe_name(rag)}")))


def _places(rag: str, spec: RagSpec) -> dict[str, Location]:
    """Say where each entry of ``docs`` stands, the first time."""
    places = dict[str, Location]()
    for i, entry in enumerate(spec.docs):
        places.setdefault(entry, ("rag", rag, "docs", i))
    for i, strategy in enumerate(spec.strategies):
        for j, entry in enumerate(strategy.docs):
            places.setdefault(entry, ("rag", rag, "strategies", i, "docs", j))
    return places
