"""What an index is made of, and which strategies of a rag share one."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from merganser.chunking import ChunkingOptions
from merganser.config.resolve_model import resolve_model
from merganser.config.spec_docs import RepositorySpec
from merganser.config.spec_models import AUTO_EMBEDDING_MODEL, AUTO_MODEL
from merganser.config.spec_rag import Bm25Spec, names_documents, safe_name
from merganser.config.yaml_source import Location
from merganser.documents.file_types import INDEX_FOLDER
from merganser.documents.kinds import ALL_KINDS, DEFAULT_KINDS
from merganser.documents.repositories import REPOSITORIES, TREE, Repository, clone_name, locate
from merganser.documents.selection import EVERYTHING, Pattern, Selection
from merganser.globs import expand_home

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from merganser.config.load import Config
    from merganser.config.spec_rag import RagSpec, Similarity, StrategySpec
    from merganser.documents.kinds import Kind
    from merganser.documents.secrets import SecretsMode
    from merganser.errors import SourcePosition
    from merganser.models.ref import ModelRef


DEFAULT_CHUNKING = ChunkingOptions(
    size=1500, code_size=1000, overlap=75, code_aware=True, sentences=True
)
"""What holds where a strategy has no ``chunking``: docs/adr/0015-defaults.md."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingDefinition:
    """How the chunks of an index are embedded.

    Attributes:
        model: The embedding model.
        dimensions: Expected length of a vector; None accepts what the model returns.
        batch_size: Most texts in one request; None finds the fastest number.
        concurrency: Most requests at a time; None finds the fastest number.
        similarity: How the similarity of two vectors is measured.
    """

    model: ModelRef
    dimensions: int | None
    batch_size: int | None = None
    concurrency: int | None = None
    similarity: Similarity = "cosine_similarity"


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexDefinition:
    """One index on disk; strategies that chunk the same documents in the same way share it.

    Attributes:
        name: Unique in the config.
        folder: Absolute path of its files.
        base: Absolute folder that ``docs`` and stored paths are relative to.
        docs: Paths and globs as written, those without a label.
        docs_positions: Where each of them stands in the YAML.
        repositories: The labelled folders and git repositories.
        repository_positions: Where each of them stands in the YAML.
        selection: What of them is left out, and what is taken back.
        respect_vcs: Whether files that git ignores are left out.
        secrets: What is done about passwords, tokens and keys in the files.
        chunking: How documents are chunked.
        embedding: How chunks are embedded; None for an index that only BM25 searches.
        shards: Folder or URL that keeps embedded shards for all machines, from the flow's
            ``shards``; None for the index folder.
    """

    name: str
    folder: Path
    base: Path
    docs: tuple[str, ...]
    docs_positions: tuple[SourcePosition | None, ...] = field(default=(), repr=False, compare=False)
    repositories: tuple[Repository, ...] = ()
    repository_positions: tuple[SourcePosition | None, ...] = field(
        default=(), repr=False, compare=False
    )
    selection: Selection = EVERYTHING
    respect_vcs: bool
    chunking: ChunkingOptions
    embedding: EmbeddingDefinition | None
    secrets: SecretsMode = "redact"
    shards: str | None = None

    @property
    def entries(self) -> tuple[str, ...]:
        """What is indexed, as paths and globs relative to the base, labels as folders in it."""
        labelled = (entry for one in self.repositories for entry in one.entries)
        return (*self.docs, *labelled)

    def locate(self, path: str) -> Path:
        """Return where a document lies, from the path that users see."""
        return locate(path, self.base, self.repositories)


@dataclass(frozen=True, slots=True)
class _Group:
    """Strategies that share one index.

    Attributes:
        members: Their numbers in the rag.
    """

    docs: tuple[str | RepositorySpec, ...]
    selection: Selection
    respect_vcs: bool
    chunking: ChunkingOptions
    database: str | None
    embedding: EmbeddingDefinition | None
    members: tuple[int, ...] = field(compare=False)

    def join(self, other: _Group) -> _Group | None:
        """Return both as one, or None if documents, chunking, folder or model differ."""
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


def resolve_indexes(config: Config, rag: str) -> tuple[IndexDefinition, ...]:
    """Return the index of each strategy of a rag, in the order of the strategies."""
    spec = config.spec.rag[rag]
    groups = list[_Group]()
    for number, strategy in enumerate(spec.strategies):
        candidate = _candidate(config, rag, spec, strategy, number)
        for place, group in enumerate(groups):
            if united := group.join(candidate):
                groups[place] = united
                break
        else:
            groups.append(candidate)
    return _place_groups(config, rag, groups)


def _candidate(
    config: Config, rag: str, spec: RagSpec, strategy: StrategySpec, number: int
) -> _Group:
    return _Group(
        docs=tuple(dict.fromkeys(filter(names_documents, (*spec.docs, *strategy.docs)))),
        selection=Selection(
            exclude=(
                *_patterns(config, (rag,), spec),
                *_patterns(config, (rag, "strategies", number), strategy),
            ),
            include=(
                *_placed(config, (rag, "include"), spec.include),
                *_placed(config, (rag, "strategies", number, "include"), strategy.include),
            ),
            kinds=tuple(sorted(_kinds(spec))),
        ),
        respect_vcs=spec.respect_vcs if strategy.respect_vcs is None else strategy.respect_vcs,
        chunking=_resolve_chunking(config, strategy),
        database=strategy.database and os.path.normpath(strategy.database),
        embedding=_resolve_embedding(config, strategy),
        members=(number,),
    )


