"""Evaluation of retrieval: query sets, metrics, thresholds and how they are shown.

``queries`` reads what is asked and expected, ``metrics`` marks the relevant hits and measures,
``rag_evaluation`` evaluates an open rag, ``assess`` does so for a rag of a config and checks
thresholds, ``present`` writes the result for people and programs.
"""
