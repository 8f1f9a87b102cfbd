"""Tell by styles and attributes whether a reader of a page sees an element's text.

The ``style`` attribute counts, and the rules of ``<style>`` whose selectors are tags, classes, ids
and attributes of one element. Style sheets in other files are not read, nor are rules for print or
small screens: in doubt a text is seen.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Style = dict[str, str]
"""Properties with their values in lower case, of those in ``_PROPERTIES``; ``-hidden`` hides."""


class State(NamedTuple):
    """How text is shown at a place of a page.

    Attributes:
        hidden: Whether nothing in here is seen, whatever it says of itself.
        invisible: Whether it is not seen unless it says ``visibility: visible``.
        tiny: Whether letters have no size.
        color: Of the text; None when nobody knows.
        background: Behind the text; None when nobody knows.
    """

    hidden: bool = False
    invisible: bool = False
    tiny: bool = False
    color: str | None = "black"
    background: str | None = None

    @property
    def seen(self) -> bool:
        """Whether a reader sees text here."""
        if self.hidden or self.invisible or self.tiny or self.color == "transparent":
            return False
        return self.color is None or self.color != self.background


_WHITE_PAGE = State(background="white")
_UNKNOWN_PAGE = State()
_SVG_HIDDEN = frozenset(
    {"svg title", "svg desc", "svg defs", "svg metadata", "svg symbol", "svg style", "svg script"}
    | {"svg clippath", "svg mask", "svg marker", "svg annotation", "svg annotation-xml"}
)
_HIDDEN = frozenset(
    {"script", "style", "template", "noscript", "nav", "iframe", "object", "canvas", "datalist"}
    | {"video", "audio", "rp", "noembed", "noframes"}
)
"""Elements whose content is not the page's text."""

_OWN_COLOR = frozenset({"a", "button", "input", "select", "textarea"})
"""Elements that do not take the colour around them."""

_HIDDEN_ROLES = frozenset({"navigation", "search", "menu", "menubar"})

# Of Bootstrap, WordPress, Foundation, Drupal, GitHub, Material and KaTeX: for screen readers alone.
_SCREEN_READER_CLASSES = frozenset(
    {"sr-only", "visually-hidden", "visuallyhidden", "screen-reader-text", "screen-reader-only"}
    | {
        "screenreader-only",
        "show-for-sr",
        "element-invisible",
        "cdk-visually-hidden",
        "a11y-hidden",
    }
    | {"katex-mathml", "mjx-assistive-mml", "visually-hidden-focusable", "sr-only-focusable"}
)

_PROPERTIES = frozenset(
    {"display", "visibility", "opacity", "font-size", "color", "background", "background-color"}
    | {
        "background-image",
        "background-clip",
        "-webkit-background-clip",
        "position",
        "left",
        "right",
    }
    | {"top", "bottom", "text-indent", "clip", "clip-path", "width", "height", "max-height"}
    | {"max-width", "overflow", "overflow-x", "overflow-y", "transform", "content-visibility"}
)
# Numbers of more digits are nobody's style, and take long to read.
_LENGTH = re.compile(r"(-?\d{0,12}\.?\d{0,12})(px|em|rem|pt|ex|ch|vw|vh|%)?")
_ZERO = re.compile(r"[-+]?0{1,9}(?:\.0{0,9})?(?:[a-z]{1,4}|%)?|\.0{1,9}(?:[a-z]{1,4}|%)?")
_CLIPPED = re.compile(r"rect\((?:\s*[01](?:px|%)?[\s,]*){4}\)|inset\((?:50|100)%(?:\s+0)*\)")
_FAR = 900
"""Pixels beyond the edge of the screen that hide a text; designers take 999 or more."""


def inherit(parent: State, style: Style) -> State:
    """Return how text is shown in an element, of what stands around it and its own style."""
    if not style or parent.hidden:
        return parent
    if len(style) == 1 and "-unknown" in style:  # most elements
        return parent if parent.background is None else parent._replace(background=None)
    hidden = _hides(style)
    invisible, tiny = parent.invisible, parent.tiny
    if visibility := style.get("visibility"):
        invisible = visibility in {"hidden", "collapse"}
    if size := style.get("font-size"):
        tiny = bool(_ZERO.fullmatch(size)) or (tiny and size.endswith(("em", "%", "er")))
    color = _color(style["color"], parent.color) if "color" in style else parent.color
    background = _background(style, parent.background)
    if color == "transparent" and any("clip" in name for name in style):
        color = None  # the text is cut out of its background
    return State(hidden, invisible, tiny, color, background)


def _hides(style: Style) -> bool:
    """Tell whether an element and all in it is not seen."""
    if "-hidden" in style or style.get("display") == "none":
        return True
    if _is_zero(style, "opacity") or style.get("content-visibility") == "hidden":
        return True
    if style.get("position") in {"absolute", "fixed"}:
        if _CLIPPED.search(f"{style.get('clip', '')} {style.get('clip-path', '')}"):
            return True
        if any(_is_far(style.get(side, "")) for side in ("left", "right", "top", "bottom")):
            return True
    if _is_far(style.get("text-indent", "")) or style.get("transform") in {
        "scale(0)",
        "scale(0,0)",
    }:
        return True
    clipped = {style.get(name) for name in ("overflow", "overflow-x", "overflow-y")}
    return not clipped.isdisjoint({"hidden", "clip"}) and any(
        _is_zero(style, name) for name in ("height", "width", "max-height", "max-width")
    )


