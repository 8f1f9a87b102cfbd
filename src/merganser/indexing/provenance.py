"""The commits that the files of a snapshot were indexed at, and which of them differ from it.

Found out only when a snapshot is written. git is asked for names and numbers of blobs and reads no
file; a file is compared by hashing it here, and only where it, or its blob in the commit, is
another one than in the snapshot before.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from merganser.documents.files import read_file
from merganser.documents.forges import Provenance, dump_provenance, load_provenance
from merganser.documents.git import run_git
from merganser.documents.reading import content_hash
from merganser.humanize import without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from merganser.config.index_definition import IndexDefinition
    from merganser.documents.git import NamesCommand
    from merganser.documents.repositories import Repository
    from merganser.store.catalogue import Catalogue, FileRow

_MAX_CHANGED = 20_000
"""Of a work tree that differs more from its commit nothing is kept: all names would be."""

_SECONDS = 20.0
"""Most time for one question; a link is not worth more."""

REPOSITORIES_KEY = "repositories"
"""Key in the meta of a snapshot."""


def find_provenance(
    definition: IndexDefinition, files: Sequence[FileRow], base: Catalogue | None
) -> str:
    """Return what is known of the repositories of some files, for the meta of a snapshot."""
    kept = base.meta.get(REPOSITORIES_KEY, "") if base else ""
    before = {one.under: one for one in load_provenance(kept)}
    hashes = {row.path: row.content_hash for row in base.files} if base else {}
    found: list[Provenance] = []
    for (repository, top), rows in _by_repository(definition, files).items():
        label = f"{repository.label}/" if repository else ""
        root = str(repository.root) if repository else os.path.normpath(definition.base)
        below = os.path.relpath(top, root)
        if set(below.split("/")) <= {".", ".."}:
            inner = os.path.relpath(root, top)
            under, prefix = label, "" if inner == "." else f"{inner}/"
        else:
            under, prefix = f"{label}{below}/", ""
        one = _look(top, under, prefix, repository)
        if one is not None:
            one = _compare(definition, top, one, rows, before=before.get(under), hashes=hashes)
        if one is not None:
            found.append(one)
    return dump_provenance(found)


def _by_repository(
    definition: IndexDefinition, files: Iterable[FileRow]
) -> dict[tuple[Repository | None, str], list[FileRow]]:
    """Group files by the label and the work tree that they lie in; those in none are left out."""
    tops: dict[str, str] = {}
    labels = {one.label: one for one in definition.repositories}

    def top_of(folder: str) -> str:
        if folder not in tops:
            if os.path.lexists(f"{folder}/.git"):
                tops[folder] = folder
            else:
                above = folder.rpartition("/")[0]
                tops[folder] = top_of(above) if above else ""
        return tops[folder]

    groups: dict[tuple[Repository | None, str], list[FileRow]] = {}
    for row in files:
        folder = os.path.normpath(definition.locate(row.path)).rpartition("/")[0]
        if top := top_of(folder):
            groups.setdefault((labels.get(row.path.partition("/")[0]), top), []).append(row)
    return groups


def _look(top: str, under: str, prefix: str, repository: Repository | None) -> Provenance | None:
    """Return the commit of a work tree and the remote that has it, or None without a commit."""
    commit = _ask(top, "rev-parse", "--verify", "-q", "HEAD^{commit}").strip()
    if not commit:
        return None
    if repository is not None and repository.url and top == str(repository.root):
        return Provenance(under, prefix=prefix, commit=commit, remote=repository.url)
    settings = _ask(top, "config", "--null", "--get-regexp", r"^remote\..*\.url$").split("\0")
    urls = {
        key.removeprefix("remote.").removesuffix(".url"): url
        for key, _, url in (setting.partition("\n") for setting in settings)
    }
    # What was never pushed has no page. A remote-tracking branch says what the remote had.
    branches = _ask(
        top, "for-each-ref", f"--contains={commit}", "--format=%(refname)", "refs/remotes"
    ).splitlines()
    having = [
        name
        for name in sorted(urls, key=lambda name: (name != "origin", name))
        if any(branch.startswith(f"refs/remotes/{name}/") for branch in branches)
    ]
    remote = without_credentials(urls[having[0]]) if having else ""
    return Provenance(under, prefix=prefix, commit=commit, remote=remote)


def _compare(
    definition: IndexDefinition,
    top: str,
    now: Provenance,
    rows: Sequence[FileRow],
    *,
    before: Provenance | None,
    hashes: Mapping[str, str],
) -> Provenance | None:
    """Say which files are not what the commit has, looking at no more of them than needed."""
    blobs = _blobs(top, now.commit)
    old = blobs
    if before is None or before.prefix != now.prefix:
        old = {}
    elif before.commit != now.commit:
        old = _blobs(top, before.commit)
    changed: set[str] = set()
    for row in rows:
        inner = now.path_in_repository(row.path)
        blob = blobs.get(inner)
        is_known = hashes.get(row.path) == row.content_hash and old.get(inner) == blob
        if blob is not None and is_known and before is not None:
            is_same = row.path not in before.changed
        else:
            is_same = blob is not None and _is_blob(definition, row, blob)
        if not is_same:
            changed.add(row.path)
    return replace(now, changed=frozenset(changed)) if len(changed) <= _MAX_CHANGED else None


def _blobs(top: str, commit: str) -> dict[str, str]:
    """Return the blobs of a commit by path; nothing where it is not there."""
    found: dict[str, str] = {}
    for line in _ask(top, "ls-tree", "-r", "-z", "--full-tree", commit).split("\0"):
        facts, _, path = line.partition("\t")
        if " blob " in facts:
            found[path] = facts.rpartition(" ")[2]
    return found


def _is_blob(definition: IndexDefinition, row: FileRow, blob: str) -> bool:
    """Tell whether what was indexed of a file is a blob, and still stands in the file."""
    try:
        data = read_file(definition.locate(row.path), row.size_bytes)
    except OSError:
        return False
    if content_hash(data).hex() != row.content_hash:
        return False
    name = "sha256" if len(blob) == 64 else "sha1"
    digest = hashlib.new(name, b"blob %d\0" % len(data), usedforsecurity=False)
    digest.update(data)
    return digest.hexdigest() == blob


def _ask(top: str, command: NamesCommand, *arguments: str) -> str:
    done = run_git(top, command, *arguments, seconds=_SECONDS)
    return "" if done is None or done.returncode else done.stdout.decode("utf-8", "surrogateescape")
