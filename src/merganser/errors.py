"""Every error that merganser raises on purpose.

The tree::

    MerganserError
    ├── SpecErrors            all problems of one YAML file, each a SpecError
    ├── SpecError             one problem at one position
    ├── PlanError             a config that is valid but cannot be run as asked
    ├── RepositoryError       a git repository that cannot be cloned or found at its ref
    ├── SkipDocument          one file cannot be indexed, with the reason
    ├── StoreError            the index folder
    │   ├── StoreBusyError        another run is writing (transient)
    │   ├── StoreFormatError      a foreign or too new file stands where the index should be
    │   ├── DamagedIndexError     a file of the index is missing, cut off or altered
    │   ├── NoSnapshotError       nothing has been indexed yet
    │   └── SnapshotMismatchError the query's embedder is not the one that made the snapshot
    ├── ModelRunnerError      the model server
    │   ├── RunnerUnreachableError   nothing answers at any address (transient)
    │   ├── RunnerUnavailableError   it answers 429, 502, 503, 504 or drops the line (transient)
    │   ├── ServerAwayError          it was waited for, and did not come back in time
    │   ├── ModelNotFoundError       the model is not local and was not pulled
    │   ├── PullError                a pull ended without its success line
    │   ├── InputTooLongError        one input exceeds the batch or the context
    │   ├── RequestRejectedError     any other deterministic refusal
    │   ├── DriftedError             a model that gives other vectors than when the run began
    │   └── ProtocolError            an answer that breaks the contract (dimensions, NaN, count)
    ├── QualityError          retrieval does not reach what a gate or an evaluation requires
    ├── AgentError            a turn that could not be completed
    └── BatchFailedError      more questions failed than allowed (in merganser.batch.journal)

``TransientError`` marks the errors that may vanish by themselves; only these are retried.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from merganser.humanize import mask_credentials

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class MerganserError(Exception):
    """Base of all errors that are shown to a user without a traceback."""


class TransientError(MerganserError):
    """An error that a later attempt may not meet.

    Attributes:
        retry_after_seconds: How long the server asks to wait, or None.
    """

    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True, order=True)
class SourcePosition:
    """A place in a YAML file; line and column count from 1."""

    path: Path
    line: int
    column: int

    def __str__(self) -> str:
        """Return ``path:line:column``, which editors and terminals can jump to."""
        return f"{self.path}:{self.line}:{self.column}"


_BEFORE_CARET = 200
"""Characters of a source line that are shown before its caret, at most: a file may be one line."""


class SpecError(MerganserError):
    """One problem in a config.

    Attributes:
        position: Where it stands, or None when the file itself cannot be read.
        key: The dotted key, for example ``agents.root.toolsets[0].type``; may be empty.
        problem: What is wrong, with the value by ``!r``.
        fix: What to do about it; may be empty.
        source_line: The line of text at the position; may be empty.

    Logins in URLs are shown as stars.
    """

    def __init__(
        self,
        problem: str,
        *,
        position: SourcePosition | None = None,
        key: str = "",
        fix: str = "",
        source_line: str = "",
    ) -> None:
        self.problem = mask_credentials(problem)
        self.position = position
        self.key = key
        self.fix = mask_credentials(fix)
        self.source_line = mask_credentials(source_line)
        super().__init__(self.render())

    def render(self) -> str:
        """Return ``path:line:col: key: problem``, the source line, a caret and the fix."""
        head = ": ".join(str(part) for part in (self.position, self.key, self.problem) if part)
        lines = [head]
        if self.position is not None and self.source_line:
            left_out = max(self.position.column - _BEFORE_CARET, 0)
            mark = "…" if left_out else ""
            caret = " " * (self.position.column - 1 - left_out + len(mark)) + "^"
            lines += [f"    {mark}{self.source_line[left_out:]}", f"    {caret}"]
        if self.fix:
            lines.append(f"    fix: {self.fix}")
        return "\n".join(lines)


def may_quote(path: Path, *suffixes: str) -> bool:
    """Return whether lines of a file may stand in a message: its name says that it is of the kind.

    A config can name any file of its reader's, by a link too, and what reads a message is often a
    log that others see.
    """
    return path.suffix.lower() in suffixes and path.resolve().suffix.lower() in suffixes


class SpecErrors(MerganserError):  # noqa: N818 - plural on purpose: it carries many SpecError
    """All problems of a config at once, those without a position first, then by position.

    Attributes:
        errors: At least one.
    """

    def __init__(self, errors: Sequence[SpecError]) -> None:
        placed = [e for e in errors if e.position is not None]
        others = [e for e in errors if e.position is None]
        self.errors = (
            *sorted(others, key=lambda e: e.key),
            *sorted(placed, key=lambda e: (e.position, e.key)),
        )
        super().__init__("\n".join(error.render() for error in self.errors))


class PlanError(MerganserError):
    """A valid config that cannot be planned: an unknown flow, a missing path, an empty corpus."""


class RepositoryError(MerganserError):
    """A git repository that ``docs`` names cannot be cloned, or has no such ref."""


class SkipDocument(MerganserError):  # noqa: N818 - a signal with a reason, not a failure of the program
    """One file that is not indexed.

    Attributes:
        reason: A short stable word, for example ``binary``.
        detail: What was seen.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}" if detail else reason)


