"""Texts of models and users inside an artifact's Markdown: they are shown, and do nothing."""

from __future__ import annotations


def one_line(text: str) -> str:
    """Write a text so that it stays one line, also as a cell of a table."""
    return harmless(" ".join(text.split())).replace("|", "\\|")


def quoted(text: str) -> str:
    """Write a text as a block quote; it may have Markdown of its own."""
    return "\n".join(f"> {harmless(line)}".rstrip() for line in text.strip().splitlines())


def harmless(text: str) -> str:
    """Take images and HTML for what they are written as: showing one would fetch it."""
    return text.replace("<", "&lt;").replace("![", "!\\[")
