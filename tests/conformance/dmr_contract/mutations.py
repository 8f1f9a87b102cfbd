"""Broken runners: each mutation breaks one sentence of the contract and names the case to see it.

A mutation is ASGI middleware around a runner that keeps the contract. Those of one topic stand
together; ``MUTATIONS`` has all of them.
"""

from __future__ import annotations

from dmr_contract.mutations_engine import ENGINE_MUTATIONS
from dmr_contract.mutations_http import HTTP_MUTATIONS
from dmr_contract.mutations_pull import PULL_MUTATIONS
from dmr_contract.mutations_scheduling import SCHEDULING_MUTATIONS

_ALL = (*HTTP_MUTATIONS, *PULL_MUTATIONS, *SCHEDULING_MUTATIONS, *ENGINE_MUTATIONS)

MUTATIONS = {mutation.name: mutation for mutation in _ALL}
"""All mutations by name."""

assert len(MUTATIONS) == len(_ALL), "two mutations of one name"