class StoreError(MerganserError):
    """The index folder cannot be used as asked."""


class StoreBusyError(StoreError, TransientError):
    """Another process is writing the same index."""


class StoreFormatError(StoreError):
    """A file of another program or of a newer version stands where the index should be."""


class DamagedIndexError(StoreError):
    """A file of the index is missing, cut off, altered or of another index.

    Attributes:
        path: The file.
        problem: What is wrong with it, to be read after its name.
    """

    def __init__(self, message: str, *, path: Path, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(message)


class NoSnapshotError(StoreError):
    """Nothing has been published in this index folder yet."""


class SnapshotMismatchError(StoreError):
    """The model that would embed the query is not the one that embedded the snapshot."""


class ModelRunnerError(MerganserError):
    """The model server refused, failed or could not be reached.

    Attributes:
        status: The HTTP status, or None when there was no answer.
        url: The address that was asked; may be empty.
    """

    def __init__(self, message: str, *, status: int | None = None, url: str = "") -> None:
        self.status = status
        self.url = url
        super().__init__(message)


class RunnerUnreachableError(ModelRunnerError, TransientError):
    """No address answered; the message lists every probe with its answer and the next step."""


class RunnerUnavailableError(ModelRunnerError, TransientError):
    """The server is there but cannot serve now: 429, 502, 503, 504 or a dropped connection."""


class ServerAwayError(ModelRunnerError):
    """A server was away for longer than it is waited for: the end of a run, not of one question.

    Attributes:
        seconds: For how long the request could not be answered.
    """

    def __init__(
        self, message: str, *, status: int | None = None, url: str = "", seconds: float = 0.0
    ) -> None:
        self.seconds = seconds
        super().__init__(message, status=status, url=url)


class ModelNotFoundError(ModelRunnerError):
    """The model is not on the server; the message names the command that pulls it."""


class PullError(ModelRunnerError):
    """A pull that did not end with a success line."""


class InputTooLongError(ModelRunnerError):
    """One input is longer than the engine takes.

    Attributes:
        tokens: Length of the input in tokens, or None when the server does not say.
        limit: What fits, in tokens, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        tokens: int | None = None,
        limit: int | None = None,
        status: int | None = None,
        url: str = "",
    ) -> None:
        self.tokens = tokens
        self.limit = limit
        super().__init__(message, status=status, url=url)


class RequestRejectedError(ModelRunnerError):
    """A deterministic refusal; the same request would be refused again."""


class ProtocolError(ModelRunnerError):
    """An answer that breaks the contract: wrong dimensions, NaN, a wrong count, no JSON."""


class DriftedError(ModelRunnerError):
    """The embedding model changed in mid-run, so its vectors are of two models."""


class QualityError(MerganserError):
    """What a gate or an evaluation requires does not hold; the message says by how much."""


class AgentError(MerganserError):
    """An agent's turn could not be completed."""