def _is_zero(style: Style, name: str) -> bool:
    value = style.get(name)
    return value is not None and _ZERO.fullmatch(value) is not None


def _is_far(value: str) -> bool:
    """Tell whether a length lies beyond the edge of any screen."""
    length = _LENGTH.fullmatch(value)
    if not value.startswith("-") or length is None or length[1] in {"-", "-."}:
        return False
    scale = {"em": 16, "rem": 16, "%": 10, "vw": 10, "vh": 10}.get(length[2] or "px", 1)
    return float(length[1]) * scale <= -_FAR


_SAME = {"#fff": "white", "#ffffff": "white", "#000": "black", "#000000": "black"}
_RGB = re.compile(
    r"rgba?\(\s*(\d{1,3})[\s,]+(\d{1,3})[\s,]+(\d{1,3})\s*(?:[,/]\s*([\d.]{1,9})%?\s*)?\)"
)
_PLAIN_COLOR = re.compile(r"[a-z]{3,20}|#[0-9a-f]{3,8}")


def _color(value: str, otherwise: str | None) -> str | None:
    """Return a colour in one spelling; None when it is said in a way that is not read."""
    if value in {"inherit", "currentcolor", "unset"}:
        return otherwise
    if rgb := _RGB.fullmatch(value):
        if rgb[4] is not None and float(rgb[4].strip(".") or 0) == 0:
            return "transparent"
        if rgb[4] not in {None, "1", "1.0", "100"}:
            return None
        value = "#" + "".join(f"{min(int(part), 255):02x}" for part in rgb.groups()[:3])
    if not _PLAIN_COLOR.fullmatch(value) or value == "initial":
        return None
    if len(value) == 4 and value[0] == "#":
        value = "#" + "".join(2 * digit for digit in value[1:])
    return _SAME.get(value, value)


def _background(style: Style, behind: str | None) -> str | None:
    """Return the colour behind the text of an element; None for pictures and what is not known."""
    value = style.get("background-color", style.get("background"))
    if style.get("background-image", "none") != "none":
        return None
    if value is None:
        return None if "-unknown" in style else behind
    color = _color(value, None)
    return (
        behind if value in {"none", "transparent", "inherit"} or color == "transparent" else color
    )


# -- rules -----------------------------------------------------------------------------------------

_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)", re.DOTALL)
_BRACE = re.compile(r"[{};]|\"[^\"\n]*\"|'[^'\n]*'")
_COMPOUND = re.compile(r"(\*|[a-zA-Z][\w-]*)?((?:[.#][\w-]+|\[[\w-]+(?:=[\"']?[\w-]*[\"']?)?\])*)")
_PART = re.compile(r"([.#\[])([\w-]+)(?:=[\"']?([\w-]*)[\"']?)?\]?")
_INSIDE = re.compile(
    r"@(?:layer|supports|scope|(?:media)\s*(?:all|screen|only\s+screen))\b[^(]*$", re.IGNORECASE
)
# Rules of one class, tag or id beyond these are left out: no page has so many.
_MAX_RULES = 32


class _Rule(NamedTuple):
    """What a selector of one element asks for, and what it says.

    Attributes:
        rank: Rules of a higher rank win: ids, then classes, then order.
        tag: Its name; empty for any.
        classes: All of them.
        id: Its id; empty for any.
        attributes: With their values; None for any value.
        style: What holds then.
        important: What holds against ``style`` attributes too.
    """

    rank: tuple[int, int, int, int]
    tag: str
    classes: frozenset[str]
    id: str
    attributes: tuple[tuple[str, str | None], ...]
    style: Style
    important: Style


