"""Prefect tasks: what only an orchestrator can add to the core's plain functions."""
