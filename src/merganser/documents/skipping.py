"""Why a file is not indexed: every reason there is, what it means and how to take the file in.

The reason is a short stable word that stands in ``Skipped.reason``, in the table ``skipped`` of a
snapshot and in JSON. This is the one table of them: terminals, artifacts, the report and
``docs/documents.md`` tell what stands here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from merganser.humanize import visible_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

NAMED_FILES = 5
"""Files that are named for each reason; the rest is counted."""


@dataclass(frozen=True, slots=True)
class SkipReason:
    """What is said of a reason.

    Attributes:
        meaning: What is so about the file, to be read after the reason.
        remedy: How to take such a file in, as an instruction; "" when nothing is lost or nothing
            can be done.
        usual: Whether every tree has such files and nobody misses them, so that a line is enough.
        usual_details: What was seen of such files as are usual, where others are not.
    """

    meaning: str
    remedy: str = ""
    usual: bool = False
    usual_details: frozenset[str] = frozenset()

    def is_usual(self, file: SkippedFile) -> bool:
        """Return whether nobody misses that file."""
        return self.usual or file.detail in self.usual_details


_UNKNOWN = SkipReason("left out")

BLANK = "only white space"
"""What is seen of an ``empty`` file that has bytes."""

SKIP_REASONS: Mapping[str, SkipReason] = {
    "binary": SkipReason(
        "bytes, not text", "no reader takes it: save it as text or in a format that is read"
    ),
    "damaged": SkipReason("it breaks off or contradicts itself", "save or copy it again"),
    "duplicate": SkipReason("the same file as another path, which is indexed", usual=True),
    "empty": SkipReason(
        "no text in it",
        "let a program recognise the text of a scan; save a page that a script writes as it shows",
        usual_details=frozenset({"", BLANK}),
    ),
    "encoding": SkipReason("its bytes are no text in a known encoding", "save it as UTF-8"),
    "encrypted": SkipReason("it needs a password", "save it without the password"),
    "excluded": SkipReason(
        "`exclude`, a `!pattern` of `docs` or a `.merganserignore` leaves it out",
        "take the rule away, or name it under `include`",
        usual=True,
    ),
    "extra": SkipReason("its reader is not installed", "install the extra that is named"),
    "generated": SkipReason(
        "a program wrote it, as its head or its folder says",
        "index its source, or name it under `include`",
    ),
    "hostile": SkipReason("made to break what reads it"),
    "ignored": SkipReason(
        "an ignore rule leaves it out",
        "name it in `docs` or `include`, or set `respect_vcs: false`",
        usual=True,
    ),
    "kind": SkipReason(
        "of a kind that is not among `kinds`", "add its kind to `kinds`", usual=True
    ),
    "lfs": SkipReason("a pointer of Git LFS: its content is not here", "run `git lfs pull`"),
    "link": SkipReason(
        "a link to a folder, to nothing or out of the folder", "name what it leads to in `docs`"
    ),
    "lock": SkipReason("a tool wrote down versions in it", "name it under `include`", usual=True),
    "minified": SkipReason(
        "lines too long to be written by hand", "index its source, or name it under `include`"
    ),
    "name": SkipReason("its name is not UTF-8", "rename it"),
    "not cloned": SkipReason("a git repository that is not here yet", "a run clones it"),
    "not a file": SkipReason("a pipe, socket or device", usual=True),
    "old format": SkipReason(
        "a format of before 2007, which is not read", "save it in the format that is named"
    ),
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
    "vendored": SkipReason(
        "dependencies, an environment or a cache that a tool put there",
        "name it in `docs` or `include`",
        usual=True,
    ),
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


class SkippedFile(Protocol):
    """A file that is not indexed, as a scan or a snapshot has it."""

    @property
    def path(self) -> str:
        """As users see it; a folder that is left out as a whole ends in ``/``."""
        ...

    @property
    def reason(self) -> str:
        """A short stable word."""
        ...

    @property
    def detail(self) -> str:
        """What was seen; may be empty."""
        ...


@dataclass(frozen=True, slots=True)
class SkipGroup:
    """The files that are left out for one reason.

    Attributes:
        reason: The word.
        said: What is said of it.
        files: All of them, what is new first.
        new: How many of them were not left out before.
        usual: Whether nobody misses any of them.
    """

    reason: str
    said: SkipReason
    files: Sequence[SkippedFile]
    new: int = 0
    usual: bool = False

    @property
    def detail(self) -> str:
        """What was seen of all of them alike; "" when it differs."""
        seen = {file.detail for file in self.files}
        return seen.pop() if len(seen) == 1 else ""


def group_skipped(
    skipped: Iterable[SkippedFile], new: Collection[str] = frozenset()
) -> tuple[SkipGroup, ...]:
    """Group files by why they are left out: what is new or unusual first, then by number.

    Args:
        skipped: The files.
        new: Paths of those that were not left out before.
    """
    by_reason: dict[str, list[SkippedFile]] = {}
    for file in skipped:
        by_reason.setdefault(file.reason, []).append(file)
    groups = [_group(reason, files, new) for reason, files in by_reason.items()]
    return tuple(sorted(groups, key=lambda g: (g.usual, not g.new, -len(g.files), g.reason)))


def _group(reason: str, files: Sequence[SkippedFile], new: Collection[str]) -> SkipGroup:
    said = explain_reason(reason)

    def rank(file: SkippedFile) -> tuple[bool, bool, str]:
        return said.is_usual(file), file.path not in new, file.path

    count = sum(file.path in new for file in files)
    return SkipGroup(reason, said, sorted(files, key=rank), count, all(map(said.is_usual, files)))


def count_skipped(skipped: Iterable[SkippedFile]) -> str:
    """Return how many files are left out for each reason, on one line; "" when none is."""
    counts = Counter(file.reason for file in skipped)
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(counts.items()))


def describe_skipped(
    skipped: Sequence[SkippedFile], new: Collection[str] = frozenset()
) -> Iterator[str]:
    """Say what is left out, why, and how to take it in, one fact a line.

    Reasons that somebody may want to do something about come first and take some lines each; what
    every tree has takes one.

    Args:
        skipped: The files.
        new: Paths of those that were not left out before.
    """
    if not skipped:
        return
    yield f"skipped: {count_skipped(skipped)}"
    for group in group_skipped(skipped, new):
        if group.usual:
            yield _name_usual(group)
        else:
            yield from _describe_group(group, new)


def _name_usual(group: SkipGroup) -> str:
    named = ", ".join(visible_name(file.path) for file in group.files[:NAMED_FILES])
    more = len(group.files) - NAMED_FILES
    rest = f" and {more:,} more" if more > 0 else ""
    # Those that are usual for what was seen of them are past taking in.
    remedy = group.said.remedy if group.said.usual else ""
    remedy = f"; to take in: {remedy}" if remedy else ""
    return f"  {len(group.files):,} {group.reason}: {named}{rest}{remedy}"


def _describe_group(group: SkipGroup, new: Collection[str]) -> Iterator[str]:
    shared, meaning = group.detail, group.said.meaning
    of_them = f", {group.new:,} of them new" if group.new else ""
    seen = f" ({shared})" if not {*shared.split()} <= {*meaning.split(), "it"} else ""
    yield f"  {len(group.files):,} {group.reason}{of_them}: {meaning}{seen}"
    for file in group.files[:NAMED_FILES]:
        mark = "new: " if file.path in new else ""
        detail = f" ({file.detail})" if file.detail and not shared else ""
        yield f"    {mark}{visible_name(file.path)}{detail}"
    if (more := len(group.files) - NAMED_FILES) > 0:
        yield f"    and {more:,} more"
    if group.said.remedy:
        yield f"    to take in: {group.said.remedy}"
