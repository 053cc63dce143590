"""Rows of one JSON array, cut at its commas without being parsed.

The cut elements go through the same strict reader as lines do, which gives offsets, duplicate keys and recovery after a
broken element for free. An incremental parser knows places only between its own events and stops at the first error.
"""

import re
from collections.abc import Iterator

from contracts.errors import BadSource
from pipeline.intake.sources.lines import HEAD_BYTES
from pipeline.intake.sources.rows import Limits, Piece

_NESTED_IN_ONE_MATCH = 4


# Classes that say what they take: `re` scans those in two thirds of the time that the negated ones need.
_IN_STRING = rb"[\x00-!#-\[\]-\xff]"
_OUTSIDE = rb"[\x00-!#-Z\\^-z|~-\xff]"
_STRING_REST_PATTERN = _IN_STRING + rb"*+(?:\\." + _IN_STRING + rb"*+)*+"


def _balanced(levels: int) -> bytes:
    inside = rb'"' + _STRING_REST_PATTERN + rb'"|' + _OUTSIDE + rb"++"
    if levels:
        inside += rb"|" + _balanced(levels - 1)
    return rb"[{\[](?:" + inside + rb")*+[}\]]"


# Possessive throughout: a try costs one pass over the element, never a search through ways to fail.
_ELEMENT = re.compile(rb"[ \t\r\n]*+(" + _balanced(_NESTED_IN_ONE_MATCH) + rb")[ \t\r\n]*+([,\]])", re.DOTALL)
_WHITE = re.compile(rb"[ \t\r\n]*+")
_STRUCTURAL = re.compile(rb'["{}\[\],]')
_BRACKET_OR_QUOTE = re.compile(rb'["{}\[\]]')
_STRING_REST = re.compile(_STRING_REST_PATTERN, re.DOTALL)


def cut_elements(chunks: Iterator[bytes], *, start: int, limits: Limits, name: str) -> Iterator[Piece]:
    """Yield a piece per element of the array, broken ones included; `start` is the offset of the first byte.

    Raises BadSource at the end when the array is not closed, or something follows it.
    """
    scan = _Scan(chunks, start, limits.row_bytes)
    scan.enter()
    while True:
        match = _ELEMENT.match(scan.buffer, scan.at)
        if match:
            first = match.start(1)
            line = scan.line_at(first)
            scan.at = match.end()
            yield scan.piece(line, scan.base + first, match[1], scan.at - 1 - first, is_ended=True)
            closing = match[2] == b"]"
        else:
            # Nested deeper, broken, empty, or not wholly in the buffer.
            piece, end = scan.slowly()
            closing = end == b"]"
            if piece.size_bytes or (end and (scan.after_comma or not closing)):
                yield piece
            if not end:
                raise BadSource(
                    f"{name} ends at byte {scan.base + scan.at} inside the array: expected a comma or ']' after what "
                    f"starts at line {piece.line}, byte {piece.byte_offset}",
                    hint="complete the file, or write one object per line (.jsonl) so that every row can be found",
                )
        if closing:
            break
        scan.after_comma = True
    if scan.skip_white():
        raise BadSource(
            f"{name} goes on after its array ended: expected the end of the file at byte {scan.base + scan.at}, line "
            f"{scan.line_at(scan.at)}",
            hint="put all rows into one array, or write one object per line (.jsonl)",
        )


class _Scan:
    """A moving window over the stream, which starts before the array's first bracket."""

    def __init__(self, chunks: Iterator[bytes], start: int, limit: int) -> None:
        self.chunks = chunks
        self.limit = limit
        self.buffer = b""
        self.at = 0
        """Where reading goes on, in the buffer."""
        self.base = start
        """Offset in the stream of the buffer's first byte."""
        self.after_comma = False
        self._line = 1
        self._counted = 0

    def line_at(self, place: int) -> int:
        """Return the physical line of a place at or behind the last one asked for."""
        self._line += self.buffer.count(b"\n", self._counted, place)
        self._counted = place
        return self._line

    def enter(self) -> None:
        """Stand behind the bracket that opens the array."""
        self.skip_white()
        self.at += 1

    def skip_white(self) -> bool:
        """Stand on the next byte that is not white space; say whether there is one."""
        while True:
            match = _WHITE.match(self.buffer, self.at)
            self.at = match.end() if match else self.at
            if self.at < len(self.buffer):
                return True
            if not self.more(self.at):
                return False

    def more(self, keep: int) -> bool:
        """Drop what is before `keep`, add to the rest, say whether there was more. `at` stays on its byte."""
        self.line_at(max(keep, self._counted))
        parts = [self.buffer[keep:]]
        # A pipe gives little at a time: a large element that grew by each gift would be copied thousands of times.
        wanted_bytes = max(1, len(parts[0]) // 4)
        while wanted_bytes > 0 and (chunk := next(self.chunks, b"")):
            parts.append(chunk)
            wanted_bytes -= len(chunk)
        self.buffer = b"".join(parts)
        self.base += keep
        self.at -= keep
        self._counted -= keep
        return len(parts) > 1

    def slowly(self) -> tuple[Piece, bytes]:
        """Return the next element and the comma or bracket after it, which is empty at the end of the stream."""
        self.skip_white()
        line, offset = self.line_at(self.at), self.base + self.at
        head = b""
        depth = 0
        in_string = False
        first = self.at
        while True:
            place, depth, in_string = self._to_separator(depth, in_string=in_string)
            if place >= 0:
                break
            # Over the limit only the head is kept and the rest counted.
            if self.at - first > self.limit or head:
                head = head or self.buffer[first : first + HEAD_BYTES]
                has_more = self.more(self.at)
                first = self.at
            else:
                has_more = self.more(first)
                first = 0
            if not has_more:
                place = self.at = len(self.buffer)
                break
        raw = head or self.buffer[first:place].rstrip(b" \t\r\n")
        end = self.buffer[place : place + 1]
        self.at = place + len(end)
        return self.piece(line, offset, raw, self.base + place - offset, is_ended=bool(end)), end

    def piece(self, line: int, offset: int, raw: bytes, span_bytes: int, *, is_ended: bool) -> Piece:
        """Return a piece. The limit is on its span, which reaches to the separator: white space takes memory too."""
        return Piece(line, offset, raw, span_bytes if span_bytes > self.limit else len(raw), is_ended)

    def _to_separator(self, depth: int, *, in_string: bool) -> tuple[int, int, bool]:
        """Move `at` to where the buffer ends or the element does; return that place or -1, and where we stand."""
        buffer, at = self.buffer, self.at
        place = -1
        while True:
            if in_string:
                rest = _STRING_REST.match(buffer, at)
                at = rest.end() if rest else at
                # Short of a quote: the end of the buffer, or a backslash whose other half is in the next chunk.
                if buffer[at : at + 1] != b'"':
                    break
                at += 1
                in_string = False
            token = (_BRACKET_OR_QUOTE if depth else _STRUCTURAL).search(buffer, at)
            if token is None:
                at = len(buffer)
                break
            byte = token[0]
            if byte == b'"':
                in_string = True
            elif byte in b"{[":
                depth += 1
            elif depth:
                depth -= 1
            elif byte != b"}":
                place = token.start()
                break
            at = token.end()
        self.at = at if place < 0 else place
        return place, depth, in_string
