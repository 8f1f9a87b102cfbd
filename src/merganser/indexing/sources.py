"""All documents of an index: those in the config's folder and those of labelled folders."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from merganser.documents.scanning import Scan, Skipped, scan_documents
from merganser.documents.skipping import describe_skipped
from merganser.errors import SpecError, SpecErrors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from merganser.config.index_definition import IndexDefinition
    from merganser.documents.repositories import Repository
    from merganser.errors import SourcePosition


def bring_repositories(definition: IndexDefinition) -> None:
    """Clone the repositories that an index names by URL, or bring their clones up to date.

    Raises:
        RepositoryError: One is not here and cannot be cloned.
    """
    for one in definition.repositories:
        if one.url:
            from merganser.documents.clones import bring  # noqa: PLC0415 - only clones need it

            bring(one)


def scan_index(definition: IndexDefinition) -> Scan:
    """Find the files that the ``docs`` of an index name, as ``scan_documents`` does.

    Paths of a labelled folder begin with its label. A clone that is not there yet is skipped as a
    whole: a run that indexes has brought it before.

    Raises:
        SpecErrors: A label is also the name of something in the config's folder.
    """
    check_labels(definition)
    own = _scan(definition, None)
    if not definition.repositories:
        return own
    labelled = [_scan(definition, one) for one in definition.repositories]
    documents = {document.path: document for scan in labelled for document in scan.documents}
    skipped = {skip.path: skip for scan in (own, *labelled) for skip in scan.skipped}
    owners = {document.absolute: document.path for document in documents.values()}
    for document in own.documents:
        if (other := owners.get(document.absolute)) in {None, document.path}:
            documents[document.path] = document
        else:
            detail = f"the same file as {other}"
            skipped[document.path] = Skipped(document.path, "duplicate", detail)
    return Scan(
        tuple(documents[path] for path in sorted(documents)),
        tuple(skipped[path] for path in sorted(skipped) if path not in documents),
        tuple(entry for scan in (own, *labelled) for entry in scan.missing),
        tuple(entry for scan in (own, *labelled) for entry in scan.barren),
        {entry: seen for scan in (own, *labelled) for entry, seen in scan.seen.items()},
    )


def _scan(definition: IndexDefinition, repository: Repository | None) -> Scan:
    """Scan the config's folder, or one that has a label."""
    if repository is None and not definition.docs and definition.repositories:
        return Scan((), (), ())
    if repository is not None and not repository.root.is_dir():
        if not repository.url:
            return Scan((), (), (repository.label,))
        return Scan((), (Skipped(f"{repository.label}/", "not cloned", repository.shown),), ())
    found = scan_documents(
        definition.docs if repository is None else repository.paths or (".",),
        base=definition.base if repository is None else repository.root,
        respect_vcs=definition.respect_vcs,
        secrets=definition.secrets,
        exclude=(definition.folder,),
        selection=definition.selection,
        label="" if repository is None else repository.label,
    )
    return found if repository is None else _below(repository.label, found)


def _below(label: str, scan: Scan) -> Scan:
    def shown(entry: str) -> str:
        return label if entry == "." else f"{label}/{entry}"

    return Scan(
        tuple(replace(one, path=f"{label}/{one.path}") for one in scan.documents),
        tuple(replace(one, path=f"{label}/{one.path}") for one in scan.skipped),
        tuple(shown(entry) for entry in scan.missing),
        tuple(shown(entry) for entry in scan.barren),
        {shown(entry): seen for entry, seen in scan.seen.items()},
    )


def check_labels(definition: IndexDefinition) -> None:
    """Refuse labels under which a real file or folder would be shown too.

    Raises:
        SpecErrors: There are some.
    """
    problems = [
        SpecError(
            f"the label {one.label!r} is also the name of a file or folder beside the config",
            position=position,
            key=f"rag.{definition.name}.docs",
            fix="choose another label, or name that folder itself",
        )
        for one, position in _with_positions(definition)
        if os.path.lexists(definition.base / one.label)
        and os.path.realpath(definition.base / one.label) != os.path.realpath(one.root)
    ]
    if problems:
        raise SpecErrors(problems)


def check_missing(definition: IndexDefinition, scan: Scan) -> None:
    """Refuse a scan in which an entry of ``docs`` names nothing.

    Raises:
        SpecErrors: There are some, each with its position.
    """
    places = _places(definition)
    if scan.missing:
        raise SpecErrors(
            [
                SpecError(
                    f"{entry!r} names no file or folder: {scan.seen.get(entry, 'it is not there')}",
                    position=places[entry][0],
                    key=f"rag.{definition.name}.docs",
                    fix=f"looked in {places[entry][1]}; correct the path or create it",
                )
                for entry in scan.missing
            ]
        )


def describe_barren(definition: IndexDefinition, scan: Scan) -> Iterator[str]:
    """Say which entries of ``docs`` give no document, where they stand, and what was seen."""
    places = _places(definition)
    for entry in scan.barren:
        position, _ = places[entry]
        place = f"{position}: " if position else ""
        yield f"{place}docs: {entry!r} gives nothing: {scan.seen[entry]}"


def describe_empty(definition: IndexDefinition, skipped: Sequence[Skipped]) -> str:
    """Return the message that there is nothing to index, and why."""
    told = (
        f"nothing to index for {definition.name!r}: docs ({', '.join(definition.entries)}) hold no "
        "text file that can be indexed"
    )
    return "\n  ".join([told, *describe_skipped(skipped)])


def _places(definition: IndexDefinition) -> dict[str, tuple[SourcePosition | None, Path]]:
    """Return where each entry stands in the YAML, and the folder that it is looked for in."""
    positions = definition.docs_positions or (None,) * len(definition.docs)
    found = {
        entry: (position, definition.base)
        for entry, position in zip(definition.docs, positions, strict=True)
    }
    for one, position in _with_positions(definition):
        for entry in (one.label, *(f"{one.label}/{path}" for path in one.paths)):
            found[entry] = (position, one.root)
    return found


def _with_positions(
    definition: IndexDefinition,
) -> Iterator[tuple[Repository, SourcePosition | None]]:
    positions = definition.repository_positions or (None,) * len(definition.repositories)
    yield from zip(definition.repositories, positions, strict=True)
