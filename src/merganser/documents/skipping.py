"""Why a file is not indexed: every reason there is, what it means and how to take the file in.

The reason is a short stable word that stands in ``Skipped.reason``, in the table ``skipped`` of a
snapshot and in JSON. This is the one table of them: terminals, artifacts, the report and
``docs/documents.md`` tell what stands here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class SkipReason:
    """What is said of a reason.

    Attributes:
        meaning: What is so about the file, to be read after the reason.
        remedy: How to take such a file in, as an instruction; "" when nothing is lost or nothing
            can be done.
        usual: Whether every tree has such files and nobody misses them, so that they are counted
            and not named.
    """

    meaning: str
    remedy: str = ""
    usual: bool = False


_UNKNOWN = SkipReason("left out")

SKIP_REASONS: Mapping[str, SkipReason] = {
    "binary": SkipReason(
        "bytes, not text", "no reader takes it: save it as text or in a format that is read"
    ),
    "duplicate": SkipReason("the same file as another path, which is indexed", usual=True),
    "empty": SkipReason(
        "no text in it", "a scan needs text recognition first, a script's page saving as shown"
    ),
    "encoding": SkipReason(
        "its bytes are no text in a known encoding, or it has a password",
        "save it as UTF-8, or without the password",
    ),
    "extra": SkipReason("its reader is not installed", "install the extra that is named"),
    "generated": SkipReason("a program wrote it", "index its source"),
    "ignored": SkipReason(
        "an ignore rule leaves it out, or a tool marks the folder as its cache",
        "name it in `docs`, or set `respect_vcs: false`",
        usual=True,
    ),
    "link": SkipReason(
        "a link to a folder, to nothing or out of the folder", "name what it leads to in `docs`"
    ),
    "minified": SkipReason("lines too long to be written by hand", "index its source"),
    "name": SkipReason("its name is not UTF-8", "rename it"),
    "not cloned": SkipReason("a git repository that is not here yet", "a run clones it"),
    "not a file": SkipReason("a pipe, socket or device", usual=True),
    "secret": SkipReason(
        "it holds passwords, tokens or keys", "set `secrets: keep`, or move them out of the file"
    ),
    "submodule": SkipReason(
        "a submodule that is not checked out", "run `git submodule update --init`"
    ),
    "too large": SkipReason(
        "larger than its format's limit", "split it, or leave out of it what is no text"
    ),
    "unreadable": SkipReason("it cannot be opened", "give the user who runs this the right to it"),
    "worktree": SkipReason(
        "another checkout of the same repository", "name it in `docs`", usual=True
    ),
}
"""By reason. Whoever makes a new one adds its row here and in ``docs/documents.md``."""


def explain_reason(reason: str) -> SkipReason:
    """Return what is said of a reason; snapshots of other versions may hold one without a row.

    >>> explain_reason("submodule").remedy
    'run `git submodule update --init`'
    """
    return SKIP_REASONS.get(reason, _UNKNOWN)
