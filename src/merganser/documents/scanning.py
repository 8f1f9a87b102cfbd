"""Find the documents of an index.

A scan looks at names and at what the file system says of them and opens nothing, so a run in which
nothing changed costs one listing. Whatever is left out is listed with its reason.
``merganser.documents.reading`` reads what was found; whether a document changed since the last run
is decided by ``merganser.indexing.changes``.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from merganser.documents.file_types import INDEX_FOLDER, language_of
from merganser.documents.ignore import SILENTLY, VCS_FOLDERS, Listed, list_files
from merganser.documents.kinds import (
    ALL_KINDS,
    DEFAULT_KINDS,
    LEFT_OUT,
    Kind,
    kind_of,
    refuse_by_name,
)
from merganser.documents.reading import FORMATS, TEXT
from merganser.documents.secret_files import refuse_secret_path
from merganser.documents.selection import EVERYTHING, Selection, Selector
from merganser.globs import GlobEntry, expand_home, is_glob

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from merganser.documents.secrets import SecretsMode

# Python stands a surrogate for each byte of a name that is not UTF-8.
_NOT_UTF8 = re.compile("[\ud800-\udfff]")
_INT64 = 2**63


def mtime_of(status: os.stat_result) -> int:
    """Return when a file was modified in nanoseconds since 1970, as near as 64 bits hold.

    They end in 1677 and in 2262; file systems do not.
    """
    return _within_int64(status.st_mtime_ns)


def _within_int64(number: int) -> int:
    return number if -_INT64 <= number < _INT64 else max(-_INT64, min(number, _INT64 - 1))


@dataclass(frozen=True, slots=True)
class Document:
    """A file to index, as the file system describes it.

    Attributes:
        path: Posix, relative to the base; may begin with ``../``. What users see.
        absolute: Where it is. A string, since a path object of each file costs half as much as
            everything else of a scan.
        size_bytes: Its length.
        mtime_ns: When its content changed last by what it says, as ``mtime_of``.
        inode: Its number in the file system; another one means that the file was replaced.
        language: By its name, or None.
        ctime_ns: When content or status changed last by the system's clock, which no program sets
            back, in nanoseconds since 1970; 0 when not known.
        wanted: The kinds that are indexed: all of them where ``docs`` or ``include`` name the file.
    """

    path: str
    absolute: str
    size_bytes: int
    mtime_ns: int
    inode: int
    language: str | None
    ctime_ns: int = 0
    wanted: frozenset[Kind] = DEFAULT_KINDS

    @property
    def kind(self) -> Kind:
        """What it is for, as far as its path says; its content may say more."""
        return kind_of(self.path, self.language)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A path that is not indexed.

    Attributes:
        path: As in ``Document``; a folder left out as a whole ends in ``/``.
        reason: A short stable word, which ``merganser.documents.skipping`` explains.
        detail: What was seen; may be empty.
    """

    path: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Scan:
    """What a scan found.

    Attributes:
        documents: Sorted by path, each file once.
        skipped: Sorted by path.
        missing: Entries of ``docs`` that match nothing on disk, in their order.
        barren: Entries that match something and give no document, likewise.
        seen: By such an entry, what was seen of it.
    """

    documents: tuple[Document, ...]
    skipped: tuple[Skipped, ...]
    missing: tuple[str, ...]
    barren: tuple[str, ...] = ()
    seen: Mapping[str, str] = field(default_factory=dict[str, str])


def scan_documents(
    docs: Sequence[str],
    *,
    base: Path,
    respect_vcs: bool = True,
    exclude: Sequence[Path] = (),
    secrets: SecretsMode = "redact",
    selection: Selection = EVERYTHING,
    label: str = "",
) -> Scan:
    """Find the files that the entries of ``docs`` name.

    Args:
        docs: Files, folders (with all below them) or globs with ``**``, ``*``, ``?``, ``[a-z]`` and
            ``{a,b}``; absolute or relative to ``base``. A path that exists is never a glob. What
            ``!pattern`` names is left out.
        base: What relative entries and the documents' paths start from.
        respect_vcs: Whether files that git would ignore are left out. A path named in ``docs`` is
            scanned even where a repository around it ignores it.
        exclude: Folders that are left out wherever they are met, such as the index itself.
        secrets: Files that hold secrets by nature are left out unless they are kept.
        selection: What else is left out, and what is taken back.
        label: Stands in front of paths where the patterns of ``selection`` are asked.
    """
    # Path.resolve() would follow the links that users see in their paths.
    absolute = Path(os.path.abspath(base))  # noqa: PTH100 - links stay as the user wrote them
    local = [entry[1:] for entry in docs if entry.startswith("!")]
    selector = Selector(selection, absolute, label=label, local=local)
    scanner = _Scanner(
        absolute,
        selector,
        respect_vcs=respect_vcs,
        exclude=exclude,
        keep_secrets=secrets == "keep",
    )
    missing: list[str] = []
    barren: list[str] = []
    seen: dict[str, str] = {}
    for entry in docs:
        if entry.startswith("!"):
            continue
        if not scanner.add(entry):
            missing.append(entry)
            seen[entry] = scanner.last.describe_missing()
        elif not scanner.last.documents:
            barren.append(entry)
            seen[entry] = scanner.last.describe_barren()
    return Scan(*scanner.result(), tuple(missing), tuple(barren), seen)


