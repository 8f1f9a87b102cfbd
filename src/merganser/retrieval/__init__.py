"""Retrieval: scoring, fusion, reranking, and the search that combines them.

Reading the index belongs to ``merganser.store``; what is done with the hits, to the agent and the
command line.
"""

from merganser.retrieval.explain import Missing, Standing
from merganser.retrieval.hits import Hit, HitExplanation, SearchResult, StrategyScore
from merganser.retrieval.search import MANY_QUERIES, Retriever

__all__ = [
    "MANY_QUERIES",
    "Hit",
    "HitExplanation",
    "Missing",
    "Retriever",
    "SearchResult",
    "Standing",
    "StrategyScore",
]
