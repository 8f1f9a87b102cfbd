"""Clones of the git repositories that ``docs`` name by URL: bring them, keep them up to date.

Below ``MERGANSER_HOME/repositories`` each URL at a ref has a folder::

    web-3f0c…/tree/         the files, checked out; .git is a shallow repository of ours
    web-3f0c…/clone.json    what it is a clone of, and the commit that ``tree`` holds
    web-3f0c….lock          held by whoever changes it

A clone is made beside and renamed, so it is there whole or not at all. An update writes the files
that differ and leaves the others as they are, so that a run reads only what changed; one that was
cut off is finished, from the objects that are there, before anything else is done.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import secrets
import shutil
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from merganser.documents.git import Access, GitError, run_in_clone, run_remote
from merganser.documents.repositories import REPOSITORIES, TREE, is_commit
from merganser.errors import RepositoryError
from merganser.humanize import show_bytes, visible
from merganser.progress import remark, report

if TYPE_CHECKING:
    from collections.abc import Generator

    from merganser.documents.repositories import Repository

_STATE = "clone.json"
_HEAD = "refs/merganser/head"
_WAIT_SECONDS = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Clone:
    """A clone that is there.

    Attributes:
        url: Of its repository.
        ref: As asked for; "" for the default branch.
        submodules: Whether they were brought.
        commit: What its files are of.
        pending: A commit whose files are being checked out, or "".
        used: When a run wanted it last, in seconds since the epoch.
    """

    url: str
    ref: str
    submodules: bool
    commit: str
    pending: str = ""
    used: float = 0.0


def read_clone(repository: Repository) -> Clone | None:
    """Return what is there of a repository with a URL, or None."""
    return _read(repository.root.parent)


def bring(repository: Repository) -> Clone:
    """Clone a repository, or bring its clone up to date; one of a commit is left as it is.

    Where its server cannot be asked, the clone that is there serves, and that is said.

    Raises:
        RepositoryError: There is no clone, and none can be made.
    """
    folder = repository.root.parent
    with _locked(folder, repository.label):
        clone = _settle(folder, repository)
        if clone is not None and clone.commit == repository.ref:
            return _write(folder, clone)
        try:
            access = _access(repository)
            with _told(repository):
                wanted, commit = _resolve(repository, access)
                if clone is None:
                    return _make(folder, repository, access, wanted, length=len(commit))
                if commit != clone.commit:
                    clone = _update(folder, repository, access, clone, wanted)
        except RepositoryError as error:
            # An update that failed half-way has no commit whose files these are.
            if clone is None or (left := _read(folder)) is None or left.pending:
                raise
            remark(f"{error}; its clone at {clone.commit[:12]} serves")
        return _write(folder, clone)


def remote_commit(repository: Repository) -> str:
    """Ask the server which commit a ref is at; "" where it cannot be asked."""
    if is_commit(repository.ref):
        return repository.ref
    try:
        with _told(repository):
            return _resolve(repository, _access(repository))[1]
    except RepositoryError:
        return ""


# -- one clone ------------------------------------------------------------------------------------


def _make(
    folder: Path, repository: Repository, access: Access, wanted: str, *, length: int
) -> Clone:
    new = folder / f"{TREE}.{secrets.token_hex(4)}"
    try:
        new.mkdir(mode=0o700)
        names = "sha256" if length == 64 else "sha1"
        run_in_clone(new, "init", "-q", "--template=", f"--object-format={names}")
        run_in_clone(new, "config", "core.logAllRefUpdates", "false")
        commit = _fetch(new, repository, access, wanted)
        _check_out(new, repository, access, commit)
        new.rename(folder / TREE)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    clone = Clone(
        url=repository.url, ref=repository.ref, submodules=repository.submodules, commit=commit
    )
    remark(f"{repository.label}: cloned {repository.shown} ({show_bytes(size_of(folder))})")
    return _write(folder, clone)


def _update(
    folder: Path, repository: Repository, access: Access, clone: Clone, wanted: str
) -> Clone:
    commit = _fetch(folder / TREE, repository, access, wanted)
    clone = _write(folder, clone, pending=commit)
    _check_out(folder / TREE, repository, access, commit)
    clone = _write(folder, clone, commit=commit, pending="")
    often = ("autoPackLimit=8", "auto=2000", "autoDetach=false")
    settings = [word for key in often for word in ("-c", f"gc.{key}")]
    with contextlib.suppress(GitError):  # what no ref names any more would pile up
        run_in_clone(folder / TREE, *settings, "gc", "--auto", "--quiet", "--prune=now")
    return clone


def _settle(folder: Path, repository: Repository) -> Clone | None:
    """Remove what a run that was cut off left, and finish what it began."""
    clone = _read(folder)
    for path in folder.glob(f"{TREE}*"):
        if path.name != TREE or clone is None:
            shutil.rmtree(path, ignore_errors=True)
    if clone is None:
        return None
    tree = folder / TREE
    for lock in (tree / ".git").rglob("*.lock"):
        lock.unlink(missing_ok=True)  # of a git that was killed: ours is held here
    if clone.pending:
        try:
            _check_out(tree, repository, Access(scheme=_scheme(repository)), clone.pending)
        except GitError:
            shutil.rmtree(tree, ignore_errors=True)
            return None
        return _write(folder, clone, commit=clone.pending, pending="")
    return clone


def _fetch(tree: Path, repository: Repository, access: Access, wanted: str) -> str:
    """Fetch a ref or a commit, and return the commit."""
    activity = f"fetch {repository.label}"

    def told(line: str) -> None:
        if found := re.match(r"Receiving objects: +\d+% \((\d+)/(\d+)\)", line):
            report(activity, int(found[1]), int(found[2]), unit="objects")

    options = ("--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--progress")
    one = ("--", repository.url, f"+{wanted}:{_HEAD}")
    try:
        run_remote(tree, access, "fetch", "--depth=1", *options, *one, told=told)
    except GitError as error:
        # A plain web server knows no shallow clones, and some servers give what refs name alone.
        if not re.search("shallow|dumb http|not our ref|unadvertised", str(error)):
            raise
        all_of_it = ("--", repository.url, "+refs/*:refs/merganser/all/*")
        run_remote(tree, access, "fetch", *options, *all_of_it, told=told)
        run_in_clone(tree, "update-ref", _HEAD, _all_name(wanted))
    return run_in_clone(tree, "rev-parse", "--verify", f"{_HEAD}^{{commit}}").decode().strip()


def _all_name(wanted: str) -> str:
    return wanted if is_commit(wanted) else wanted.replace("refs/", "refs/merganser/all/", 1)


def _check_out(tree: Path, repository: Repository, access: Access, commit: str) -> None:
    run_in_clone(tree, "checkout", "-q", "--force", "--detach", "--no-recurse-submodules", commit)
    if repository.submodules:
        _check_out_submodules(tree, repository, access)
    run_in_clone(tree, "clean", "-q", "-ffdx")


def _check_out_submodules(tree: Path, repository: Repository, access: Access) -> None:
    """Bring submodules without the user's settings: their files are checked out at once."""
    run_in_clone(tree, "submodule", "sync", "-q", "--recursive")
    try:
        run_remote(
            tree,
            access.for_submodules(),
            *("submodule", "update", "-q", "--init", "--recursive", "--force", "--depth=1"),
        )
    except GitError as error:
        remark(f"{repository.label}: not all submodules could be brought: {visible(str(error))}")


