"""The one place that imports the optional, heavy and untyped libraries.

They come with the extras ``embedded`` and ``embedded-chat``. A missing one is an error that names
the extra, not a traceback.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from merganser.errors import MerganserError
from merganser.humanize import install_extra

_EXTRAS = {
    "gguf": "embedded-chat",
    "onnx": "embedded",
    "onnxruntime": "embedded",
    "safetensors": "embedded",
    "tokenizers": "embedded",
    "xllamacpp": "embedded-chat",
}


class MissingExtraError(MerganserError):
    """A library of an extra is not installed; the message says how to install it.

    Attributes:
        library: The import name.
        extra: The extra that brings it.
    """

    def __init__(self, library: str, extra: str) -> None:
        self.library = library
        self.extra = extra
        super().__init__(
            f"the embedded runner needs {library!r}, which is not installed; "
            f"run: {install_extra(extra)}"
        )


def load_library(name: str) -> Any:
    """Import an optional library or one of its modules.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        library = name.partition(".")[0]
        if error.name and error.name.partition(".")[0] != library:
            raise
        raise MissingExtraError(library, _EXTRAS.get(library, "embedded")) from error


def require_library(name: str) -> None:
    """Check that an optional library is installed, without importing it.

    Raises:
        MissingExtraError: It is not.
    """
    if find_spec(name) is None:
        raise MissingExtraError(name, _EXTRAS.get(name, "embedded"))
