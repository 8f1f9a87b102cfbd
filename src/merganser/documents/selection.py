"""Say of files that ``docs`` name whether they are left out all the same, and by which rule.

Above the rules of version control, which ``merganser.documents.ignore`` has, there are

- exclusions: ``!pattern`` in ``docs``, ``exclude``, and the lines of ``.merganserignore`` files;
- defaults: folders that tools fill, lock files, what is generated (``kinds`` turns them);
- ``include``, which takes back what any of these leaves out, version control too.

Where ``include`` and an exclusion both name a file or a folder above it, the one that names what is
further down decides; on the same name ``include``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from merganser.documents.ignore_rules import ignoring_rule, read_rules
from merganser.documents.kinds import DEFAULT_KINDS, Kind
from merganser.documents.path_patterns import PathPatterns
from merganser.documents.vendored import describe, folder_rule

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from merganser.documents.ignore_rules import RuleFile

RULES_FILE = ".merganserignore"
"""Name of the files that leave out as ``.gitignore`` does, for merganser alone."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern of ``exclude``, ``include`` or ``docs``.

    Attributes:
        text: In gitignore's language, relative to the config's folder, without ``!``.
        place: ``file:line`` where it is written, or "".
    """

    text: str
    place: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Selection:
    """What a config says of the files that its ``docs`` name.

    Attributes:
        exclude: What is left out.
        include: What is taken back.
        kinds: The kinds of documents that are indexed, sorted: a set would be shown, and so
            compared, in another order by each process.
    """

    exclude: tuple[Pattern, ...] = ()
    include: tuple[Pattern, ...] = ()
    kinds: tuple[Kind, ...] = tuple(sorted(DEFAULT_KINDS))


EVERYTHING = Selection()
"""Leaves nothing out but what is left out by default."""


class Standing(NamedTuple):
    """What holds for a path.

    Attributes:
        excluded: The rule that leaves it out, or "".
        included: Whether ``include`` names it or a folder above it, and no exclusion further down.
        named: Whether ``include`` names the path itself.
    """

    excluded: str
    included: bool
    named: bool


_NEUTRAL = Standing("", included=False, named=False)


_ROOTS = frozenset({"", ".", ".."})
"""Last parts of paths above which no rule is looked for."""

_BASE = frozenset({"", "."})
"""Names of the base, for which its label stands."""


class Selector:
    """Asks the rules of a selection about paths, each folder once.

    Args:
        selection: The rules.
        base: The folder that paths are relative to.
        label: The first part of shown paths that stands for ``base``, or "".
        local: Exclusions relative to ``base`` itself, below the label.
    """

    def __init__(
        self, selection: Selection, base: Path, *, label: str = "", local: Sequence[str] = ()
    ) -> None:
        kinds = frozenset(selection.kinds)
        # The usual set is known by its identity, for each file.
        self.kinds = DEFAULT_KINDS if kinds == DEFAULT_KINDS else kinds
        self._base = str(base).rstrip("/")
        self._label = f"{label}/" if label else ""
        self._shown = selection.exclude
        excluded, included = ([p.text for p in s] for s in (selection.exclude, selection.include))
        self._exclude = PathPatterns(excluded, base, label=self._label)
        self._include = PathPatterns(included, base, label=self._label)
        self._local_texts = tuple(local)
        self._local = PathPatterns(local, base)
        self._is_plain = not (self._exclude or self._include or self._local)
        self._folders: dict[str, tuple[Standing, tuple[RuleFile, ...]]] = {}

    @property
    def includes(self) -> bool:
        """Whether there is anything to take back."""
        return bool(self._include)

    def of_folder(self, path: str) -> Standing:
        """Return what holds for a folder, by its shown path; "." is the base."""
        return self._folder(path)[0]

    def of_file(self, path: str) -> Standing:
        """Return what holds for a file, by its shown path."""
        folder = path.rpartition("/")[0]
        above, rules = self._folders.get(folder) or self._folder(folder)
        if self._is_plain and not rules:
            return above
        return self._judge(path, above, rules, folder=False)

    def leads_into(self, path: str) -> bool:
        """Return whether ``include`` names something at a place below a folder."""
        return self._include.lead_into(self._shown_path(path))

    def default_of(self, absolute: str) -> tuple[str, str] | None:
        """Return the reason and what was seen where a folder is left out by default."""
        rule = folder_rule(absolute)
        if rule is None or rule.reason in self.kinds:
            return None
        return rule.reason, describe(rule, absolute)

    def _folder(self, path: str) -> tuple[Standing, tuple[RuleFile, ...]]:
        if (known := self._folders.get(path)) is not None:
            return known
        pending = [path]  # a path may have two thousand parts
        while pending[-1].rpartition("/")[2] not in _ROOTS:
            parent = pending[-1].rpartition("/")[0]
            if parent in self._folders:
                break
            pending.append(parent)
        for folder in reversed(pending):
            self._folders[folder] = self._enter(folder)
        return self._folders[path]

    def _enter(self, path: str) -> tuple[Standing, tuple[RuleFile, ...]]:
        """Judge a folder whose parent is known, and read its rules."""
        above, rules = _NEUTRAL, ()
        parent, _, name = path.rpartition("/")
        if name not in _ROOTS:
            above, rules = self._folders[parent]
            if rules or not self._is_plain:
                above = self._judge(path, above, rules, folder=True)
        elif self._label and path in _BASE:
            above = self._judge(path, above, rules, folder=True)
        directory = os.path.normpath(f"{self._base}/{path}")
        if (own := read_rules(directory, RULES_FILE)) is not None:
            rules = (*rules, own)
        return above, rules

    def _judge(
        self, path: str, above: Standing, rules: tuple[RuleFile, ...], *, folder: bool
    ) -> Standing:
        shown = self._shown_path(path)
        if self._include and self._include.last_match(shown, folder=folder) >= 0:
            return Standing("", included=True, named=True)
        excluded = ""
        if self._exclude and (at := self._exclude.last_match(shown, folder=folder)) >= 0:
            one = self._shown[at]
            excluded = f"{one.place}: {one.text}" if one.place else one.text
        elif self._local and (at := self._local.last_match(path, folder=folder)) >= 0:
            excluded = f"!{self._local_texts[at]}"
        elif rules:
            absolute = os.path.normpath(f"{self._base}/{path}")
            excluded = self._by_files(rules, absolute, folder=folder)
        if excluded:
            return Standing(excluded, included=False, named=False)
        return Standing(above.excluded, above.included, named=False)

    def _shown_path(self, path: str) -> str:
        return self._label.rstrip("/") if path in _BASE else self._label + path

    def _by_files(self, rules: tuple[RuleFile, ...], path: str, *, folder: bool) -> str:
        rule = ignoring_rule(rules, path, folder=folder)
        if rule is None:
            return ""
        # Which of several files it is, the last one above the path says.
        for file in reversed(rules):
            if ignoring_rule((file,), path, folder=folder) == rule:
                where = os.path.relpath(file.directory, self._base)
                return rule if where == "." else f"{where}/{rule}"
        return rule
