"""Batches: files of questions, answered each once, with rows that a later run takes up again."""
