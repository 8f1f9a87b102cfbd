"""Labelled folders: what a mapping in ``docs`` stands for, a folder of this machine or a git URL.

The files of a labelled folder are shown below its label (``api/src/app.py``), wherever it lies.
``merganser.documents.clones`` brings what a URL names; here is only what both kinds share.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from merganser.documents.secrets import find_secrets

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_LABEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
# user@host:path, as ssh has it; a host of one letter would be a drive.
_SCP = re.compile(r"(?:\w[\w.+-]*@)?\w[\w.-]+:[^-\s\\][^\s\\]*")
SCHEMES = ("https", "ssh", "http", "git", "file")
"""Ways to reach a repository. Others, such as ``ext::``, name programs."""

REPOSITORIES = "repositories"
"""Folder of ``MERGANSER_HOME`` with the clones."""
TREE = "tree"
"""Folder of a clone with its files."""

_REF = re.compile(r"(?!.*(?:\.\.|//|@\{|\.lock(?:/|$)))[A-Za-z0-9_][^\s~^:?*\[\]\\\x00-\x20\x7f]*")
_TOKEN = re.compile(r"(?=.*\d)(?=.*[a-zA-Z])[A-Za-z0-9]{32,}")  # no name that people gave
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A folder whose files are shown below a label.

    Attributes:
        label: One part of a path, unique in its index.
        root: Absolute path of the folder; of a URL that of its clone, which need not be there yet.
        paths: Paths, globs and ``!patterns`` below the folder; empty for all of it.
        url: Of a git repository, without password; "" for a folder of this machine.
        ref: Branch, tag or commit; "" for the default branch.
        submodules: Whether those of a clone are brought too.
        token_key: Environment variable with the token for the URL, or "".
    """

    label: str
    root: Path
    paths: tuple[str, ...] = ()
    url: str = ""
    ref: str = ""
    submodules: bool = False
    token_key: str = ""

    @property
    def entries(self) -> tuple[str, ...]:
        """What it stands for, as if its files lay below the label in the config's folder."""
        if not self.paths:
            return (self.label,)
        return tuple(
            f"!{os.path.normpath(f'{self.label}/{path[1:]}')}"
            if path.startswith("!")
            else os.path.normpath(f"{self.label}/{path}")
            for path in self.paths
        )

    @property
    def shown(self) -> str:
        """The URL and what is taken of it, or the folder, for people."""
        if not self.url:
            return str(self.root)
        return f"{self.url} at {self.ref}" if self.ref else self.url


def locate(path: str, base: Path, repositories: Iterable[Repository]) -> Path:
    """Return where a document lies.

    Args:
        path: As users see it.
        base: The folder that paths without a label are relative to.
        repositories: The labelled folders of its index.
    """
    first, _, rest = path.partition("/")
    for repository in repositories:
        if repository.label == first:
            return repository.root / rest
    return base / path


def fault_of_label(label: str) -> str:
    """Return what is wrong with a label, or ""."""
    if _LABEL.fullmatch(label):
        return ""
    return f"{label!r} cannot be a label"


def fault_of_url(url: str) -> str:
    """Return what is wrong with the URL of a repository, or ""; it is no secret afterwards."""
    if url.startswith("-") or re.search(r"[\x00-\x20\x7f]", url):
        return "is not the URL of a repository"
    scheme, separator, _ = url.partition("://")
    if not separator:
        return "" if _SCP.fullmatch(url) and "::" not in url else "is not the URL of a repository"
    if scheme not in SCHEMES:
        return f"begins with {scheme!r}, which is not one of {', '.join(SCHEMES)}"
    try:
        parts = urlsplit(url)
        host, password, _ = parts.hostname or "", parts.password, parts.port
    except ValueError:
        return "is not the URL of a repository"
    if password is not None:
        return "has a password in it"
    if _is_token(parts.username or ""):
        return "has a token in it, in place of a password"
    if scheme != "file" and (parts.query or parts.fragment):  # where pages have tokens, too
        return "has a query in it, in place of a password or of a ref"
    if scheme == "file":
        return "" if not host and parts.path.startswith("/") else "must name a folder from / on"
    # A name that begins with a hyphen would be an option of ssh.
    if not host or host.startswith("-") or (parts.username or "").startswith("-"):
        return "is not the URL of a repository"
    return ""


def _is_token(name: str) -> bool:
    """Return whether the user's name in a URL is a token, which servers take there too."""
    return bool(find_secrets(name)) or bool(_TOKEN.fullmatch(name))


def fault_of_ref(ref: str) -> str:
    """Return what is wrong with a branch, tag or commit, or ""."""
    return "" if _REF.fullmatch(ref) and not ref.endswith((".", "/")) else f"{ref!r} names no ref"


def is_commit(ref: str) -> bool:
    """Return whether a ref is the whole name of a commit, which never moves."""
    return _COMMIT.fullmatch(ref) is not None


def name_of_url(url: str) -> str:
    """Return the name of a repository: the last part of its URL.

    >>> name_of_url("git@example.org:team/web.git")
    'web'
    """
    last = re.split(r"[/:]", url.rstrip("/"))[-1].removesuffix(".git")
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", last).strip("-.")[:64]
    return name if _LABEL.fullmatch(name) else "repository"


def clone_name(url: str, ref: str, *, submodules: bool) -> str:
    """Return the name of the folder for a clone; the same for who asks for the same."""
    key = hashlib.sha256(f"{url}\0{ref}\0{submodules}".encode()).hexdigest()
    return f"{name_of_url(url)}-{key[:16]}"
