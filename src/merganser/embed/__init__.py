"""Embed many texts well: what is sent, how much at a time, and by whom in a run."""

from __future__ import annotations

from merganser.embed.embedder import Embedder
from merganser.embed.service import EmbedService

__all__ = ["EmbedService", "Embedder"]
