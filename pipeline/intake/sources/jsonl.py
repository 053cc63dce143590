"""Rows of a file that holds one JSON object per line."""

from collections.abc import Iterator

from pipeline.intake.sources.lines import physical_lines
from pipeline.intake.sources.rows import Limits, Piece


def cut_lines(chunks: Iterator[bytes], *, start: int, limits: Limits) -> Iterator[Piece]:
    """Yield a piece per line that is not blank."""
    for number, (offset, raw, size, _) in enumerate(physical_lines(chunks, start=start, limit=limits.row_bytes), 1):
        if size > len(raw):
            yield Piece(number, offset, raw, size, True)
            continue
        body = raw.rstrip(b"\r\n")
        if body.strip(b" \t"):
            yield Piece(number, offset, body, len(body), len(body) < size)
