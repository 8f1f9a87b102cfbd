"""Evaluation of retrieval: query sets, relevance, metrics, thresholds, comparison.

``queries`` reads what is asked and expected, ``relevance`` holds hits against labels, ``metrics``
measures, ``run`` evaluates an open rag, ``compare`` holds the figures against thresholds,
``assess`` does all of it for a rag of a config, ``present`` writes it for people and programs.
"""

from merganser.evaluation.assess import assess_candidate, assess_published, earlier, record
from merganser.evaluation.compare import Assessment, Baseline, Verdict, hold
from merganser.evaluation.queries import Label, LabelledQuery, QuerySet, read_queries
from merganser.evaluation.rag_evaluation import Evaluation, Figure, QueryResult, evaluate
from merganser.evaluation.relevance import Judgement, Locator, Target, judge

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
