"""Evaluation of retrieval: query sets, relevance, metrics, thresholds, comparison.

``queries`` reads what is asked and expected, ``relevance`` holds hits against labels, ``metrics``
measures, ``run`` evaluates an open rag, ``compare`` holds the figures against thresholds,
``assess`` does all of it for a rag of a config, ``present`` writes it for people and programs.
"""

from merganser.evaluate.assess import assess_candidate, assess_published, earlier, record
from merganser.evaluate.compare import Assessment, Baseline, Verdict, hold
from merganser.evaluate.queries import Label, LabelledQuery, QuerySet, read_queries
from merganser.evaluate.relevance import Judgement, Locator, Target, judge
from merganser.evaluate.run import Evaluation, Figure, QueryResult, evaluate

__all__ = [
    "Assessment",
    "Baseline",
    "Evaluation",
    "Figure",
    "Judgement",
    "Label",
    "LabelledQuery",
    "Locator",
    "QueryResult",
    "QuerySet",
    "Target",
    "Verdict",
    "assess_candidate",
    "assess_published",
    "earlier",
    "evaluate",
    "hold",
    "judge",
    "read_queries",
    "record",
]