class StyleSheet:
    """The styles of one page's elements.

    Attributes:
        is_whole: Whether no other style sheet, and no rule that was not read, may set a background.
    """

    def __init__(self) -> None:
        self.is_whole = True
        self._rules: dict[str, list[_Rule]] = {}
        self._count = 0
        self._of: dict[tuple[str, str, str], list[_Rule]] = {}
        self._inline: dict[str, tuple[Style, Style]] = {}

    @property
    def is_empty(self) -> bool:
        """Whether no rule was taken in."""
        return not self._rules

    @property
    def root(self) -> State:
        """How text is shown outside all elements."""
        return _WHITE_PAGE if self.is_whole else _UNKNOWN_PAGE

    def add(self, css: str) -> None:
        """Take in the rules of a ``<style>`` element."""
        self._of.clear()
        self.is_whole &= "@import" not in css
        for prelude, body in _rules(_COMMENT.sub(" ", css)):
            style, important = _declarations(body)
            if not style and not important:
                continue
            for selector in prelude.split(","):
                self._add_rule(selector.strip(), style, important)

    def _add_rule(self, selector: str, style: Style, important: Style) -> None:
        compound = _COMPOUND.fullmatch(selector)
        if compound is None or not selector or selector == "*":
            self.is_whole &= not any("background" in name for name in style | important)
            return
        tag = "" if compound[1] in {None, "*"} else compound[1].lower()
        parts = _PART.findall(compound[2])
        classes = frozenset(name for kind, name, _ in parts if kind == ".")
        ids = [name for kind, name, _ in parts if kind == "#"]
        attributes = tuple(
            (name.lower(), value or None) for kind, name, value in parts if kind == "["
        )
        self._count += 1
        rank = (len(ids), len(classes) + len(attributes), bool(tag), self._count)
        key = f"#{ids[0]}" if ids else f".{min(classes)}" if classes else tag or "["
        rule = _Rule(rank, tag, classes, ids[0] if ids else "", attributes, style, important)
        rules = self._rules.setdefault(key, [])
        if len(rules) < _MAX_RULES:
            rules.append(rule)

    def style(self, tag: str, attributes: Mapping[str, str]) -> Style:
        """Return an element's own style."""
        style: Style = {"color": ""} if tag in _OWN_COLOR else {}
        important: Style = {}
        if self._rules:
            for rule in self._matching(tag, attributes):
                style.update(rule.style)
                important.update(rule.important)
        if attributes:
            if inline := attributes.get("style"):
                if inline not in self._inline:
                    self._inline[inline] = _declarations(_COMMENT.sub(" ", inline))
                style = style | self._inline[inline][0]
                important = important | self._inline[inline][1]
            if _is_hidden_by_attribute(attributes) and style.get("display", "none") == "none":
                style = style | {"-hidden": ""}
            elif not self.is_whole and ("class" in attributes or "id" in attributes):
                style = style | {"-unknown": ""}  # who knows its background
            if "background" in attributes:
                style = style | {"background-image": "url"}
            if "bgcolor" in attributes:
                style = {"background-color": attributes["bgcolor"].lower()} | style
            if tag == "font" and "color" in attributes:
                style = {"color": attributes["color"].lower()} | style
        if tag == "body":  # what hides the whole page does so until a script shows it
            return {
                name: value for name, value in style.items() if "color" in name or "back" in name
            }
        if tag in _HIDDEN or tag in _SVG_HIDDEN or (tag == "dialog" and "open" not in attributes):
            style = style | {"-hidden": ""}
        return style | important if important else style

    def _matching(self, tag: str, attributes: Mapping[str, str]) -> list[_Rule]:
        """Return the rules for an element, the one that wins last."""
        names, identity = attributes.get("class", ""), attributes.get("id", "")
        known = self._of.get((tag, names, identity))
        if known is None:
            classes = frozenset(names.split())
            keys = [tag, f"#{identity}", "[", *(f".{name}" for name in classes)]
            found = [rule for key in keys for rule in self._rules.get(key, ())]
            known = sorted(
                rule
                for rule in found
                if rule.tag in {"", tag} and rule.id in {"", identity} and rule.classes <= classes
            )
            self._of[tag, names, identity] = known
        return [
            rule
            for rule in known
            if all(
                name in attributes and value in {None, attributes[name]}
                for name, value in rule.attributes
            )
        ]


def _is_hidden_by_attribute(attributes: Mapping[str, str]) -> bool:
    if "hidden" in attributes and attributes["hidden"].lower() != "until-found":
        return True
    if "popover" in attributes or attributes.get("role") in _HIDDEN_ROLES:
        return True
    return not _SCREEN_READER_CLASSES.isdisjoint(attributes.get("class", "").split())


def _declarations(body: str) -> tuple[Style, Style]:
    """Return the properties that matter: those of normal weight, and the important ones."""
    style: Style = {}
    important: Style = {}
    for declaration in body.split(";"):
        name, colon, value = declaration.partition(":")
        name = name.strip().lower()
        if colon and name in _PROPERTIES:
            value = " ".join(value.lower().split())
            bare = value.removesuffix("!important").rstrip()
            (style if bare == value else important)[name] = bare
    return style, important


def _rules(css: str) -> Iterator[tuple[str, str]]:
    """Yield what stands before and in the braces of each rule that holds on a screen."""
    start, blocks = 0, [True]  # whether the rules of each open block count
    prelude = ""
    for brace in _BRACE.finditer(css):
        if brace[0] == "{":
            prelude = css[start : brace.start()].strip()
            at_rule = prelude.startswith("@")
            blocks.append(blocks[-1] and (not at_rule or _INSIDE.match(prelude) is not None))
            start = brace.end()
        elif brace[0] == "}":
            if len(blocks) > 1:
                counts = blocks.pop()
                if counts and prelude and not prelude.startswith("@"):
                    yield prelude, css[start : brace.start()]
            prelude, start = "", brace.end()
        elif brace[0] == ";" and len(blocks) == 1:
            start = brace.end()