class _Entry:
    """What an entry of ``docs`` gives.

    Attributes:
        documents: Number of files that it names and that are documents, again or first.
        left_out: What it names and is left out, by reason.
        unseen: What a pattern does not match and nobody looked into, by reason.
        root: The folder that a pattern is looked for in; None for a path.
    """

    def __init__(self) -> None:
        self.documents = 0
        self.left_out = Counter[str]()
        self.unseen = Counter[str]()
        self.root: str | None = None

    def describe_missing(self) -> str:
        """Say why a path or pattern names nothing."""
        if self.root is None:
            return "it does not exist"
        if not Path(self.root).is_dir():
            return f"there is no folder {self.root}"
        unseen = f"; not looked into: {_count(self.unseen)}" if self.unseen else ""
        return f"no file or folder in {self.root} matches{unseen}"

    def describe_barren(self) -> str:
        """Say why what is there gives no document."""
        if not self.left_out:
            return "there is no file in it"
        return f"all of it is left out: {_count(self.left_out)}"


def _count(reasons: Counter[str]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())


_TAKEN_BACK = frozenset({"excluded", "generated", "ignored", "vendored"})


@dataclass(frozen=True, slots=True)
class _Root:
    """What an entry of ``docs`` has scanned.

    Attributes:
        path: Absolute.
        takes: Whether a path below it, as users see it, is named by the entry.
    """

    path: str
    takes: Callable[[str], bool] = lambda _: True


def _join(prefix: str, path: str) -> str:
    return path if prefix == "." else f"{prefix}/{path.removeprefix('./')}"


