"""The language: from YAML text to what the engine works with.

``yaml_source`` reads text with positions, ``load`` checks it, ``spec_*`` are the frozen models of
the YAML, ``resolve`` makes ``definitions`` of them: pure data without names left to look up.
"""
