"""Pack small neighbours into pieces, and leave what was already chunked alone.

Packing is local on purpose: a definition that had to be divided is a closed group which no
neighbour reflows, so an edit changes the pieces around it and not the rest of the file. What an
index must embed again after an edit depends on it.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

from merganser.chunking.text import Piece

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from merganser.chunking.text import Limits

    _Namer = Callable[[Iterable[str]], str]

# A piece this full is not filled up with the start of the next definition: measured on
# Prefect's source, more pieces then are whole definitions at hardly more pieces.
_FULL = 0.6
# A piece below this share of the limit is glued to the group beside it if that fits.
_CRUMB = 0.125
# The last piece of a run is evened out with the one before below this share.
_SHORT_TAIL = 0.25
# Names of one piece's symbol; more say nothing more to a reader.
_MAX_SYMBOLS = 8


class Unit(NamedTuple):
    """A span that is not divided: a definition, a statement, a comment block, a section.

    Attributes:
        start: First character.
        end: One past the last character.
        symbol: As in ``Piece``.
        kind: As in ``Piece``.
        opens: Whether a definition or section begins here, so that a break before it is natural.
    """

    start: int
    end: int
    symbol: str
    kind: str
    opens: bool


Group = list[Piece]


def pack(
    items: Sequence[Unit | Group],
    limit: int,
    limits: Limits,
    *,
    name: _Namer | None = None,
) -> list[Piece]:
    """Merge neighbouring units up to a limit; groups stay as they are but for crumbs beside them.

    Args:
        items: Units and groups in order, without gaps; every unit at most ``limit`` long.
        limit: Characters of a packed piece.
        limits: What the pieces of groups are held to.
        name: Makes one symbol of several; ``join_symbols`` by default.
    """
    name = name or join_symbols
    out: list[Piece] = []
    run: list[Unit] = []
    for item in items:
        if isinstance(item, Unit):
            run.append(item)
            continue
        crumb = _close_run(out, run, limit, limits, name)
        run = []
        out.extend(_glue(out.pop(), item, limit, name) if crumb else item)
    _close_run(out, run, limit, limits, name)
    return out


def _close_run(out: list[Piece], run: list[Unit], limit: int, limits: Limits, name: _Namer) -> bool:
    """Append the units since the last group, packed; tell whether a crumb is left at the end."""
    if not run:
        return False
    pieces = [_merge(units, name) for units in _fill(run, limit)]
    first = pieces[0]
    if out and len(pieces) == 1 and first.end - first.start <= limit * _CRUMB and not run[0].opens:
        last = out[-1]
        if first.end - last.start <= (limits.part if last.continues else limit):
            out[-1] = last._replace(end=first.end)
            return False
    out.extend(pieces)
    return out[-1].end - out[-1].start <= limit * _CRUMB


def _glue(crumb: Piece, group: Group, limit: int, name: _Namer) -> Group:
    """Make a crumb the beginning of the first piece of the group after it, if that fits."""
    first = group[0]
    if first.end - crumb.start > limit:
        return [crumb, *group]
    symbol = name([crumb.symbol, first.symbol])
    return [first._replace(start=crumb.start, symbol=symbol), *group[1:]]


def join_symbols(symbols: Iterable[str]) -> str:
    """Name the distinct definitions of one piece, in order."""
    named = dict.fromkeys(symbol for symbol in symbols if symbol)
    return ", ".join(itertools.islice(named, _MAX_SYMBOLS))


def _fill(units: Sequence[Unit], limit: int) -> list[list[Unit]]:
    """Fill piece after piece, in order; the last two are evened out when the last is short."""
    filled: list[list[Unit]] = []
    current: list[Unit] = []
    start = units[0].start
    for unit in units:
        length = unit.start - start
        full = unit.opens and length > limit * _FULL
        if current and (full or unit.end - start > limit):
            filled.append(current)
            current, start = [], unit.start
        current.append(unit)
    filled.append(current)
    if len(filled) > 1 and current[-1].end - current[0].start < limit * _SHORT_TAIL:
        _even_out(filled, limit)
    return filled


def _even_out(filled: list[list[Unit]], limit: int) -> None:
    """Join the last two pieces if they fit in one, else break them where the longer is shortest."""
    tail = filled.pop()
    both = filled.pop() + tail
    start, end = both[0].start, both[-1].end
    if end - start <= limit:
        filled.append(both)
        return
    at = min(range(1, len(both)), key=lambda i: max(both[i].start - start, end - both[i].start))
    filled += [both[:at], both[at:]]


def _merge(units: Sequence[Unit], name: _Namer) -> Piece:
    """Make one piece of neighbouring units, with their symbols and the kind they agree on."""
    first, last = units[0], units[-1]
    if len(units) == 1:
        return Piece(first.start, last.end, first.symbol, first.kind)
    if len({(unit.symbol, unit.kind) for unit in units}) == 1:
        return Piece(first.start, last.end, first.symbol, first.kind)
    symbol = name(unit.symbol for unit in units)
    kinds = {unit.symbol: unit.kind for unit in units if unit.symbol}
    return Piece(first.start, last.end, symbol, _kind_of_all(kinds) if kinds else first.kind)


def _kind_of_all(kinds: Mapping[str, str]) -> str:
    """Return the kind that all symbols share; a class with members of its own is a class."""
    owner, kind = next(iter(kinds.items()))
    if len(set(kinds.values())) == 1 or all(s.startswith(f"{owner}.") for s in [*kinds][1:]):
        return kind
    return "module"
