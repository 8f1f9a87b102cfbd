"""Agents: one turn of question and answer.

``turn`` takes a turn, ``attempt`` makes each attempt, ``answer`` and ``events`` are its outcome.
Nothing is imported here, because planning a batch needs ``agent_definition`` alone.
"""
