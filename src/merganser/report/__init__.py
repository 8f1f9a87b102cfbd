"""A report of indexes and batches as one HTML file that needs no server, network or script.

``facts`` and ``batch_facts`` read what is known, ``index_section`` and ``batch_section`` write it
by the pieces of ``markup``, ``page`` puts the document around; ``treemap`` and ``picture`` draw the
map of an index.
"""

from merganser.report.batch_facts import BatchFacts, read_answers, read_batch
from merganser.report.facts import IndexFacts, read_facts
from merganser.report.page import write_page
from merganser.report.treemap import Box, Cell, Source, build_tree, map_sources, squarify

__all__ = [
    "BatchFacts",
    "Box",
    "Cell",
    "IndexFacts",
    "Source",
    "build_tree",
    "map_sources",
    "read_answers",
    "read_batch",
    "read_facts",
    "squarify",
    "write_page",
]
