"""Priors of ranking: what a passage's file and name say of it before its text is compared.

Each is a named number that is added to a passage's score. Its unit is one standard deviation of the
scores, so that the same number means the same after every fusion method. ``--explain`` shows those
of a hit, ``results.ranking`` turns them off, all or each by its name:

``kind``
    Tests, examples, changelogs and licences repeat the words of what they are about and stand
    behind it, unless the query asks for them. Documents stand a little behind code, and before it
    where the query asks how something is done.
``symbol``
    The passage defines what the query names.
``file``
    The file is called as the query says.
``path``
    Its folders are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from merganser.documents.kinds import kind_of
from merganser.store.tokens import query_terms

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

SYMBOL = 0.6
"""For a passage whose symbol is the query; less the less of each is in the other."""

FILE = 0.3
"""For a file whose name is the query; less likewise."""

PATH = 0.15
"""For folders that hold all words of the query, by the share of them."""

BEHIND: Mapping[str, float] = {
    "tests": -0.4,
    "examples": -0.3,
    "history": -0.4,
    "licence": -0.4,
    "docs": -0.1,
}
"""What is behind source code, by kind; nothing for kinds that are not named."""

DOCS_ASKED = 0.1
"""For documents where the query asks how something is done."""


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile("".join(text.split()), re.IGNORECASE)


_HISTORY = _pattern(r"(?: changelog|changes|history|news|releases?|release[-_]notes )\b")
_LICENCE = _pattern(r"(?: licen[cs]e|copying|copyright|notice|authors|contributors|patents )\b")

_ASKS: Mapping[str, re.Pattern[str]] = {
    "tests": _pattern(r"""
        \btest(?: s|ed|ing|case|cases )?\b | \bfixtures?\b | \bmock(?: s|ed )?\b | \bbenchmarks?\b
        | \btest_ | _test\b
    """),
    "examples": _pattern(r"\b(?: examples?|samples?|demos?|tutorials?|snippets? )\b"),
    "history": _pattern(r"""
        \b(?: changelogs?|(?: changed|changes )\s(?: in|since|between )|what\schanged|released?|
        releases|deprecated|removed\sin|since\sversion|version\s\d )
    """),
    "licence": _pattern(r"\b(?: licen[cs]\w*|copyright|authors?|contributors?|patents? )\b"),
    "docs": _pattern(r"""
        ^\s*how\s(?: to|do\si|do\syou|can\si|do\swe|should\si )\b
        | \b(?: docs?|documentation|guides?|manual|readme|tutorials?|install|installing
        | installation |
        getting\sstarted|quickstart|best\spractices?|upgrade|upgrading|deploy|deploying )\b
    """),
}
"""What a query says that asks for a kind of documents."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the priors know of a query.

    Attributes:
        terms: Its base terms.
        kinds: Kinds of documents that it asks for.
    """

    terms: frozenset[str]
    kinds: frozenset[str]

    @classmethod
    def of(cls, query: str, terms: Collection[str]) -> Asked:
        """Read a query.

        Args:
            query: As asked.
            terms: Its base terms, without question words.
        """
        return cls(
            frozenset(terms),
            frozenset(kind for kind, words in _ASKS.items() if words.search(query)),
        )


class Passage(NamedTuple):
    """What the priors know of a passage.

    Attributes:
        path: Of its file.
        kind: Of its file, see ``documents.kinds``; "" where the index does not say.
        symbol: What it defines, such as ``Flow.run``; may be empty.
    """

    path: str
    kind: str
    symbol: str


def _kind(asked: Asked, passage: Passage) -> float:
    role = role_of(passage.path, passage.kind)
    if role == "docs":
        return DOCS_ASKED if "docs" in asked.kinds else BEHIND["docs"]
    return 0.0 if role in asked.kinds else BEHIND.get(role, 0.0)


def _symbol(asked: Asked, passage: Passage) -> float:
    name = re.split(r"[.:#>]", passage.symbol.strip())[-1]
    return SYMBOL * _overlap(asked.terms, _words_of(name)) if _is_named(asked, passage) else 0.0


def _file(asked: Asked, passage: Passage) -> float:
    stem = passage.path.rpartition("/")[2].partition(".")[0]
    return FILE * _overlap(asked.terms, _words_of(stem)) if _is_named(asked, passage) else 0.0


def _path(asked: Asked, passage: Passage) -> float:
    if not asked.terms or not _is_named(asked, passage):
        return 0.0
    held = asked.terms & _words_of(passage.path.rpartition("/")[0])
    return PATH * len(held) / len(asked.terms)


PRIORS: Mapping[str, Callable[[Asked, Passage], float]] = {
    "kind": _kind,
    "symbol": _symbol,
    "file": _file,
    "path": _path,
}
"""By the name that ``results.ranking`` and ``--explain`` give them."""


def weigh(asked: Asked, passage: Passage, names: Collection[str]) -> dict[str, float]:
    """Return the priors of a passage that are not 0, in standard deviations of the scores.

    Args:
        asked: Of the query.
        passage: Of the candidate.
        names: The priors that hold.
    """
    found = {name: prior(asked, passage) for name, prior in PRIORS.items() if name in names}
    return {name: value for name, value in found.items() if value}


@lru_cache(maxsize=1 << 14)
def role_of(path: str, kind: str) -> str:
    """Return the kind of a file, with changelogs and licences told from other documents.

    >>> role_of("docs/CHANGES.rst", "docs"), role_of("a/usage.md", "docs")
    ('history', 'docs')
    """
    known = kind or kind_of(path, None)
    if known != "docs":
        return known
    name = path.rpartition("/")[2]
    return "history" if _HISTORY.match(name) else "licence" if _LICENCE.match(name) else "docs"


def _is_named(asked: Asked, passage: Passage) -> bool:
    """Tell whether the names of a file are those of what it is about.

    A test is called after what it tests, in all of the words that a question has for that.
    """
    role = role_of(passage.path, passage.kind)
    return role in asked.kinds or role not in {"tests", "examples", "history", "licence"}


@lru_cache(maxsize=1 << 14)
def _words_of(name: str) -> frozenset[str]:
    return frozenset(query_terms(name))


def _overlap(one: frozenset[str], other: frozenset[str]) -> float:
    """Return how much two sets of words are the same, 0 to 1 (the harmonic mean of the shares).

    >>> _overlap(frozenset({"open", "store"}), frozenset({"open"})) == 2 / 3
    True
    """
    shared = len(one & other)
    return 2.0 * shared / (len(one) + len(other)) if shared else 0.0
