"""The indexing engine: from files to a published snapshot, in stages; ``run`` shows them all."""
