"""Retrieval: scoring, fusion, reranking and the search that puts them together.

Reading the index is ``merganser.store``'s; what is done with the hits is the agent's and the
command line's.
"""

from merganser.retrieval.explain import Missing, Standing
from merganser.retrieval.hits import Hit, HitExplanation, Leg, SearchResult
from merganser.retrieval.search import MANY_QUERIES, Retriever

__all__ = [
    "MANY_QUERIES",
    "Hit",
    "HitExplanation",
    "Leg",
    "Missing",
    "Retriever",
    "SearchResult",
    "Standing",
]
