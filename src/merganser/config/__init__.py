"""The language: from YAML text to what the engine works with.

``yaml_source`` reads text with positions, ``load`` checks it, and the ``spec_*`` modules are the
frozen models of the YAML. ``*_definition`` hold what indexes, rags and flows are once names and
paths are found: pure data.
"""
