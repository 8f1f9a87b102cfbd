"""A report of indexes as one HTML file that needs no server, no network and no script.

``facts`` reads what an index folder knows, ``treemap`` places its sources on a map, ``picture``
draws that, ``page`` writes the file.
"""

from merganser.report.facts import IndexFacts, read_facts
from merganser.report.page import write_page
from merganser.report.treemap import Box, Cell, Source, build_tree, map_sources, squarify

__all__ = [
    "Box",
    "Cell",
    "IndexFacts",
    "Source",
    "build_tree",
    "map_sources",
    "read_facts",
    "squarify",
    "write_page",
]
