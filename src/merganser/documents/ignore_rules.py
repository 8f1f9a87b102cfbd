"""Read ``.gitignore`` files, and ask their rules about a path.

The format is https://git-scm.com/docs/gitignore. A rule takes time in proportion to the length of
the path, whatever it says: see ``merganser.globs.linear_expression``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from merganser.documents.files import read_file
from merganser.globs import FOLDERS, RANGE, REST, STAR, class_expression, linear_expression

_MAX_RULES_BYTES = 4 * 1024 * 1024
_POSIX_CLASSES = {
    "alnum": "a-zA-Z0-9",
    "alpha": "a-zA-Z",
    "blank": " \\t",
    "digit": "0-9",
    "lower": "a-z",
    "punct": "!-/:-@\\[-`{-~",
    "space": "\\s",
    "upper": "A-Z",
    "xdigit": "0-9a-fA-F",
}
_CLASS = re.compile(r"\[([!^]?+)(\]?+(?:\\.|\[:\w+:\]|[^\]\\])*)\]")
_TRAILING_SPACES = re.compile(r"(?<!\\)[ \t]+$")


@dataclass(frozen=True, slots=True)
class Rule:
    """One line that ignores something or takes it back.

    Attributes:
        line: The line as it stands.
        number: Its number, from 1.
        pattern: Matches a path relative to the file's folder, or a bare name.
        negated: Whether a match is kept.
        only_folders: Whether files never match.
        anchored: Whether the relative path is matched, else the name alone.
    """

    line: str
    number: int
    pattern: re.Pattern[str]
    negated: bool
    only_folders: bool
    anchored: bool

    def matches(self, path: str, *, folder: bool) -> bool:
        """Return whether it speaks of a path itself, relative to the file's folder."""
        if self.only_folders and not folder:
            return False
        return bool(self.pattern.fullmatch(path if self.anchored else path.rpartition("/")[2]))


@dataclass(frozen=True, slots=True)
class RuleFile:
    """The rules of one ``.gitignore``.

    Attributes:
        directory: Absolute, without a slash at the end; the rules count below it.
        name: The file's name, for reports.
        rules: The last one first, for the last match decides.
    """

    directory: str
    name: str
    rules: tuple[Rule, ...]


def read_rules(directory: str, name: str = ".gitignore") -> RuleFile | None:
    """Read a folder's rules; None when it has none that can be read."""
    try:
        data = read_file(f"{directory}/{name}", _MAX_RULES_BYTES)
    except OSError:
        return None
    text = data.decode("utf-8-sig", errors="surrogateescape")
    lines = enumerate(text.split("\n"), start=1)
    rules = [rule for number, line in lines if (rule := parse_rule(line, number)) is not None]
    return RuleFile(directory, name, tuple(reversed(rules)))


def parse_rule(line: str, number: int = 1) -> Rule | None:
    """Read one line; None for comments, blank lines and patterns that cannot match."""
    line = line.removesuffix("\r")
    pattern = _TRAILING_SPACES.sub("", line)
    if not pattern or pattern.startswith("#"):
        return None
    negated = pattern.startswith("!")
    pattern = pattern.removeprefix("!")
    only_folders = pattern.endswith("/")
    pattern = pattern.removesuffix("/")
    anchored = "/" in pattern
    expression = _translate(pattern.removeprefix("/"))
    if not pattern or expression is None:
        return None
    compiled = re.compile(expression, re.DOTALL)
    return Rule(line, number, compiled, negated, only_folders, anchored)


def ignoring_rule(files: tuple[RuleFile, ...], path: str, *, folder: bool) -> str | None:
    """Return the rule that ignores a path as ``file:line: rule``, or None.

    Args:
        files: The outermost first; the innermost that says something decides.
        path: Absolute, below the folders of all ``files``.
        folder: Whether it is a folder.
    """
    for file in reversed(files):
        relative = path[len(file.directory) + 1 :]
        for rule in file.rules:
            if rule.matches(relative, folder=folder):
                return None if rule.negated else f"{file.name}:{rule.number}: {rule.line}"
    return None


def _translate(pattern: str) -> str | None:
    """Write a pattern as a regular expression; None for one that git never matches."""
    tokens: list[str] = []
    at = 0
    while at < len(pattern):
        rest = pattern[at:]
        begins = at == 0 or pattern[at - 1] == "/"
        if begins and rest.startswith("**/"):
            tokens.append(FOLDERS)
            at += 3
        elif begins and rest == "**":
            tokens.append(REST)
            at += 2
        elif rest[0] == "*":
            tokens.append(STAR)
            at += len(rest) - len(rest.lstrip("*"))
        elif rest[0] == "?":
            tokens.append("[^/]")
            at += 1
        elif rest[0] == "[":
            found = _CLASS.match(rest)
            if found is None or (one := _translate_class(found[1], found[2])) is None:
                return None
            tokens.append(one)
            at += found.end()
        elif rest[0] == "\\":
            if len(rest) == 1:
                return None
            tokens.append(re.escape(rest[1]))
            at += 2
        else:
            tokens.append(re.escape(rest[0]))
            at += 1
    return linear_expression(tokens)


def _translate_class(negation: str, inside: str) -> str | None:
    """Write ``[...]`` as a regular expression; None for one with a name that git does not know."""
    members: list[str] = []
    for name, escaped, plain in re.findall(r"\[:(\w+):\]|\\(.)|(.)", inside, re.DOTALL):
        if name and name not in _POSIX_CLASSES:
            return None
        members.append(RANGE if plain == "-" else _POSIX_CLASSES.get(name) or escaped or plain)
    return class_expression(members, negated=bool(negation))
