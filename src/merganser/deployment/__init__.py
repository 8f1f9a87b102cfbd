"""Deployments: what a config puts on a Prefect server, and the workers that run it."""
