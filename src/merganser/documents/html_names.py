"""Name the elements of HTML that ``html_tree`` treats alike, as the standard lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "keygen", "link", "meta", "param"}
    | {"source", "track", "wbr"}
)
"""Elements that have no end tag."""

HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
CLOSE_P = (
    frozenset(
        {"address", "article", "aside", "blockquote", "center", "details", "dialog", "dir", "div"}
        | {"dl", "fieldset", "figcaption", "figure", "footer", "form", "header", "hgroup", "hr"}
        | {"listing", "main", "menu", "nav", "ol", "p", "plaintext", "pre", "search", "section"}
        | {"summary", "table", "ul", "xmp", "li", "dd", "dt"}
    )
    | HEADINGS
)
"""A start tag of these ends an open paragraph."""

BLOCK_ENDS = frozenset(
    {"address", "article", "aside", "blockquote", "button", "center", "details", "dialog", "dir"}
    | {"div", "dl", "fieldset", "figcaption", "figure", "footer", "form", "header", "hgroup"}
    | {"listing", "main", "menu", "nav", "ol", "pre", "search", "section", "summary", "ul"}
    | {"applet", "marquee", "object", "dd", "dt"}
)
SPECIAL = (
    BLOCK_ENDS
    | HEADINGS
    | VOID
    | {"body", "caption", "colgroup", "frame", "frameset", "head", "html", "iframe", "li"}
    | {"noembed", "noframes", "noscript", "p", "plaintext", "script", "select", "style", "table"}
    | {"tbody", "td", "template", "textarea", "tfoot", "th", "thead", "title", "tr", "xmp"}
)
IN_LINES = frozenset(
    {"button", "object", "marquee", "applet", "area", "br", "embed", "img", "input", "keygen"}
    | {"wbr", "select", "xmp"}
)
"""Special elements that stand in a line, so that open formatting goes on in them."""

FORMATTING = frozenset(
    {"a", "b", "big", "code", "em", "font", "i", "nobr", "s", "small", "strike", "strong", "tt"}
    | {"u"}
)
MARKERS = frozenset({"applet", "marquee", "object", "template", "td", "th", "caption"})
"""Elements into which open formatting does not reach, and out of which none does."""

FOREIGN_HTML = "svg *"
"""The name by which the elements of SVG and MathML that hold HTML are looked up."""

SCOPE = frozenset(
    {"applet", "caption", "table", "td", "th", "marquee", "object", "template", FOREIGN_HTML}
)
BUTTON_SCOPE = SCOPE | {"button"}
LIST_SCOPE = SCOPE | {"ol", "ul"}
TABLE_SCOPE = frozenset({"table", "template"})
SECTIONS = frozenset({"tbody", "thead", "tfoot"})
IN_TABLE = SECTIONS | {"table", "tr", "colgroup"}
"""Elements of a table that hold no text of their own: it is shown before the table."""

TABLE_PARTS: Mapping[str, frozenset[str]] = {
    "td": SECTIONS | {"tr", "table"},
    "th": SECTIONS | {"tr", "table"},
    "tr": SECTIONS | {"table"},
    **dict.fromkeys([*SECTIONS, "caption", "colgroup"], frozenset({"table"})),
    "col": frozenset({"table", "colgroup"}),
}
"""The parts of a table, and what each stands in; what is open in between ends."""

IN_ROWS = frozenset({"script", "style", "template", "input", "form"})
"""Other elements that a table may hold directly."""

FOREIGN = frozenset({"svg", "math"})
HTML_INSIDE = frozenset(
    {"foreignobject", "desc", "title", "mi", "mo", "mn", "ms", "mtext", "annotation-xml"}
)
"""Elements of SVG and MathML that hold HTML."""

DRAWN = frozenset({"text", "tspan", "textpath", "a"})
"""Elements of SVG whose text is drawn."""

BREAKOUT = (
    frozenset(
        {"b", "big", "blockquote", "body", "br", "center", "code", "dd", "div", "dl", "dt", "em"}
        | {"embed", "head", "hr", "i", "img", "li", "listing", "menu", "meta", "nobr", "ol", "p"}
        | {"pre", "ruby", "s", "small", "span", "strong", "strike", "sub", "sup", "table", "tt"}
        | {"u", "ul", "var"}
    )
    | HEADINGS
)
"""Start tags that end SVG and MathML that was left open."""
