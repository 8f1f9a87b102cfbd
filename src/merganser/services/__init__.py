"""Background services on this machine: one Prefect server, one embedded runner."""