# -- the server -----------------------------------------------------------------------------------


def _resolve(repository: Repository, access: Access) -> tuple[str, str]:
    """Return what has to be fetched for a ref, and the commit that it is at.

    Raises:
        GitError: The server cannot be asked.
        RepositoryError: It has no such ref.
    """
    ref = repository.ref
    if is_commit(ref):
        return ref, ref
    names = [ref] if ref.startswith("refs/") else [f"refs/heads/{ref}", f"refs/tags/{ref}"]
    names = names if ref else ["HEAD"]
    patterns = [*names, *(f"{name}^{{}}" for name in names if name.startswith("refs/tags/"))]
    # From the root, so that no repository around the clones has a say.
    listed = run_remote(Path("/"), access, "ls-remote", "--", repository.url, *patterns)
    rows = (line.partition("\t") for line in listed.decode("utf-8", "replace").splitlines())
    found = {name: commit for commit, _, name in rows}
    there = [name for name in names if is_commit(found.get(name, ""))]
    if not there:
        raise RepositoryError(_say_missing(repository))
    if len(there) > 1:
        raise RepositoryError(
            f"{repository.url} has both a branch and a tag {ref!r}: write refs/heads/{ref} or "
            f"refs/tags/{ref}"
        )
    return there[0], found.get(f"{there[0]}^{{}}", found[there[0]])


def _say_missing(repository: Repository) -> str:
    if not repository.ref:
        return f"{repository.url} has no commit"
    digits = re.fullmatch("[0-9a-f]{7,63}", repository.ref)
    more = ": a commit is named by all of its 40 digits" if digits else ""
    return f"{repository.url} has no branch or tag {repository.ref!r}{more}"


