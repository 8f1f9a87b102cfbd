"""The client of a model server: finding it, pulling and configuring models, asking them."""
