"""Settings that a Prefect server for merganser runs with, read by ``merganser server`` too."""
