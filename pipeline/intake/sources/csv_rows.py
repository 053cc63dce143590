"""Rows of a CSV or TSV file with a header (RFC 4180), quotes and line breaks inside quotes included."""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from contracts.errors import BadSource
from contracts.excerpts import pointer_part, printable
from pipeline.intake.sources.casts import casts_for
from pipeline.intake.sources.lines import HEAD_BYTES, Line, physical_lines
from pipeline.intake.sources.rows import Limits, Parse, Piece, Problem

_TO_CLOSING_QUOTE = re.compile(rb'(?:[^"]++|"")*+"')


def cut_records(chunks: Iterator[bytes], *, start: int, limits: Limits, delimiter: str, name: str) -> Iterator[Piece]:
    """Yield a piece per record, the header first; blank lines are none.

    Raises BadSource at the end when a quote was left open: what follows it cannot be told apart.
    """
    # Process-wide, so it is only ever raised; the true limit is on the record.
    csv.field_size_limit(max(csv.field_size_limit(), limits.row_bytes))
    opening = delimiter.encode() + b'"'
    record: _Record | None = None
    for number, line in enumerate(physical_lines(chunks, start=start, limit=limits.row_bytes), 1):
        raw = line.raw
        if record is None:
            if b'"' not in raw and line.size_bytes == len(raw):
                body = raw.rstrip(b"\r\n")
                if body:
                    yield Piece(number, line.byte_offset, body, len(body), len(body) < len(raw))
                continue
            record = _Record(number, line.byte_offset, limits.row_bytes)
        record.add(line, opening)
        if not record.is_open:
            yield record.piece()
            record = None
    if record:
        yield record.piece()
        raise BadSource(
            f"{name} ends inside a quoted field: the quote opened in the row at line {record.line}, byte "
            f"{record.byte_offset} is never closed; nothing after it was taken as a row",
            hint=f"close or double the quote; look at it with: tail -c +{record.byte_offset + 1} FILE | head -c 300",
        )


class _Record:
    """A record with quotes, gathered line by line until they are closed."""

    def __init__(self, line: int, byte_offset: int, limit: int) -> None:
        self.line = line
        self.byte_offset = byte_offset
        self.limit = limit
        self.held = bytearray()
        self.size_bytes = 0
        self.is_open = False

    def add(self, line: Line, opening: bytes) -> None:
        is_first = not self.size_bytes
        self.size_bytes += line.size_bytes
        self.is_open = _is_left_open(line.raw, opening, is_open=self.is_open, is_first=is_first)
        if line.quotes_cut % 2:
            self.is_open = not self.is_open
        self.held += line.raw
        if self.size_bytes - 2 > self.limit:
            del self.held[HEAD_BYTES:]

    def piece(self) -> Piece:
        raw = bytes(self.held).rstrip(b"\r\n")
        size = self.size_bytes if self.size_bytes > len(self.held) else len(raw)
        return Piece(self.line, self.byte_offset, raw, size, len(raw) < len(self.held) and not self.is_open)


def _is_left_open(raw: bytes, opening: bytes, *, is_open: bool, is_first: bool) -> bool:
    """Say whether a quoted field goes on behind this line. A quote opens only where a field starts."""
    at = 0
    if is_first and raw.startswith(b'"'):
        at, is_open = 1, True
    while True:
        if is_open:
            closing = _TO_CLOSING_QUOTE.match(raw, at)
            if closing is None:
                return True
            at, is_open = closing.end(), False
        found = raw.find(opening, at)
        if found < 0:
            return False
        at, is_open = found + len(opening), True


def read_header(piece: Piece | None, *, delimiter: str, name: str, limits: Limits) -> list[str]:
    """Return the column names. Raises BadSource when they cannot name the fields of a row."""
    if piece is None:
        raise BadSource(f"{name} holds no rows: it is empty", hint="expected a header line and at least one row")
    if piece.size_bytes > limits.row_bytes:
        raise BadSource(f"the header of {name} is {piece.size_bytes} bytes: expected at most {limits.row_bytes}")
    fields = _fields(piece, delimiter)
    if isinstance(fields, Problem):
        raise BadSource(f"the header of {name} cannot be read: {fields.message}")
    for number, column in enumerate(fields, 1):
        if not column.strip():
            raise BadSource(
                f"column {number} of {name} has no name; the header is: {printable(', '.join(fields), 200)}",
                hint="expected a name for every column in the first line",
            )
    repeated = first_repeated(fields)
    if repeated is not None:
        raise BadSource(
            f"the header of {name} names '{printable(repeated)}' {fields.count(repeated)} times",
            hint="rename one of the columns: every name may be there once",
        )
    other = next((c for c in ";\t|," if c in fields[0] and c != delimiter), "") if len(fields) == 1 else ""
    if other:
        shown = "tabs" if other == "\t" else f"'{other}'"
        raise BadSource(
            f"{name} seems to separate its columns by {shown}: expected {'tabs' if delimiter != ',' else 'commas'}",
            hint="name a file with tabs .tsv, or convert it to commas",
        )
    return fields


def first_repeated(names: Sequence[str]) -> str | None:
    """Return the first name that is there more than once; None when all differ."""
    return next((name for name, times in Counter(names).items() if times > 1), None)


def record_parser(columns: list[str], casts: Mapping[str, str], *, delimiter: str, name: str, depth: int) -> Parse:
    """Return a parser from records to objects of `columns`, all text but for `casts`."""
    casted = casts_for(columns, casts, name=name)
    count = len(columns)

    def parse(piece: Piece) -> dict[str, Any] | Problem:
        fields = _fields(piece, delimiter)
        if isinstance(fields, Problem):
            return fields
        if len(fields) != count:
            if not piece.is_ended and len(fields) < count:
                place = f"in field {len(fields)} of {count}"
                return Problem("intake.truncated", "", f"the file ends inside this row, {place}")
            return Problem("intake.columns", "", f"expected {count} fields as in the header, got {len(fields)}")
        row: dict[str, Any] = dict(zip(columns, fields, strict=True))
        for column, cast in casted:
            if text := row[column]:
                value = cast(text, depth)
                if isinstance(value, Problem):
                    return value._replace(field=pointer_part(column) + value.field, at_byte=max(value.at_byte, 0))
                row[column] = value
            else:
                row[column] = None
        return row

    return parse


def _fields(piece: Piece, delimiter: str) -> list[str] | Problem:
    """Return the fields of a record as text."""
    try:
        text = piece.raw.decode()
    except UnicodeDecodeError as error:
        at = error.start
        place = f"the byte 0x{piece.raw[at]:02x} at byte {piece.byte_offset + at}"
        return Problem("intake.encoding", "", f"not UTF-8: {place}", at)
    if "\0" in text:
        at = piece.raw.index(b"\0")
        return Problem("intake.encoding", "", f"a NUL character at byte {piece.byte_offset + at}", at)
    if '"' not in text:
        return text.split(delimiter)
    try:
        return next(csv.reader((text,), delimiter=delimiter, strict=True))
    except csv.Error:
        if not piece.is_ended:
            return Problem("intake.truncated", "", "the file ends inside a quoted field of this row")
        return Problem("intake.columns", "", _misquoted(piece, delimiter))


def _misquoted(piece: Piece, delimiter: str) -> str:
    lines = piece.raw.count(b"\n") + 1
    over = f"; the quoted field spans {lines} lines, all rejected with it" if lines > 1 else ""
    comma = "a tab" if delimiter == "\t" else "a comma"
    return f"text after a closing quote: expected {comma} or the row's end (a quote inside quotes is doubled){over}"
