"""Prefect flows: the compositions that a config compiles into."""
