"""How the server reads model references: the server's half of the naming rules.

The client's ``canonical`` matches what a server answers; these functions are what the server does
with what a client sends (model-runner.md section 2). They are kept apart on purpose: the one is
checked against the other by the conformance suite.
"""

from __future__ import annotations

import re

DEFAULT_REGISTRY = "docker.io"

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|[0-9a-f]{64}|[0-9a-f]{12}")
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:[/:@][A-Za-z0-9][A-Za-z0-9._-]*)*")
_DOCKER_ALIASES = ("index.docker.io/", "registry-1.docker.io/")


def is_valid(reference: str) -> bool:
    """Tell whether the text can be a model's name or id at all."""
    return _REFERENCE.fullmatch(reference.strip()) is not None


def is_digest(reference: str) -> bool:
    """Tell whether the reference is a model id: 12 or 64 hex digits, or ``sha256:`` and 64."""
    return _DIGEST.fullmatch(reference) is not None


def normalize(reference: str) -> str:
    """Complete a reference: default organisation, lower-case name, default tag.

    Ids are returned unchanged; they are looked up in the store.
    """
    name = reference.strip()
    if name.startswith("hf.co/"):
        name = "huggingface.co/" + name.removeprefix("hf.co/")
    if not name or is_digest(name):
        return name
    tag = ""
    if name.rfind(":") > name.rfind("/"):
        name, _, tag = name.rpartition(":")
    if "/" not in name:
        name = f"ai/{name}"
    return f"{name.lower()}:{tag or 'latest'}"


def qualify(reference: str) -> str:
    """Give the fully qualified tag as the store keeps it, ``docker.io/ai/qwen3:latest``."""
    name = normalize(reference)
    if not name or is_digest(name):
        return name
    for alias in _DOCKER_ALIASES:
        if name.startswith(alias):
            name = f"{DEFAULT_REGISTRY}/{name.removeprefix(alias)}"
    registry = name.partition("/")[0]
    if "." in registry or ":" in registry or registry == "localhost":
        return name
    return f"{DEFAULT_REGISTRY}/{name}"


def shorten(reference: str) -> str:
    """Give what people write, ``ai/qwen3:latest``: the qualified tag without our registry."""
    return qualify(reference).removeprefix(f"{DEFAULT_REGISTRY}/")


def bare_name(reference: str) -> str:
    """Give the last part of the name without its tag: ``qwen3`` of ``ai/qwen3:latest``."""
    return shorten(reference).rpartition("/")[2].partition(":")[0]
