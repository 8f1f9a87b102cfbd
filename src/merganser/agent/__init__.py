"""Agents: one turn of question and answer, and batches of them.

Import from the modules: ``turn`` (take_turn), ``answers``, ``events``.
Nothing is imported here, because the modules of a turn load what a batch plan does not need.
"""
