"""Embedding many texts well: what is sent, how much at a time, and from whom in a run."""
