"""Physical lines out of chunks of bytes, in constant memory whatever their length."""

from collections.abc import Iterator
from typing import NamedTuple

HEAD_BYTES = 1024
"""What is kept of a line or element over the limit, for the excerpt."""


class Line(NamedTuple):
    """One physical line with its end: a line feed, a carriage return, or the pair."""

    byte_offset: int
    raw: bytes
    """The head only, when the line is over the limit."""
    size_bytes: int
    """Of the whole line. Equals `len(raw)`, else the line is over the limit and its end is not counted."""
    quotes_cut: int
    """How many double quotes were in the part that is not in `raw`."""


def physical_lines(chunks: Iterator[bytes], *, start: int, limit: int) -> Iterator[Line]:
    """Yield every line of `chunks`; `start` is the offset of their first byte.

    A line of more than `limit` bytes arrives as its head and its size.
    """
    offset = start
    tail = _Tail(limit)
    for chunk in _whole_line_ends(chunks):
        lines = chunk.splitlines(keepends=True)
        last = lines.pop()
        if lines and tail.size_bytes:
            tail.add(lines[0])
            yield tail.take(offset)
            offset = tail.end_offset
            del lines[0]
        for raw in lines:
            size = len(raw)
            if size > limit:
                tail.add(raw)
                yield tail.take(offset)
            else:
                yield Line(offset, raw, size, 0)
            offset += size
        tail.add(last)
        if last.endswith((b"\n", b"\r")):
            yield tail.take(offset)
            offset = tail.end_offset
    if tail.size_bytes:
        yield tail.take(offset)


class _Tail:
    """The line that has begun and not ended: kept up to the limit, counted beyond."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = bytearray()
        self.size_bytes = 0
        self.quotes_cut = 0
        self.end_bytes = 0
        self.end_offset = 0

    def add(self, part: bytes) -> None:
        self.size_bytes += len(part)
        # Two bytes of grace are the line end, which is not the row's.
        if self.size_bytes - 2 <= self.limit:
            self.held += part
            return
        self.quotes_cut += self.held.count(b'"', HEAD_BYTES) + part.count(b'"', max(0, HEAD_BYTES - len(self.held)))
        self.held += part[:HEAD_BYTES]
        del self.held[HEAD_BYTES:]
        self.end_bytes = len(part) - len(part.rstrip(b"\r\n"))

    def take(self, offset: int) -> Line:
        """Return the line, which starts at `offset`, and hold nothing; `end_offset` is where the next one starts."""
        raw = bytes(self.held)
        size = self.size_bytes
        self.end_offset = offset + size
        line = Line(offset, raw, size if size == len(raw) else size - self.end_bytes, self.quotes_cut)
        self.held.clear()
        self.size_bytes = self.quotes_cut = 0
        return line


def _whole_line_ends(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the same bytes, never parting a carriage return from the line feed after it."""
    held = b""
    for chunk in chunks:
        whole = held + chunk if held else chunk
        held = b""
        if whole.endswith(b"\r"):
            whole, held = whole[:-1], b"\r"
        if whole:
            yield whole
    if held:
        yield held
