"""Read XML from strangers in bounds: no entities, no external references, no endless nesting.

Elements and attributes are named by their local names, because the formats read here exist in
several namespaces each (transitional and strict OOXML, OpenDocument 1.0 to 1.3) with the same
names; only the attributes that refer to another part keep a prefix, as ``r:id``.

Nothing here ever opens a file or an address that an XML text names.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from merganser.errors import SkipDocument

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

MAX_DEPTH = 400
"""Elements inside each other; word processors nest tables and text boxes to some 100."""

MAX_ELEMENTS = 3_000_000
"""Elements that are kept at a time; one takes some 200 bytes, and the reader has 1 GB."""

_BLOCK = 1 << 16
_REFERENCES = "/relationships"


def parse_xml(data: bytes) -> Element:
    """Return the root element of an XML text.

    Raises:
        SkipDocument: ``damaged`` when it is not well-formed; ``hostile`` when it declares entities
            or nests without end; ``too large`` when it has too many elements.
    """
    roots: list[Element] = []
    parser = _parser(roots.append, None, frozenset())
    _feed(parser, data)
    return roots[0]


def iterate_xml(
    stream: IO[bytes], whole: Collection[str], opened: Collection[str] = ()
) -> Iterator[Element]:
    """Yield the elements of some names one by one, so that a long text is never held as a tree.

    Args:
        stream: The XML text.
        whole: Names of elements that are yielded at their end, with all that is in them. Inside
            one of them no other is looked for.
        opened: Names of elements that are yielded at their start, without what is in them.

    Raises:
        SkipDocument: As ``parse_xml``.
    """
    ready: list[Element] = []
    parser = _parser(ready.append, frozenset(whole), frozenset(opened))
    while block := stream.read(_BLOCK):
        _feed(parser, block, is_last=False)
        yield from ready
        ready.clear()
    _feed(parser, b"")
    yield from ready


def _feed(parser: expat.XMLParserType, block: bytes, *, is_last: bool = True) -> None:
    try:
        parser.Parse(block, is_last)
    except expat.ExpatError as error:
        raise SkipDocument("damaged", f"its XML breaks off: {error}") from error


def _parser(
    found: Callable[[Element], None], whole: frozenset[str] | None, opened: frozenset[str]
) -> expat.XMLParserType:
    """Make a parser that hands over elements; ``whole`` is None for the root element alone."""
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    names: dict[str, str] = {}
    builder: TreeBuilder | None = None
    depth = inside = elements = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, inside, builder, elements
        depth += 1
        if depth > MAX_DEPTH:
            raise SkipDocument("hostile", f"more than {MAX_DEPTH} elements inside each other")
        if (local := names.get(name)) is None:
            local = names[name] = _local(name)
        if builder is not None:
            inside += 1
        elif whole is None or local in whole:
            builder, inside, elements = TreeBuilder(), 1, 0
            parser.CharacterDataHandler = builder.data
        elif local in opened:
            found(Element(local, _attributes(attributes, names)))
            return
        else:
            return
        elements += 1
        if elements > MAX_ELEMENTS:
            raise SkipDocument("too large", f"more than {MAX_ELEMENTS:,} elements in one part")
        builder.start(local, _attributes(attributes, names))

    def end(name: str) -> None:
        nonlocal depth, inside, builder
        depth -= 1
        if builder is None:
            return
        inside -= 1
        builder.end(names[name])
        if inside == 0:
            found(builder.close())
            builder = parser.CharacterDataHandler = None

    def refuse(*_: object) -> None:
        raise SkipDocument("hostile", "its XML declares entities of its own")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.EntityDeclHandler = refuse
    return parser


def _local(name: str) -> str:
    space, _, local = name.rpartition(" ")
    return f"r:{local}" if space.endswith(_REFERENCES) else local


def _attributes(attributes: dict[str, str], names: dict[str, str]) -> dict[str, str]:
    """Name attributes by their local names; of two that are the same the first counts."""
    named: dict[str, str] = {}
    for name, value in attributes.items():
        if (local := names.get(name)) is None:
            local = names[name] = _local(name)
        named.setdefault(local, value)
    return named
