"""A report of indexes and batches as one HTML file that needs no server, network or script.

``facts`` reads what is known, ``treemap`` lays out the map of an index, ``page`` fills the
templates.
"""
