"""Where a document stands at its commit, and the page of a forge that shows its lines.

What is known is kept in a snapshot as JSON, by the part of a path that a repository's files share:
the commit at which they were indexed, the remote that has it, and which files differ from it.
Links are made of parts that were taken apart and checked; hosts that are no known forge get none.
"""

from __future__ import annotations

import json
import posixpath
import re
from dataclasses import KW_ONLY, asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

_HOST = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?")
_PART = re.compile(r"[\w~-][\w.~ -]*|\.[\w-][\w.-]*")
_SCP = re.compile(r"(?:[^@/]+@)?([^:/@]+):(?!//)(.+)")
_AZURE_SSH = "ssh.dev.azure.com"


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a snapshot knows of one repository.

    Attributes:
        under: First part of the paths of its files, as users see them; "" or ends in ``/``.
        prefix: What stands there in the repository instead; "" or ends in ``/``.
        commit: Whole name of the commit at which its files were indexed.
        remote: URL, without login, of a remote that is known to have the commit; or "".
        changed: Paths whose content is not what the commit has.
    """

    under: str
    _: KW_ONLY
    prefix: str = ""
    commit: str
    remote: str = ""
    changed: frozenset[str] = frozenset()

    def path_in_repository(self, path: str) -> str:
        """Return the path there of a document; "" where it does not lie in the repository."""
        if not path.startswith(self.under):
            return ""
        inner = posixpath.normpath(self.prefix + path[len(self.under) :])
        return "" if inner.startswith(("..", "/")) else inner


class Origin(NamedTuple):
    """Where a passage came from.

    Attributes:
        commit: At which its file was indexed; "" where the file differs from it, or is in none.
        url: Page with its lines at that commit; "" where none is known.
    """

    commit: str
    url: str


def dump_provenance(found: Iterable[Provenance]) -> str:
    """Write for the meta of a snapshot."""
    rows = {one.under: {**asdict(one), "changed": sorted(one.changed)} for one in found}
    return json.dumps(rows, ensure_ascii=False)


@lru_cache(maxsize=64)
def load_provenance(text: str) -> tuple[Provenance, ...]:
    """Read what ``dump_provenance`` wrote; the most particular first."""
    try:
        rows: dict[str, dict[str, Any]] = json.loads(text or "{}")
        for row in rows.values():
            row["changed"] = frozenset(row["changed"])
        found = [Provenance(**row) for row in rows.values()]
    except (ValueError, TypeError, KeyError, AttributeError):
        return ()
    return tuple(sorted(found, key=lambda one: -len(one.under)))


def origin_of(text: str, path: str, lines: tuple[int, int] | None) -> Origin:
    """Return where a passage came from.

    Args:
        text: What the snapshot has.
        path: Of the document.
        lines: First and last line; None where the passage has a place that no line tells.
    """
    for one in load_provenance(text):
        if inner := one.path_in_repository(path):
            if path in one.changed:
                return Origin("", "")
            return Origin(one.commit, link(one.remote, one.commit, inner, lines))
    return Origin("", "")


def link(remote: str, commit: str, path: str, lines: tuple[int, int] | None) -> str:
    """Return the address of a file's lines at a commit; "" when the remote is no known forge.

    >>> link("git@github.com:org/repo.git", "5fdac2d", "src/a b.py", (3, 9))
    'https://github.com/org/repo/blob/5fdac2d/src/a%20b.py#L3-L9'
    """
    base, kind = _forge(remote)
    if not kind or not re.fullmatch("[0-9a-f]+", commit):
        return ""
    first, last = lines or (0, 0)
    file = quote(path)
    match kind:
        case "github":
            plain = "?plain=1" if path.lower().endswith((".md", ".markdown")) and lines else ""
            address, at = f"{base}/blob/{commit}/{file}{plain}", f"#L{first}-L{last}"
        case "gitlab":
            address, at = f"{base}/-/blob/{commit}/{file}", f"#L{first}-{last}"
        case "bitbucket":
            address, at = f"{base}/src/{commit}/{file}", f"#lines-{first}:{last}"
        case "gitea":
            address, at = f"{base}/src/commit/{commit}/{file}", f"#L{first}-L{last}"
        case "sourcehut":
            address, at = f"{base}/tree/{commit}/item/{file}", f"#L{first}-{last}"
        case _:
            address = f"{base}?path={quote('/' + path, safe='')}&version=GC{commit}"
            at = f"&line={first}&lineEnd={last + 1}&lineStartColumn=1&lineEndColumn=1"
    return address + (at if lines else "")


@lru_cache(maxsize=64)
def _forge(remote: str) -> tuple[str, str]:
    """Return the page of a repository and which kind of forge it is on; both "" when unknown."""
    if re.search(r"[\x00-\x20\x7f?#<>\\]", remote):
        return "", ""
    if "://" in remote:
        try:
            parts = urlsplit(remote)
            host, path = parts.hostname or "", parts.path
            # A port of https is part of the page's address; one of ssh is not.
            port = f":{parts.port}" if parts.scheme == "https" and parts.port else ""
        except ValueError:
            return "", ""
        if parts.scheme not in {"https", "http", "ssh", "git"}:
            return "", ""
    elif found := _SCP.fullmatch(remote):
        host, path, port = found[1].lower(), found[2], ""
    else:
        return "", ""
    steps = [unquote(step) for step in path.strip("/").removesuffix(".git").split("/")]
    kind = _kind_of(host)
    if host == _AZURE_SSH and len(steps) == 4:
        host, steps = "dev.azure.com", [*steps[1:3], "_git", steps[3]]
    if not kind or not _HOST.fullmatch(host) or len(steps) < 2:
        return "", ""
    if not all(_PART.fullmatch(step) for step in steps):
        return "", ""
    return f"https://{host}{port}/{'/'.join(map(quote, steps))}", kind


def _kind_of(host: str) -> str:
    """Tell a forge by its host's name: the public ones, and own ones that are called so."""
    words = set(re.split(r"[.-]", host))
    if host in {"dev.azure.com", _AZURE_SSH}:
        return "azure"
    if host == "git.sr.ht":
        return "sourcehut"
    if host == "bitbucket.org":
        return "bitbucket"
    if words & {"codeberg", "gitea", "forgejo"}:
        return "gitea"
    return next((name for name in ("github", "gitlab") if name in words), "")
