"""What a source yields, and the limits that it keeps."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Row:
    """One row that could be read. `value` is not yet validated against a contract."""

    row_no: int
    """From 1, over all data rows, rejected ones included."""
    line: int
    """Physical line on which the row starts, from 1."""
    byte_offset: int
    """Offset of the row's first byte in the decompressed stream."""
    value: dict[str, Any]
    size_bytes: int
    """Length of the row in the decompressed stream, without its line end."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """One row that is rejected, with its place. All texts are printable and short."""

    row_no: int
    line: int
    byte_offset: int
    code: str
    """One of `contracts.errors.ROW_CODES`."""
    field: str
    """JSON pointer into the row; empty for the row as a whole."""
    message: str
    excerpt: str


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one source may ask of this process."""

    row_bytes: int = 16 * MEBIBYTE
    depth: int = 100
    """Nested objects and arrays, the row itself counted."""
    gzip_ratio: int = 200
    """Decompressed bytes per compressed byte, looked at beyond `gzip_free_bytes`."""
    gzip_free_bytes: int = 64 * MEBIBYTE
    decompressed_bytes: int | None = None
    """Of the whole stream; None sets no bound but the ratio."""


class Problem(NamedTuple):
    """Why one row is rejected, before its place in the file is known."""

    code: str
    field: str
    message: str
    at_byte: int = 0
    """Where in the row the excerpt should look."""


class Piece(NamedTuple):
    """The bytes of one row, cut out of the stream and not yet parsed."""

    line: int
    byte_offset: int
    raw: bytes
    """Only the head of the row when `size_bytes` is over the limit."""
    size_bytes: int
    is_ended: bool
    """False when the stream ended before the row's end was seen."""


Parse = Callable[[Piece], "dict[str, Any] | Problem"]
"""Turns a piece within the size limit into a row's value, or says why not."""
