"""Find documents and read their text: git's rules, encodings, HTML, PDF."""

from __future__ import annotations

from merganser.documents.scanning import (
    INDEX_FOLDER,
    Document,
    DocumentText,
    Reason,
    Scan,
    Skipped,
    content_hash,
    read_document,
    scan_documents,
)

__all__ = [
    "INDEX_FOLDER",
    "Document",
    "DocumentText",
    "Reason",
    "Scan",
    "Skipped",
    "content_hash",
    "read_document",
    "scan_documents",
]
