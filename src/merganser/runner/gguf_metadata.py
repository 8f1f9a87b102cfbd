"""Read what a GGUF file says of itself, without the tensors and without a library.

The reader of the ``gguf`` package builds an object for each of the 50,000 vocabulary entries (3.5 s
for a 98 MB model); this one steps over arrays (10 ms).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO, Final

if TYPE_CHECKING:
    from pathlib import Path

Scalar = str | int | float | bool

_SCALARS: Final = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
"""GGUF's value types by number, as struct codes; 8 is a string and 9 an array."""
_STRING: Final = 8
_ARRAY: Final = 9
_MAX_STRING_BYTES: Final = 1 << 20

FILE_TYPES: Final = {
    0: "F32", 1: "MOSTLY_F16", 2: "MOSTLY_Q4_0", 3: "MOSTLY_Q4_1", 7: "MOSTLY_Q8_0",
    8: "MOSTLY_Q5_0", 9: "MOSTLY_Q5_1", 10: "MOSTLY_Q2_K", 11: "MOSTLY_Q3_K_S",
    12: "MOSTLY_Q3_K_M", 13: "MOSTLY_Q3_K_L", 14: "MOSTLY_Q4_K_S", 15: "MOSTLY_Q4_K_M",
    16: "MOSTLY_Q5_K_S", 17: "MOSTLY_Q5_K_M", 18: "MOSTLY_Q6_K", 32: "MOSTLY_BF16",
}  # fmt: skip
"""``general.file_type`` by number, as llama.cpp names them."""


SYNTHETIC_KEY: Final = "merganser.synthetic"
"""Our own key in files whose weights were made up for tests."""


class NotGgufError(ValueError):
    """The file does not begin as a GGUF file does, or breaks off."""


def read_gguf_metadata(path: Path) -> dict[str, Scalar]:
    """Give the scalar metadata of a GGUF file; arrays are left out.

    Raises:
        NotGgufError: It is no GGUF file of version 2 or 3.
        OSError: It cannot be read.
    """
    with path.open("rb") as source:
        if source.read(4) != b"GGUF":
            raise NotGgufError(f"{path}: not a GGUF file")
        try:
            version, _tensors, count = _unpack(source, "IQQ")
            if version not in {2, 3}:
                raise NotGgufError(f"{path}: GGUF version {version} is not supported")
            return _read_pairs(source, count)
        except (struct.error, UnicodeDecodeError, KeyError) as error:
            raise NotGgufError(f"{path}: broken metadata: {error}") from error


def _read_pairs(source: BinaryIO, count: int) -> dict[str, Scalar]:
    found = dict[str, Scalar]()
    for _ in range(count):
        key = _read_string(source)
        (kind,) = _unpack(source, "I")
        if kind == _ARRAY:
            _skip_array(source)
        elif kind == _STRING:
            found[key] = _read_string(source)
        else:
            (found[key],) = _unpack(source, _SCALARS[kind])
    return found


def _unpack(source: BinaryIO, codes: str) -> tuple[int, ...]:
    layout = f"<{codes}"
    return struct.unpack(layout, source.read(struct.calcsize(layout)))


def _read_string(source: BinaryIO) -> str:
    (length,) = _unpack(source, "Q")
    if length > _MAX_STRING_BYTES:
        raise NotGgufError(f"a string of {length} bytes in the metadata")
    return source.read(length).decode("utf-8")


def _skip_array(source: BinaryIO) -> None:
    kind, count = _unpack(source, "IQ")
    if kind == _STRING:
        for _ in range(count):
            (length,) = _unpack(source, "Q")
            source.seek(length, 1)
    elif kind == _ARRAY:
        for _ in range(count):
            _skip_array(source)
    else:
        source.seek(count * struct.calcsize(f"<{_SCALARS[kind]}"), 1)
