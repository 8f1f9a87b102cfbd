"""Compile cagent YAML into Prefect flows that index, retrieve and answer on local models."""