def _patterns(
    config: Config, at: tuple[str | int, ...], spec: RagSpec | StrategySpec
) -> Iterator[Pattern]:
    """Return what ``!pattern`` in ``docs`` and ``exclude`` leave out."""
    for number, entry in enumerate(spec.docs):
        if isinstance(entry, str) and not names_documents(entry):
            yield from _placed(config, (*at, "docs", number), (entry[1:],))
    yield from _placed(config, (*at, "exclude"), spec.exclude)


def _placed(config: Config, at: tuple[str | int, ...], texts: tuple[str, ...]) -> Iterator[Pattern]:
    for number, text in enumerate(texts):
        position = config.position("rag", *at, *(() if at[-2] == "docs" else (number,)))
        yield Pattern(text, f"{position.path.name}:{position.line}")


def _kinds(spec: RagSpec) -> frozenset[Kind]:
    if "all" in spec.kinds:
        return ALL_KINDS
    return frozenset(kind for kind in spec.kinds if kind != "all") or DEFAULT_KINDS


def _resolve_chunking(config: Config, strategy: StrategySpec) -> ChunkingOptions:
    """Return cagent's chunking where a file writes any, or asks for its defaults; else ours."""
    if config.spec.defaults == "cagent" or "chunking" in strategy.model_fields_set:
        return ChunkingOptions(**dict(strategy.chunking))
    return DEFAULT_CHUNKING


def _resolve_embedding(config: Config, strategy: StrategySpec) -> EmbeddingDefinition | None:
    if isinstance(strategy, Bm25Spec):
        return None
    reference = strategy.embedding_model
    if reference == AUTO_MODEL and reference not in config.spec.models:
        reference = AUTO_EMBEDDING_MODEL
    return EmbeddingDefinition(
        model=resolve_model(config, reference),
        dimensions=strategy.vector_dimensions,
        batch_size=strategy.embedding_batch_size,
        concurrency=strategy.max_embedding_concurrency,
        similarity=strategy.similarity_metric,
    )


def _place_groups(
    config: Config, rag: str, groups: Sequence[_Group]
) -> tuple[IndexDefinition, ...]:
    """Give each group a name and a folder of its own; return the index of each strategy."""
    spec = config.spec.rag[rag]
    names = spec.strategy_names
    entries = _locate_docs(rag, spec)
    folders = set[Path]()
    indexes = dict[int, IndexDefinition]()
    for group in groups:
        first = names[group.members[0]]
        database = group.database or f"{INDEX_FOLDER}/{safe_name(rag)}"
        folder = Path(os.path.normpath(config.directory / database))
        if folder in folders:
            folder = folder.with_name(f"{folder.stem}-{safe_name(first)}{folder.suffix}")
        folders.add(folder)
        paths = [entry for entry in group.docs if isinstance(entry, str)]
        labelled = [entry for entry in group.docs if not isinstance(entry, str)]
        index = IndexDefinition(
            name=rag if not indexes else f"{rag}-{first}",
            folder=folder,
            base=config.directory,
            docs=tuple(paths),
            docs_positions=tuple(config.position(*entries[entry]) for entry in paths),
            selection=group.selection,
            repositories=tuple(_resolve_repository(config, one) for one in labelled),
            repository_positions=tuple(config.position(*entries[one]) for one in labelled),
            respect_vcs=group.respect_vcs,
            secrets=spec.secrets,
            chunking=group.chunking,
            embedding=group.embedding,
        )
        indexes.update(dict.fromkeys(group.members, index))
    return tuple(indexes[number] for number in range(len(names)))


def _resolve_repository(config: Config, spec: RepositorySpec) -> Repository:
    if spec.git is None:
        root = Path(os.path.normpath(config.directory / expand_home(spec.path or "")))
        return Repository(label=spec.shown_label, root=root, paths=spec.paths)
    from merganser.services.supervisor import merganser_home  # noqa: PLC0415 - only clones need it

    url, ref = spec.git, spec.ref or ""
    return Repository(
        label=spec.shown_label,
        root=merganser_home()
        / REPOSITORIES
        / clone_name(url, ref, submodules=spec.submodules)
        / TREE,
        paths=spec.paths,
        url=url,
        ref=ref,
        submodules=spec.submodules,
        token_key=spec.token_key or "",
    )


def _locate_docs(rag: str, spec: RagSpec) -> dict[str | RepositorySpec, Location]:
    """Return where each entry of ``docs`` stands first."""
    found = dict[str | RepositorySpec, Location]()
    for i, entry in enumerate(spec.docs):
        found.setdefault(entry, ("rag", rag, "docs", i))
    for i, strategy in enumerate(spec.strategies):
        for j, entry in enumerate(strategy.docs):
            found.setdefault(entry, ("rag", rag, "strategies", i, "docs", j))
    return found