class _Scanner:
    """The state of one scan.

    Attributes:
        last: What the last entry gives.
    """

    def __init__(
        self,
        base: Path,
        selector: Selector,
        *,
        respect_vcs: bool,
        exclude: Sequence[Path],
        keep_secrets: bool,
    ) -> None:
        self._base = base
        self._selector = selector
        self._keep_secrets = keep_secrets
        self._respect_vcs = respect_vcs
        self._exclude = frozenset(os.path.realpath(path) for path in exclude)
        self._documents: dict[str, Document] = {}
        self._skipped: dict[str, Skipped] = {}
        self._links: dict[str, str] = {}  # path of a followed link to where it leads
        self._partly: list[str] = []  # folders of which only what ``include`` names is taken
        self._crossed = False  # whether a root was reached through a link
        self.last = _Entry()

    def add(self, entry: str) -> bool:
        """Scan one entry of ``docs``; False when nothing on disk matches it."""
        self.last = _Entry()
        root = os.path.normpath(self._base / expand_home(entry))
        if not os.path.lexists(root) and is_glob(entry):
            return self._add_glob(GlobEntry.parse(entry, self._base))
        if not os.path.exists(root):  # noqa: PTH110 - Path.exists() raises where it may not look
            return False
        self._crossed |= os.path.realpath(root) != root
        if Path(root).is_dir():
            self._add_root(root)
        else:
            self._add_file(root, self._shown(root))
        return True

    def _add_glob(self, glob: GlobEntry) -> bool:
        """Scan the files that match, or that lie in a folder that matches."""
        self.last.root = glob.root
        if not Path(glob.root).is_dir():
            return False
        below = 0 if (prefix := self._shown(glob.root)) == "." else len(prefix) + 1
        return self._add_below(
            _Root(glob.root, lambda path: glob.matches(path[below:])), glob.root, prefix
        )

    def _add_root(self, root: str) -> None:
        if os.path.realpath(root) in self._exclude:
            return
        prefix = self._shown(root)
        if rule := self._selector.of_folder(prefix).excluded:
            self._leave_out(_Root(root), root, prefix, Listed("./", "excluded", rule))
        else:
            self._add_below(_Root(root), root, prefix)

    def _add_below(
        self, root: _Root, folder: str, prefix: str, *, respect_vcs: bool = True
    ) -> bool:
        """Take what is below a folder; return whether anything there is what ``root`` takes.

        Args:
            root: What is scanned.
            folder: It, or a folder below it.
            prefix: The folder as users see it.
            respect_vcs: False where version control ignores the folder.
        """
        start = len(os.path.realpath(folder).rstrip("/")) + 1

        def refuse(directory: str) -> tuple[str, str] | None:
            return self._refuse(directory, _join(prefix, directory[start:]))

        found = False
        respects = self._respect_vcs and respect_vcs
        for listed in list_files(folder, respect_vcs=respects, refuse=refuse):
            path = _join(prefix, listed.path)
            is_taken = root.takes(path.rstrip("/"))
            found |= is_taken
            if listed.reason == "vendored" and "vendored" in self._selector.kinds:
                # Known by a file in it, such as CACHEDIR.TAG, for which no selection was asked.
                found |= self._add_below(root, f"{folder}/{listed.path}".rstrip("/"), path[:-1])
                continue
            if listed.reason in _TAKEN_BACK and self._selector.includes:
                if path.endswith("/"):
                    below = os.path.normpath(f"{folder}/{listed.path}")
                    found |= self._leave_out(root, below, path.rstrip("/"), listed)
                    continue
                if is_taken and self._selector.of_file(path).included:
                    self._add_file(f"{folder}/{listed.path}", path, root=root)
                    continue
            if not is_taken:
                if path.endswith("/"):
                    self.last.unseen[listed.reason] += 1
                continue
            if not listed.reason:
                self._add_file(f"{folder}/{listed.path}", path, root=root)
            elif not self._is_partly(path):
                self._skip(path, listed.reason, listed.detail)
        return found

    def _leave_out(self, root: _Root, folder: str, path: str, listed: Listed) -> bool:
        """Take of a folder that is left out what ``include`` names, and name the folder if not all.

        Returns:
            Whether anything there is what ``root`` takes.
        """
        is_named = self._selector.of_folder(path).named
        found = root.takes(path)
        below = "" if path == "." else f"{path}/"
        if not is_named and found and not self._is_partly(below):
            self._skip(below, listed.reason, listed.detail)
        if is_named or self._selector.leads_into(path):
            if not is_named:
                self._partly.append(below)
            found |= self._add_below(root, folder, path, respect_vcs=listed.reason != "ignored")
        return found

    def _refuse(self, directory: str, path: str) -> tuple[str, str] | None:
        """Say why a folder is left out, with the rule; None when it is scanned."""
        name = directory.rpartition("/")[2]
        if name == INDEX_FOLDER or name in VCS_FOLDERS or directory in self._exclude:
            return SILENTLY
        standing = self._selector.of_folder(path)
        if standing.excluded:
            return "excluded", standing.excluded
        if standing.named:
            return None
        if self._is_partly(f"{path}/") and not (
            standing.included or self._selector.leads_into(path)
        ):
            return SILENTLY
        return self._selector.default_of(directory)

    def _is_partly(self, path: str) -> bool:
        return any(path.startswith(folder) for folder in self._partly)

    def _shown(self, absolute: str) -> str:
        """Return a path relative to the base, with ``/``, without looking at the disk."""
        return Path(os.path.relpath(absolute, self._base)).as_posix()

    def _add_file(self, absolute: str, path: str, *, root: _Root | None = None) -> None:
        """Take a file, or say why not; a path that was named itself (no root) may be a link."""
        standing = self._selector.of_file(path)
        if standing.excluded:
            self._skip(path, "excluded", standing.excluded)
            return
        if self._partly and not standing.included and self._is_partly(path):
            return
        if not path.isascii() and _NOT_UTF8.search(path):  # which no database column takes
            self._skip(os.fsencode(path).decode("utf-8", "backslashreplace"), "name", "not UTF-8")
            return
        try:
            status = os.lstat(absolute)
            is_link = stat.S_ISLNK(status.st_mode)
            if is_link:
                if root is not None and not self._may_follow(absolute, path, root.path):
                    return
                status = os.stat(absolute)  # noqa: PTH116 - beside lstat
        except FileNotFoundError:
            return  # in git's index but deleted from the work tree
        except OSError as error:
            self._skip(path, "unreadable", error.strerror or "")
            return
        if not stat.S_ISDIR(status.st_mode):
            wanted = ALL_KINDS if root is None or standing.included else self._selector.kinds
            secret = "" if self._keep_secrets else refuse_secret_path(absolute)
            if is_link and not (self._keep_secrets or secret):
                secret = refuse_secret_path(os.path.realpath(absolute))
            self._admit(absolute, path, status, wanted, secret)
        elif root is not None:  # a submodule, which git lists as one path
            refused = self._refuse(os.path.realpath(absolute), path)
            if refused is None:
                self._add_below(root, absolute, path)
            elif refused != SILENTLY:
                self._leave_out(root, absolute, path, Listed(f"{path}/", *refused))

    def _admit(
        self,
        absolute: str,
        path: str,
        status: os.stat_result,
        wanted: frozenset[Kind],
        secret: str,
    ) -> None:
        """Make a document of a file unless its name, type, size or format speaks against it.

        Args:
            absolute: Where it is.
            path: As users see it.
            status: Of what it leads to.
            wanted: The kinds that are taken.
            secret: Why it is known to hold secrets by its path, or "".
        """
        name, size = path.rpartition("/")[2], status.st_size
        language = language_of(name)
        format_ = FORMATS.get(language, TEXT)
        if not stat.S_ISREG(status.st_mode):
            self._skip(path, "not a file")
        elif size == 0:
            self._skip(path, "empty")
        elif secret:
            self._skip(path, "secret", secret)
        elif reason := refuse_by_name(name, wanted):
            self._skip(path, *reason)
        # Where a name says nothing, the first line may: seen at reading.
        elif not (wanted is DEFAULT_KINDS or "generated" in wanted or language is None) and (
            (kind := kind_of(path, language)) not in wanted | LEFT_OUT
        ):
            self._skip(path, "kind", kind)
        elif missing := format_.missing():
            # Said here and not at reading, which is remembered even once the extra is there.
            self._skip(path, "extra", missing)
        elif size > format_.max_bytes:
            self._skip(path, "too large", f"{size:,} bytes, the limit is {format_.max_bytes:,}")
        else:
            self.last.documents += 1
            if path in self._documents:
                wanted |= self._documents[path].wanted
            self._documents[path] = Document(
                path,
                absolute,
                size,
                mtime_of(status),
                status.st_ino,
                language,
                _within_int64(status.st_ctime_ns),
                wanted,
            )

    def _may_follow(self, absolute: str, path: str, root: str) -> bool:
        """Tell whether a link found in a folder is a document by itself; if not, skip it.

        Links to folders are not entered, which rules cycles out. A link to a file of the same
        folder is followed when the scan does not find the file itself, which is known at the end.
        """
        target = os.path.realpath(absolute)
        if not os.path.lexists(target):
            self._skip(path, "link", "it points to nothing")
        elif Path(target).is_symlink():
            self._skip(path, "link", "it points to itself")
        elif Path(target).is_dir():
            self._skip(path, "link", "links to folders are not followed")
        elif not target.startswith(f"{os.path.realpath(root)}/"):
            self._skip(path, "link", "it leads out of the folder that is scanned")
        else:
            self._links[path] = target
            return True
        return False

    def _skip(self, path: str, reason: str, detail: str = "") -> None:
        self.last.left_out[reason] += 1
        self._skipped[path] = Skipped(path, reason, detail)

    def result(self) -> tuple[tuple[Document, ...], tuple[Skipped, ...]]:
        """Settle links and duplicates, and sort."""
        self._drop_duplicates()
        documents = sorted(self._documents.values(), key=lambda document: document.path)
        skipped = [s for s in self._skipped.values() if s.path not in self._documents]
        skipped.sort(key=lambda skip: skip.path)
        return tuple(documents), tuple(skipped)

    def _drop_duplicates(self) -> None:
        """Keep one path of files that were found by several: the plain one, then the first."""
        if not self._links and not self._crossed:
            return
        kept: dict[str, str] = {}
        for path in sorted(self._documents, key=lambda path: (path in self._links, path)):
            real = os.path.realpath(self._documents[path].absolute)
            if real in kept:
                del self._documents[path]
                self._skip(path, "duplicate", f"the same file as {kept[real]}")
            else:
                kept[real] = path
