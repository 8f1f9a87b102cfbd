"""URLs as they may be shown and stored."""

from __future__ import annotations


def without_credentials(url: str) -> str:
    """Drop ``user:password@`` from a URL, with or without scheme, for messages."""
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    host, slash, path = rest.partition("/")
    return scheme + separator + host.rpartition("@")[2] + slash + path
