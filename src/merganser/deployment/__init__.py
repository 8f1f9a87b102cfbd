"""Deployments on a Prefect server: apply them, run them, keep their history true."""
