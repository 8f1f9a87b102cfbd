"""Know which elements are open at each place of a page, as browsers do.

The rules are those of the HTML standard's tree construction
(https://html.spec.whatwg.org/#tree-construction), as far as they decide what an element is inside
of: end tags that are left out, tags that are nested wrongly, tables, SVG and MathML. No tree is
built: what a piece of text inherits is known when it is met.

Every step takes time that does not grow with the page: whether a name is open is looked up, not
searched for. Elements nested deeper than ``_MAX_DEPTH`` are counted, not kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from merganser.documents.html_names import (
    BLOCK_ENDS,
    BREAKOUT,
    BUTTON_SCOPE,
    CLOSE_P,
    DRAWN,
    FOREIGN,
    FOREIGN_HTML,
    FORMATTING,
    HEADINGS,
    HTML_INSIDE,
    IN_LINES,
    IN_ROWS,
    IN_TABLE,
    LIST_SCOPE,
    MARKERS,
    SCOPE,
    SPECIAL,
    TABLE_PARTS,
    TABLE_SCOPE,
    VOID,
)
from merganser.documents.html_style import inherit
from merganser.documents.html_tokens import RAW

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from merganser.documents.html_style import State, Style, StyleSheet

# Browsers go as deep; nobody nests a page so.
_MAX_DEPTH = 512
# Formatting that is open and goes on in the next block: of one kind as many as in browsers, of all
# kinds more than any page has.
_MAX_SAME = 3
_MAX_FORMATTING = 16


class Element(NamedTuple):
    """An element that is open.

    Attributes:
        name: In lower case; empty when its end tag came while a block inside it was still open.
        style: Its own style.
        state: How text in it is shown.
        foreign: Whether it belongs to SVG or MathML.
    """

    name: str
    style: Style
    state: State
    foreign: bool


class OpenElements:
    """The elements that are open, outermost first.

    Args:
        styles: What elements look like.
        is_xml: Whether a tag that ends in ``/>`` closes itself whatever its name.
    """

    def __init__(self, styles: StyleSheet, *, is_xml: bool = False) -> None:
        self._styles = styles
        self._is_xml = is_xml
        self._open: list[Element] = []
        self._at: dict[str, list[int]] = {}  # where HTML elements of a name stand in it
        self._special: list[int] = []
        self._html: list[int] = []  # places of what belongs to neither SVG nor MathML
        self._formatting: list[tuple[str, Style, int] | None] = []  # and its place; -1: not open
        self._deeper: list[dict[str, int]] = [{}]  # names not kept, by what was kept around them

    @property
    def state(self) -> State:
        """How text would be shown here."""
        if not self._open:
            return self._styles.root
        current = self._open[-1]
        return self._before_table() if current.name in IN_TABLE else current.state

    @property
    def is_foreign(self) -> bool:
        """Whether what comes next belongs to SVG or MathML."""
        return bool(self._open) and self._open[-1].foreign and not self._holds_html()

    @property
    def draws_text(self) -> bool:
        """Whether text is shown here at all: pictures show what is in ``<text>`` alone."""
        svg = self._place("svg svg")
        if svg < 0 or self._place(FOREIGN_HTML) > svg:
            return True
        return self._open[-1].name in DRAWN

    def has(self, name: str) -> bool:
        """Tell whether an HTML element is open."""
        return bool(self._at.get(name))

    def has_any(self, names: Iterable[str]) -> bool:
        """Tell whether an HTML element of one of the names is open."""
        at = self._at
        for name in names:  # noqa: SIM110 - asked for each text of a page
            if at.get(name):
                return True
        return False

    def text(self, *, is_blank: bool = False) -> None:
        """Open again, before text, the formatting that an ended block interrupted."""
        in_table = is_blank and self._open and self._open[-1].name in IN_TABLE
        if self._formatting and not in_table and not self.is_foreign:
            self._reconstruct()

    def start(self, name: str, attributes: Mapping[str, str], *, closes_itself: bool) -> State:
        """Take a start tag; return how its content is shown."""
        if self.is_foreign:
            if name not in BREAKOUT and not (
                name == "font" and attributes.keys() & {"color", "face", "size"}
            ):
                return self._insert(name, attributes, foreign=True, closed=closes_itself)
            self._leave_foreign()
        if name in {"html", "head", "body", "frameset"} and (self._open or name != "body"):
            return self.state
        in_table = name == "form" and self._last_of(MARKERS) < self._place("table")
        if name == "form" and self.has(name):
            return self.state
        if name in FOREIGN:
            self.text()
            return self._insert(name, attributes, foreign=True, closed=closes_itself)
        if name in TABLE_PARTS and not self._start_table_part(name):
            return self.state
        self._end_implied(name)
        if name not in SPECIAL or name in IN_LINES:
            self._reconstruct()
        closed = name in VOID or (closes_itself and self._is_xml) or in_table
        depth = len(self._open)
        state = self._insert(name, attributes, foreign=False, closed=closed)
        if len(self._open) > depth and name in FORMATTING:
            self._keep_formatting(name, self._open[-1].style)
        return state

    def end(self, name: str) -> None:
        """Take an end tag."""
        if self._deeper[-1].get(name):
            self._deeper[-1][name] -= 1
            return
        if self._open and self._open[-1].foreign and self._end_foreign(name):
            return
        if name in FORMATTING:
            self._end_formatting(name)
        elif name in HEADINGS:
            if self._last_of(HEADINGS) > self._last_of(SCOPE):
                self._pop_to(self._last_of(HEADINGS))
        elif name == "p":
            self._end_in_scope(name, BUTTON_SCOPE)
        elif name == "li":
            self._end_in_scope(name, LIST_SCOPE)
        elif name == "template":
            self._end_in_scope(name, frozenset())
        elif name == "table" or name in TABLE_PARTS:
            self._end_in_scope(name, TABLE_SCOPE - {name})
        elif name == "form" and self._place(name) > self._last_of(SCOPE):
            self._end_form()
        elif name in BLOCK_ENDS:
            self._end_in_scope(name, SCOPE - {name})
        elif self._place(name) >= (self._special[-1] if self._special else 0):
            self._pop_to(self._place(name))

    def _end_form(self) -> None:
        """End a form; what is open in it stays open, and is part of it still."""
        place = self._at["form"].pop()
        self._special.remove(place)
        if place == len(self._open) - 1:
            self._at["form"].append(place)
            self._special.append(place)
            self._pop_to(place)
        else:
            self._open[place] = self._open[place]._replace(name="")

    # -- what a start tag ends ---------------------------------------------------------------------

    def _end_implied(self, name: str) -> None:
        """End what a start tag ends although its end tag was left out."""
        if name == "li" or name in {"dd", "dt"}:
            self._end_items({name} if name == "li" else {"dd", "dt"})
        if name in CLOSE_P:
            self._end_in_scope("p", BUTTON_SCOPE)
        current = self._open[-1].name if self._open else ""
        if (name in HEADINGS and current in HEADINGS) or (
            name in {"option", "optgroup"} and current == "option"
        ):
            self._pop_to(len(self._open) - 1)
        elif name == "button":
            self._end_in_scope("button", SCOPE)
        elif name in {"a", "nobr"} and self._find_formatting(name) is not None:
            self._end_formatting(name)
        elif name == "table" and self._last_of(MARKERS) < self._place("table"):
            self._pop_to(
                self._place("table")
            )  # a table in a table, but in no cell, is the next one

    def _end_items(self, names: Iterable[str]) -> None:
        """End the open item of a list, unless another block than ``div`` stands in between."""
        item = self._last_of(names)
        if item < 0:
            return
        between = len(self._special)
        while between and self._open[self._special[between - 1]].name in {"address", "div", "p"}:
            between -= 1
        if between and self._special[between - 1] == item:
            self._pop_to(item)

    def _start_table_part(self, name: str) -> bool:
        """Make room for a row, a cell and so on; tell whether a table is open."""
        table = self._place("table")
        if table <= self._place("template"):
            return self._place("template") >= 0 and table < 0
        place = len(self._open)
        while self._open[place - 1].name not in TABLE_PARTS[name] | {"template"}:
            place -= 1  # at the latest at the table; what is passed is popped
        self._pop_to(place)
        return True

    def _before_table(self) -> State:
        """Return how text is shown that stands in a table, but in no cell."""
        table = self._place("table")
        if table < self._place("template"):
            return self._open[-1].state
        return self._open[table - 1].state if table > 0 else self._styles.root

    # -- formatting --------------------------------------------------------------------------------

    def _keep_formatting(self, name: str, style: Style) -> None:
        entries = self._formatting
        same: list[int] = []
        own = 0
        for index in range(len(entries) - 1, -1, -1):
            entry = entries[index]
            if entry is None:
                break
            own += 1
            if entry[:2] == (name, style):
                same.append(index)
        if len(same) >= _MAX_SAME:
            del entries[same[-1]]
        elif own >= _MAX_FORMATTING:
            del entries[len(entries) - own]
        entries.append((name, style, len(self._open) - 1))

    def _find_formatting(self, name: str) -> int | None:
        for index in range(len(self._formatting) - 1, -1, -1):
            entry = self._formatting[index]
            if entry is None:
                return None
            if entry[0] == name:
                return index
        return None

    def _reconstruct(self) -> None:
        entries = self._formatting
        first = len(entries)
        while first and (entry := entries[first - 1]) is not None and entry[2] < 0:
            first -= 1
        for index in range(first, len(entries)):
            entry = entries[index]
            if entry is None or len(self._open) >= _MAX_DEPTH:
                return
            self._push(entry[0], entry[1], foreign=False)
            entries[index] = (entry[0], entry[1], len(self._open) - 1)

    def _end_formatting(self, name: str) -> None:
        """End formatting as the standard's adoption agency does; blocks inside it stay open."""
        index = self._find_formatting(name)
        if index is None:
            if self._place(name) >= (self._special[-1] if self._special else 0):
                self._pop_to(self._place(name))
            return
        entry = self._formatting[index]
        place = entry[2] if entry else -1
        if place >= 0 and place < self._last_of(SCOPE):
            return
        del self._formatting[index]
        if place < 0:
            return
        if not self._special or self._special[-1] < place:
            self._pop_to(place)
            return
        self._pop_to(self._special[-1] + 1)  # what stands in the innermost block goes on anew
        self._at[name].remove(place)
        ended = self._open[place]
        self._open[place] = ended._replace(name="", style={})
        if ended.style:
            state = self._open[place - 1].state if place else self._styles.root
            for i in range(place, len(self._open)):
                state = inherit(state, self._open[i].style)
                self._open[i] = self._open[i]._replace(state=state)

    # -- SVG and MathML ----------------------------------------------------------------------------

    def _holds_html(self) -> bool:
        return self._open[-1].name in HTML_INSIDE

    def _leave_foreign(self) -> None:
        place = len(self._open)
        while place and self._open[place - 1].foreign:
            if self._open[place - 1].name in HTML_INSIDE:
                break
            place -= 1
        self._pop_to(place)

    def _end_foreign(self, name: str) -> bool:
        """End an element of SVG or MathML; tell whether the tag was one's."""
        if name in {"br", "p"} and self.is_foreign:
            self._leave_foreign()
            return False
        outside = self._html[-1] if self._html else -1
        for place in reversed(self._at.get(_known_as(name, foreign=True), ())):
            if place < outside:
                break
            if self._open[place].name == name:
                self._pop_to(place)
                return True
        return outside < 0

    # -- the stack ---------------------------------------------------------------------------------

    def _insert(
        self, name: str, attributes: Mapping[str, str], *, foreign: bool, closed: bool
    ) -> State:
        style = self._styles.style(f"svg {name}" if foreign else name, attributes)
        state = inherit(self.state, style)
        if closed:
            return state
        # What hides stays known at any depth; inside it nothing more can hide.
        hides = state.hidden and not self.state.hidden
        if len(self._open) >= _MAX_DEPTH and not hides and name not in RAW:
            self._deeper[-1][name] = self._deeper[-1].get(name, 0) + 1
            return state
        self._push(name, style, foreign=foreign)
        if name in MARKERS and not foreign:
            self._formatting.append(None)
        return self._open[-1].state

    def _push(self, name: str, style: Style, *, foreign: bool) -> None:
        part = name in IN_TABLE or name in {"td", "th", "caption"} or name in IN_ROWS
        parent = self._open[-1].state if part and self._open else self.state
        known = _known_as(name, foreign=foreign)
        self._at.setdefault(known, []).append(len(self._open))
        if not foreign:
            self._html.append(len(self._open))
        if known in SPECIAL or known == FOREIGN_HTML:
            self._special.append(len(self._open))
        self._open.append(Element(name, style, inherit(parent, style), foreign))
        if len(self._open) > _MAX_DEPTH:
            self._deeper.append({})

    def _pop_to(self, place: int) -> None:
        """End every element from a place on."""
        if place < 0:
            return
        if place < _MAX_DEPTH:
            self._deeper = [{}]
        while len(self._open) > place:
            element = self._open.pop()
            at = len(self._open)
            if at >= _MAX_DEPTH:
                self._deeper.pop()
            if not element.foreign:
                self._html.pop()
            if not element.name:
                continue
            if self._special and self._special[-1] == at:
                self._special.pop()
            known = _known_as(element.name, foreign=element.foreign)
            self._at[known].pop()
            if known in MARKERS:
                self._clear_formatting()
            elif known in FORMATTING:
                self._interrupt(at)
        if self._open and not self._open[-1].name:
            self._pop_to(len(self._open) - 1)

    def _clear_formatting(self) -> None:
        while self._formatting and self._formatting.pop() is not None:
            pass

    def _interrupt(self, place: int) -> None:
        """Note that formatting is no longer open, and goes on in the next block."""
        for index in range(len(self._formatting) - 1, -1, -1):
            entry = self._formatting[index]
            if entry is None or entry[2] == place:
                if entry is not None:
                    self._formatting[index] = (entry[0], entry[1], -1)
                return

    def _end_in_scope(self, name: str, barriers: Iterable[str]) -> None:
        """End the innermost element of a name, unless one of the barriers stands inside it."""
        place = self._place(name)
        if place >= 0 and place > self._last_of(barriers):
            self._pop_to(place)

    def _place(self, name: str) -> int:
        """Return where the innermost element of a name stands; -1 when none is open."""
        places = self._at.get(name)
        return places[-1] if places else -1

    def _last_of(self, names: Iterable[str]) -> int:
        last, at = -1, self._at
        for name in names:
            if (places := at.get(name)) and places[-1] > last:
                last = places[-1]
        return last


def _known_as(name: str, *, foreign: bool) -> str:
    """Return the name under which an element is looked up; those of SVG are no HTML elements."""
    if not foreign:
        return name
    return FOREIGN_HTML if name in HTML_INSIDE else f"svg {name}"
