"""Shards that are embedded in other processes and on other machines."""
