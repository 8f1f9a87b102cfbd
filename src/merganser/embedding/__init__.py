"""Embed many texts well: what is sent, how much at a time, and by whom in a run."""

from __future__ import annotations

from merganser.embedding.embedder import Embedder
from merganser.embedding.service import EmbedService

__all__ = ["EmbedService", "Embedder"]