def _access(repository: Repository) -> Access:
    """Return how a repository's server is talked to, with its token if there is one.

    Raises:
        RepositoryError: The token is not set, or would go over the network in the clear.
    """
    scheme = _scheme(repository)
    if not repository.token_key or scheme in {"ssh", "file"}:
        return Access(scheme=scheme)
    parts = urlsplit(repository.url)
    token = os.environ.get(repository.token_key, "")
    if not token or re.search(r"[\r\n]", token):
        raise RepositoryError(
            f"{repository.url}: the environment variable {repository.token_key} with its token is "
            "not set"
        )
    if scheme != "https" and parts.hostname not in {"localhost", "127.0.0.1", "::1"}:
        raise RepositoryError(
            f"{repository.url}: a token is sent by https alone; write the URL with https"
        )
    login = base64.b64encode(f"{parts.username or 'x-access-token'}:{token}".encode()).decode()
    return Access(
        scheme=scheme,
        header=f"Authorization: Basic {login}",
        header_url=f"{scheme}://{parts.netloc.rpartition('@')[2]}/",
    )


def _scheme(repository: Repository) -> str:
    scheme, separator, _ = repository.url.partition("://")
    return scheme if separator else "ssh"


@contextlib.contextmanager
def _told(repository: Repository) -> Generator[None]:
    """Tell what git and the disk say as an error of the repository."""
    try:
        yield
    except GitError as error:
        hint = ""
        if re.search(r"could not read (Username|Password)|Authentication failed", str(error)):
            hint = "; it wants a login: name a variable with a token by `token_key`"
        raise RepositoryError(f"{repository.url}: {visible(str(error))}{hint}") from error
    except OSError as error:
        raise RepositoryError(f"{repository.url}: {error.strerror or error}") from error


# -- the folder -----------------------------------------------------------------------------------


@contextlib.contextmanager
def _locked(folder: Path, label: str) -> Generator[None]:
    """Hold a clone; who comes second waits, and is told so.

    Raises:
        RepositoryError: The folder cannot be made, or another run holds the clone for too long.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415 - only clones need it

    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.parent.stat()
        if status.st_uid != os.getuid() or status.st_mode & 0o022:
            raise RepositoryError(
                f"{folder.parent} is another user's, or others can write there: make it yours "
                "alone (chmod go-w, chown), or set MERGANSER_HOME to another folder"
            )
        lock = FileLock(folder.with_name(f"{folder.name}.lock"), timeout=_WAIT_SECONDS, mode=0o600)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            remark(f"{label}: another run is bringing it up to date, waiting for that")
            lock.acquire()
    except Timeout:
        raise RepositoryError(f"{label}: another run holds {folder} for an hour") from None
    except OSError as error:
        raise RepositoryError(f"{label}: cannot write {folder}: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


def _read(folder: Path) -> Clone | None:
    try:
        data: dict[str, Any] = json.loads((folder / _STATE).read_text("utf-8"))
        clone = Clone(**{one.name: data[one.name] for one in fields(Clone)})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return clone if is_commit(clone.commit) and (folder / TREE / ".git").is_dir() else None


def _write(folder: Path, clone: Clone, **changes: str) -> Clone:
    data: dict[str, Any] = {**asdict(clone), **changes, "used": time.time()}
    clone = Clone(**data)
    beside = folder / f"{_STATE}.new"
    with contextlib.suppress(OSError):  # a full disk must not end a run that needs nothing new
        beside.write_text(json.dumps(asdict(clone)), "utf-8")
        beside.replace(folder / _STATE)
    return clone


# -- all clones -----------------------------------------------------------------------------------


def list_clones(home: Path) -> list[tuple[Path, Clone]]:
    """Return the folders of all clones with what they hold, the one used last first.

    Args:
        home: The folder for state, ``MERGANSER_HOME``.
    """
    found = ((folder, _read(folder)) for folder in (home / REPOSITORIES).glob("*/"))
    there = [(folder, clone) for folder, clone in found if clone is not None]
    return sorted(there, key=lambda one: -one[1].used)


def remove_clone(folder: Path, clone: Clone) -> None:
    """Remove a clone that no run holds; the next run that wants it clones it anew.

    Raises:
        RepositoryError: A run holds it for an hour, or it is not ours.
    """
    with _locked(folder, clone.url):
        (folder / _STATE).unlink(missing_ok=True)  # first: without it the rest is no clone
        shutil.rmtree(folder, ignore_errors=True)


def size_of(folder: Path) -> int:
    """Return how many bytes lie in a folder."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(f"{where}/{name}").st_size
    return total
