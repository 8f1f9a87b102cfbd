"""Chunk documents along a syntax tree, headings, or running text."""

from __future__ import annotations

from merganser.chunking.chunks import CHUNKER_VERSION, Chunk, ChunkingOptions, chunk_document

__all__ = ["CHUNKER_VERSION", "Chunk", "ChunkingOptions", "chunk_document"]
