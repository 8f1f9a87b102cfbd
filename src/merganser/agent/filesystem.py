"""Read files on behalf of a model: only inside the roots, only text, within limits.

Every path that a model gives is untrusted. It is refused when it names ``..``, when it resolves
(symbolic links included) to a place outside the roots, when it lies in version control's own
folder, when version control ignores it, when the ``exclude`` of every rag of the agent or a
``.merganserignore`` leaves it out, or when it is no regular file. Files cannot be written.

The tree may change under way. What was resolved is opened one folder after the other, each from
the descriptor of the one above and never through a link, so a link that somebody puts in between
ends the reading and leads nowhere.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import subprocess
import sys
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from merganser.agent.no_follow import (
    FOLDER,
    FilesystemError,
    escape_name,
    kind_of,
    kind_of_entry,
    open_resolved,
    quote,
    read_text,
    system_errors,
)
from merganser.documents.ignore import find_ignored
from merganser.documents.selection import EVERYTHING, Selector

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from merganser.agent.no_follow import Kind
    from merganser.documents.selection import Selection, Standing

MAX_READ_CHARACTERS = 40_000
"""Most characters of one read, near 13,000 tokens; line ranges get the rest."""

MAX_ENTRIES = 1_000
"""Most entries of one listing, tree or search."""

MAX_DEPTH = 6
"""Levels of a directory tree."""

MAX_SEARCH_DEPTH = 100
"""Levels below a path that a search enters; source trees have 20 at most."""

MAX_LINE_CHARACTERS = 400
"""Longest line of a search result; generated files have lines of megabytes."""

SEARCH_SECONDS = 10.0
"""Wall time of a search by pattern, which a hostile pattern could make endless."""

# As passages of an index are counted; splitlines() would count form feeds too.
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_HIDDEN = frozenset({".git", ".hg", ".svn", ".jj"})
_UNWANTED = frozenset({".merganser", "__pycache__", "node_modules", ".venv"})


@dataclass(frozen=True, slots=True)
class TextLines:
    """Part of a text file.

    Attributes:
        path: Relative to its root, posix.
        start_line: First line, from 1.
        end_line: Last line, inclusive; 0 for an empty file.
        text: The lines.
        truncated: True when lines after ``end_line`` were left out for size.
    """

    path: str
    start_line: int
    end_line: int
    text: str
    truncated: bool


@dataclass(frozen=True, slots=True)
class Filesystem:
    """The read-only files of an agent.

    Attributes:
        roots: Absolute folders; relative paths are looked up in the first that has them.
        selectors: Ask what the agent's rags leave out, relative to the first root; a file that one
            of them takes is seen.
        ignore_vcs: Leave out of listings and searches what version control ignores.
    """

    roots: tuple[Path, ...]
    selectors: tuple[Selector, ...]
    _: KW_ONLY
    ignore_vcs: bool = True

    @classmethod
    def at(
        cls, *roots: Path, ignore_vcs: bool = True, selections: Sequence[Selection] = ()
    ) -> Filesystem:
        """Open folders, each once, with symbolic links resolved.

        Args:
            roots: The first is that of the config.
            ignore_vcs: Leave out what version control ignores.
            selections: Those of the agent's rags; without any, ``.merganserignore`` alone counts.

        Raises:
            FilesystemError: A root is no folder.
        """
        resolved = tuple(dict.fromkeys(root.resolve() for root in roots))
        for root in resolved:
            if not root.is_dir():
                raise FilesystemError(f"the root {str(root)!r} is no directory")
        selectors = tuple(Selector(one, resolved[0]) for one in selections or (EVERYTHING,))
        return cls(resolved, selectors, ignore_vcs=ignore_vcs)

    def resolve(self, path: str) -> Path:
        """Turn a model's path into a real one inside the roots.

        Raises:
            FilesystemError: It is empty, names ``..``, leaves the roots, lies in version control's
                folder, is ignored, or does not exist.
        """
        shown = quote(path)
        if not path.strip() or "\0" in path:
            raise FilesystemError("the path must not be empty")
        given = Path(path)
        if ".." in given.parts:
            raise FilesystemError(f"{shown}: '..' is not allowed; give a path below the root")
        candidates = [given] if given.is_absolute() else [root / given for root in self.roots]
        with system_errors(shown, "be found"):
            inside = [real for one in candidates if self._root_of(real := one.resolve())]
            if not inside:
                raise FilesystemError(f"{shown} is outside the directories that may be read")
            real = next((one for one in inside if kind_of(one)), None)
        if real is None:
            raise FilesystemError(f"{shown} does not exist")
        if _HIDDEN.intersection(part.casefold() for part in real.parts):
            raise FilesystemError(f"{shown} belongs to version control and may not be read")
        is_folder = kind_of(real) == "folder"
        standing = self._standing(real, folder=is_folder)
        if standing.included or (is_folder and self._leads_into(real)):
            return real
        if standing.excluded:
            raise FilesystemError(f"{shown} is left out ({standing.excluded}) and may not be read")
        if self._is_ignored(real):
            raise FilesystemError(f"{shown} is ignored by version control and may not be read")
        return real

    def name(self, real: Path) -> str:
        """Return a real path as the model sees it: relative to its root, posix."""
        root = self._root_of(real)
        assert root is not None, real
        return escape_name(real.relative_to(root).as_posix())

    def _root_of(self, real: Path) -> Path | None:
        return next((root for root in self.roots if real.is_relative_to(root)), None)

    def _standing(self, real: Path, *, folder: bool) -> Standing:
        """Return what holds for a path where the rag counts that takes the most."""
        path = os.path.relpath(real, self.roots[0])
        standings = [one.of_folder(path) if folder else one.of_file(path) for one in self.selectors]
        return min(standings, key=lambda one: (not one.included, bool(one.excluded)))

    def _is_ignored(self, real: Path) -> bool:
        """Tell whether version control keeps a path out of every listing from the root down."""
        root = self._root_of(real)
        assert root is not None, real
        if not self.ignore_vcs or real == root:
            return False
        unwanted = _UNWANTED.intersection(real.relative_to(root).parts)
        return bool(unwanted or find_ignored(str(root), str(real.parent), [real.name]))

    def _leads_into(self, real: Path) -> bool:
        """Return whether ``include`` names something below a folder."""
        path = os.path.relpath(real, self.roots[0])
        return any(one.leads_into(path) for one in self.selectors)

    def read_file(
        self, path: str, start_line: int | None = None, end_line: int | None = None
    ) -> TextLines:
        """Read a text file or some of its lines.

        Args:
            path: Relative to a root, or absolute inside one.
            start_line: First line, from 1.
            end_line: Last line, inclusive.

        Returns:
            The lines, at most ``MAX_READ_CHARACTERS`` of them.

        Raises:
            FilesystemError: Not inside the roots, not a regular text file, or too large.
        """
        real = self.resolve(path)
        lines = _LINE.findall(read_text(real, path))
        first = max(start_line or 1, 1)
        last = min(end_line or len(lines), len(lines))
        if lines and first > len(lines):
            raise FilesystemError(f"{quote(path)} has only {len(lines)} lines")
        if end_line is not None and end_line < first:
            raise FilesystemError(f"end_line {end_line} is before start_line {first}")
        chosen = lines[first - 1 : last]
        kept = _fit_lines(chosen)
        return TextLines(
            self.name(real), first, first + len(kept) - 1, "".join(kept), len(kept) < len(chosen)
        )

    def list_directory(self, path: str = ".") -> list[str]:
        """Return the names in a directory, sorted, directories with a slash at the end.

        Raises:
            FilesystemError: Not a directory inside the roots.
        """
        entries = self._entries(self.resolve(path), quote(path))
        return [escape_name(name) + ("/" if kind == "folder" else "") for name, kind in entries]

    def directory_tree(self, path: str = ".") -> list[str]:
        """Return the names of everything below a directory, indented by depth.

        Raises:
            FilesystemError: Not a directory inside the roots.
        """
        lines: list[str] = []
        real = self.resolve(path)
        self._draw(real, self._entries(real, quote(path)), 0, lines)
        if len(lines) > MAX_ENTRIES:
            lines = [*lines[:MAX_ENTRIES], "... (more entries left out)"]
        return lines

    def _draw(
        self, real: Path, entries: list[tuple[str, Kind]], depth: int, lines: list[str]
    ) -> None:
        for name, kind in entries:
            lines.append("  " * depth + escape_name(name) + ("/" if kind == "folder" else ""))
            if len(lines) > MAX_ENTRIES:
                return
            below = real / name
            # A link to a folder is named but not followed: it may lead back to a folder above.
            if kind == "folder" and depth + 1 < MAX_DEPTH and kind_of(below) == "folder":
                self._draw(below, self._entries_or_none(below), depth + 1, lines)

    def _entries(self, real: Path, shown: str) -> list[tuple[str, Kind]]:
        """Return the names in a directory that may be seen, with their kinds."""
        with (
            system_errors(shown, "be listed"),
            open_resolved(real, FOLDER) as descriptor,
            os.scandir(descriptor) as found,
        ):
            kinds: dict[str, Kind] = {entry.name: kind_of_entry(entry) for entry in found}
        names = sorted(name for name in kinds if name.casefold() not in _HIDDEN)
        ignored: set[str] = set()
        if self.ignore_vcs:
            ignored = find_ignored(str(self._root_of(real)), str(real), names)
            ignored |= _UNWANTED.intersection(names)
        names = [
            name
            for name in names
            if self._is_listed(real / name, kinds[name] == "folder", name in ignored)
        ]
        return [(name, self._kind_of_target(real / name, kinds[name])) for name in names]

    def _is_listed(self, real: Path, folder: bool, ignored: bool) -> bool:  # noqa: FBT001 - internal
        """Return whether an entry of a listing is shown: also what leads to something that is."""
        standing = self._standing(real, folder=folder)
        taken = standing.included or not (ignored or standing.excluded)
        return taken or (folder and self._leads_into(real))

    def _entries_or_none(self, real: Path) -> list[tuple[str, Kind]]:
        """Return what is in a directory on the way; nothing when it cannot be listed."""
        try:
            return self._entries(real, quote(real.name))
        except FilesystemError:
            return []

    def _kind_of_target(self, real: Path, kind: Kind) -> Kind:
        """Return the kind of what a link inside the roots leads to, else the kind itself."""
        if kind != "link":
            return kind
        try:
            target = real.resolve()
            return (kind_of(target) if self._root_of(target) else "") or kind
        except (OSError, RuntimeError):
            return kind

    def _files(self, real: Path, path: str) -> Iterator[Path]:
        """Find the regular files at or below a path, in order, through no link."""
        if kind_of(real) == "file":
            yield real
            return
        pending = [(real, self._entries(real, quote(path)))]  # one folder a level
        while pending:
            folder, entries = pending.pop()
            for position, (name, _) in enumerate(entries):
                below = folder / name
                kind = kind_of(below)
                if kind == "file":
                    yield below
                elif kind == "folder" and len(pending) < MAX_SEARCH_DEPTH:
                    pending += [
                        (folder, entries[position + 1 :]),
                        (below, self._entries_or_none(below)),
                    ]
                    break

    def search_files_content(
        self,
        path: str,
        query: str,
        *,
        is_regex: bool = False,
        exclude_patterns: Sequence[str] = (),
    ) -> list[str]:
        """Find the lines that contain a text or match a pattern.

        Args:
            path: A directory or file.
            query: A text, or a regular expression of Python's grammar.
            is_regex: Whether ``query`` is a regular expression.
            exclude_patterns: Globs of paths or names to leave out.

        Returns:
            ``path:line: text`` lines, at most ``MAX_ENTRIES``.

        Raises:
            FilesystemError: An empty query, a broken or too slow pattern, a path outside.
        """
        if not query:
            raise FilesystemError("the query must not be empty")
        real = self.resolve(path)
        files = [
            (str(file), name)
            for file in self._files(real, path)
            if not _excluded(name := self.name(file), exclude_patterns)
        ]
        if not is_regex:
            return search_lines(files, re.compile(re.escape(query)))
        try:
            re.compile(query)
        except re.error as error:
            raise FilesystemError(f"{quote(query)} is no regular expression: {error}") from error
        return _search_apart(files, query)


def search_lines(files: Sequence[tuple[str, str]], pattern: re.Pattern[str]) -> list[str]:
    """Return ``name:line: text`` for every matching line of text files; others are skipped."""
    found: list[str] = []
    for file, name in files:
        try:
            text = read_text(Path(file), name)
        except FilesystemError:
            continue
        for number, line in enumerate(_LINE.findall(text), 1):
            if pattern.search(line):
                found.append(f"{name}:{number}: {line.strip()[:MAX_LINE_CHARACTERS]}")
                if len(found) == MAX_ENTRIES:
                    return [*found, "... (more matches left out)"]
    return found


def _search_apart(files: Sequence[tuple[str, str]], query: str) -> list[str]:
    """Search in another process, because a hostile pattern cannot be stopped inside this one."""
    program = (
        "import json, re, sys\n"
        "from merganser.agent.filesystem import search_lines\n"
        "job = json.load(sys.stdin)\n"
        "json.dump(search_lines(job['files'], re.compile(job['query'])), sys.stdout)\n"
    )
    try:
        done = subprocess.run(  # noqa: S603 - our own program, the job goes through stdin
            [sys.executable, "-P", "-c", program],
            input=json.dumps({"files": files, "query": query}),
            capture_output=True,
            text=True,
            timeout=SEARCH_SECONDS,
            check=True,
        )
    except subprocess.TimeoutExpired as error:
        raise FilesystemError(
            f"the pattern {quote(query)} took longer than {SEARCH_SECONDS:.0f} s; make it simpler"
        ) from error
    except subprocess.CalledProcessError as error:
        raise FilesystemError(f"the search failed: {error.stderr.strip()[-200:]}") from error
    return json.loads(done.stdout)


def _excluded(name: str, patterns: Sequence[str]) -> bool:
    base = name.rpartition("/")[2]
    return any(
        fnmatch.fnmatch(name, pattern)
        or fnmatch.fnmatch(base, pattern)
        or fnmatch.fnmatch(name, f"{pattern.rstrip('/')}/*")
        for pattern in patterns
    )


def _fit_lines(lines: Sequence[str]) -> list[str]:
    room = MAX_READ_CHARACTERS
    for count, line in enumerate(lines):
        room -= len(line)
        if room < 0:
            return list(lines[:count]) or [lines[0][:MAX_READ_CHARACTERS]]
    return list(lines)
