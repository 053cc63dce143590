"""The bytes of a source: read in chunks, hashed as they are, decompressed with a bound."""

import hashlib
import sys
import zlib
from collections.abc import Iterator
from itertools import chain

from contracts.errors import BadSource
from pipeline.intake.sources.opening import Opened
from pipeline.intake.sources.rows import Limits

CHUNK_BYTES = 256 * 1024
GZIP_MAGIC = b"\x1f\x8b"
_FEED_BYTES = 64 * 1024
_GZIP_HEADER = 16 + zlib.MAX_WBITS
_GUNZIP_HINT = "type: gzip -t FILE; then fetch or compress it again"


class RawBytes:
    """All bytes of an opened source, once, with their hash."""

    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        self.bytes_read = 0
        self.is_exhausted = False
        self._hash = hashlib.sha256()
        # Of a pipe, what is there now is better than a full chunk later.
        self._read = getattr(opened.stream, "read1", opened.stream.read)
        # Of a file, no more than it was: one that is written to all the time would have no end.
        self._left_bytes = sys.maxsize if opened.total_bytes is None else opened.total_bytes

    @property
    def sha256(self) -> str | None:
        """Lower-case hex over all raw bytes; None until the last was read."""
        return self._hash.hexdigest() if self.is_exhausted else None

    def __iter__(self) -> Iterator[bytes]:
        while True:
            try:
                chunk = self._read(min(CHUNK_BYTES, self._left_bytes))
            except OSError as error:
                raise BadSource(f"{self.opened.name} cannot be read at byte {self.bytes_read}: {error.strerror}") from error
            if not chunk:
                self.is_exhausted = True
                return
            self._hash.update(chunk)
            self.bytes_read += len(chunk)
            self._left_bytes -= len(chunk)
            yield chunk


def peek(chunks: Iterator[bytes], size_bytes: int, *, until: bytes | None = None) -> tuple[bytes, Iterator[bytes]]:
    """Return the first `size_bytes` of a stream, and the stream as it was.

    The head is shorter when the stream is, or when it holds `until` behind its leading white space: a pipe whose
    first line is there may say nothing more for an hour.
    """
    head = bytearray()
    while len(head) < size_bytes and not (until and until in head.lstrip()) and (chunk := next(chunks, b"")):
        head += chunk
    return bytes(head[:size_bytes]), chain([bytes(head)] if head else [], chunks)


def gunzip(chunks: Iterator[bytes], *, limits: Limits, name: str) -> Iterator[bytes]:
    """Yield what `chunks` of gzip decompress to, over all members, never more than `CHUNK_BYTES` at a time.

    Raises BadSource, after all that could be decompressed, where the stream is damaged, cut off or a bomb.
    """
    member = zlib.decompressobj(_GZIP_HEADER)
    taken = given = 0
    for chunk in chunks:
        for place in range(0, len(chunk), _FEED_BYTES):
            pending = chunk[place : place + _FEED_BYTES]
            out = b""
            # A full answer may leave more inside zlib although all input was taken.
            while pending or (len(out) == CHUNK_BYTES and not member.eof):
                if member.eof:
                    # Padding with zeros is usual on tapes; anything else must be another member.
                    stripped = pending.lstrip(b"\0")
                    taken += len(pending) - len(stripped)
                    pending = stripped
                    if not pending:
                        break
                    member = zlib.decompressobj(_GZIP_HEADER)
                # A failing call keeps what it had decompressed to itself, so it is repeated byte by byte from here.
                before = member.copy()
                try:
                    out = member.decompress(pending, CHUNK_BYTES)
                except zlib.error:
                    rescued, at_byte = _until_damage(before, pending)
                    if rescued:
                        yield rescued
                    raise BadSource(f"{name} is damaged gzip at byte {taken + at_byte}", hint=_GUNZIP_HINT) from None
                left = member.unused_data if member.eof else member.unconsumed_tail
                taken += len(pending) - len(left)
                given += len(out)
                _refuse_bomb(taken, given, limits, name)
                pending = left
                if out:
                    yield out
    if not member.eof:
        raise BadSource(f"{name} is cut off: its gzip data ends at byte {taken} before its end mark", hint=_GUNZIP_HINT)


def _until_damage(member: "zlib._Decompress", data: bytes) -> tuple[bytes, int]:
    """Return what `data` decompresses to before the first damaged byte, and where that byte is in it."""
    out = []
    for place in range(len(data)):
        try:
            out.append(member.decompress(data[place : place + 1]))
        except zlib.error:
            return b"".join(out), place
    return b"".join(out), len(data)


def _refuse_bomb(taken: int, given: int, limits: Limits, name: str) -> None:
    if given > limits.gzip_free_bytes and given > limits.gzip_ratio * taken:
        raise BadSource(
            f"{name} decompresses to more than {limits.gzip_ratio} times its size ({given} bytes from {taken}): "
            f"refused as a likely gzip bomb",
            hint="if the data is meant to be so uniform, decompress it yourself and give the plain file",
        )
    if limits.decompressed_bytes is not None and given > limits.decompressed_bytes:
        raise BadSource(
            f"{name} decompresses to more than {limits.decompressed_bytes} bytes",
            hint="split the file and give its parts",
        )
