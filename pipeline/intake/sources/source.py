"""A file or stream of rows, opened, read once, and accounted for."""

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import chain
from types import TracebackType
from typing import BinaryIO, Self

from contracts.errors import BadInput, BadSource
from contracts.excerpts import excerpt
from pipeline.intake.sources.byte_stream import GZIP_MAGIC, RawBytes, gunzip, peek
from pipeline.intake.sources.csv_rows import cut_records, read_header, record_parser
from pipeline.intake.sources.formats import (
    HEAD_BYTES,
    UTF8_BOM,
    checked_format,
    format_by_name,
    refuse_other_bytes,
    settled_format,
)
from pipeline.intake.sources.json_array import cut_elements
from pipeline.intake.sources.json_text import parse_object
from pipeline.intake.sources.jsonl import cut_lines
from pipeline.intake.sources.opening import Fingerprint, Opened, open_raw
from pipeline.intake.sources.rows import BadRow, Limits, Parse, Piece, Problem, Row


class Source:
    """Rows in the order of the stream, each with its place, in memory that does not grow.

    A context manager; made by `open_source`.
    """

    def __init__(self, opened: Opened, *, declared: str | None, named: str | None, casts: Mapping[str, str], limits: Limits) -> None:
        self._opened = opened
        self._raw = RawBytes(opened)
        self._casts = casts
        self._limits = limits
        self._is_taken = False
        self._parser: Parse | None = None
        self.name = opened.name
        head, chunks = peek(iter(self._raw), len(GZIP_MAGIC))
        is_named_gzip = opened.name.lower().endswith(".gz")
        self.is_gzip = head.startswith(GZIP_MAGIC)
        if self.is_gzip:
            chunks = gunzip(chunks, limits=limits, name=self.name)
        head, chunks = peek(chunks, HEAD_BYTES, until=b"\n")
        refuse_other_bytes(head, name=self.name, is_named_gzip=is_named_gzip and not self.is_gzip)
        self._start = len(UTF8_BOM) if head.startswith(UTF8_BOM) else 0
        self.format = settled_format(head[self._start :], declared=declared, named=named, name=self.name)
        self._chunks = _without(chunks, self._start)

    @property
    def fingerprint(self) -> Fingerprint | None:
        """The file as it was when it was opened; None for a stream."""
        return self._opened.fingerprint

    @property
    def identity(self) -> str | None:
        """Equal for the same unchanged file read in the same way: what a killed intake knows its source by. None for a stream."""
        seen = self._opened.fingerprint
        if seen is None:
            return None
        casts = ",".join(f"{column}={kind}" for column, kind in sorted(self._casts.items()))
        return f"{seen.dev}:{seen.ino}:{seen.size_bytes}:{seen.mtime_ns} {self.format} {casts}".rstrip()

    @property
    def may_end_badly(self) -> bool:
        """True when the end of the source can say that all of it is unusable: a torn archive, an array or quote left open."""
        return self.is_gzip or self.format != "jsonl"

    @property
    def total_bytes(self) -> int | None:
        """Size of the raw file; None for a stream."""
        return self._opened.total_bytes

    @property
    def bytes_read(self) -> int:
        """Raw bytes read so far, at most a chunk ahead of the rows."""
        return self._raw.bytes_read

    @property
    def sha256(self) -> str | None:
        """Lower-case hex over all raw bytes; None before the last row was yielded and the stream checked."""
        return self._raw.sha256

    def rows(self, *, skip: int = 0) -> Iterator[Row | BadRow]:
        """Yield every row behind the first `skip`, which are read and hashed but not parsed.

        Raises BadSource, after the rows before it, where the stream as a whole cannot be read on; with the code
        `source.changed` when the file is no longer the one that was opened. One pass only.
        """
        row_no = 0
        limit = self._limits.row_bytes
        for row_no, piece in enumerate(self._cut(), 1):
            if row_no <= skip:
                continue
            parse = self._parser
            assert parse is not None
            size = piece.size_bytes
            value = parse(piece) if size <= limit else _oversize(size, limit)
            if isinstance(value, Problem):
                cut = excerpt(piece.raw, value.at_byte)
                yield BadRow(row_no, piece.line, piece.byte_offset, value.code, value.field, value.message, cut)
            else:
                yield Row(row_no, piece.line, piece.byte_offset, value, size)
        if skip > row_no:
            raise BadSource(
                f"{self.name} holds {row_no} rows, fewer than the {skip} already done: it is another file",
                code="source.changed",
            )

    def count_rows(self) -> int:
        """Read to the end and return how many rows there are, good and bad. Raises what `rows` raises, and parses none."""
        return sum(1 for _ in self._cut())

    def close(self) -> None:
        """Close the file, if it is ours."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _cut(self) -> Iterator[Piece]:
        """Yield the pieces of all rows, then see that the source was whole and is still the one that was opened."""
        if self._is_taken:
            raise BadInput(f"the rows of {self.name} were already read", hint="open it again for another pass")
        self._is_taken = True
        is_empty = True
        try:
            pieces, self._parser = self._cutter_and_parser()
            for piece in pieces:
                is_empty = False
                yield piece
            self._drain()
        except BadSource as error:
            self._refuse_changed(error)
            raise
        self._refuse_changed(None)
        if is_empty:
            raise BadSource(f"{self.name} holds no rows", hint="expected at least one row")

    def _cutter_and_parser(self) -> tuple[Iterator[Piece], Parse]:
        limits, start, name = self._limits, self._start, self.name
        if self.format == "jsonl":
            return cut_lines(self._chunks, start=start, limits=limits), partial(parse_object, depth=limits.depth)
        if self.format == "json":
            elements = cut_elements(self._chunks, start=start, limits=limits, name=name)
            return elements, partial(parse_object, depth=limits.depth)
        delimiter = "," if self.format == "csv" else "\t"
        records = cut_records(self._chunks, start=start, limits=limits, delimiter=delimiter, name=name)
        columns = read_header(next(records, None), delimiter=delimiter, name=name, limits=limits)
        return records, record_parser(columns, self._casts, delimiter=delimiter, name=name, depth=limits.depth)

    def _drain(self) -> None:
        """Read to the end what holds no rows, so that the hash covers every byte."""
        for _ in self._chunks:
            pass

    def _refuse_changed(self, cause: BadSource | None) -> None:
        if change := self._opened.change():
            raise BadSource(
                f"{self.name} changed while it was read: {change}",
                hint="wait until its writer is done, then run the same command again",
                code="source.changed",
            ) from cause


def open_source(
    path: str,
    *,
    format: str | None = None,  # noqa: A002  # the word that people type
    stdin: BinaryIO | None = None,
    casts: Mapping[str, str] | None = None,
    limits: Limits | None = None,
) -> Source:
    """Return the rows of a file, or of standard input for `-`, as JSONL, a JSON array, CSV or TSV, plain or gzip.

    `casts` gives CSV columns a type: int, number, bool, json, timestamp; JSON has its own types and ignores it.
    Raises BadSource when the source as a whole cannot be used.
    """
    declared = checked_format(format)
    opened = open_raw(path, stdin)
    named = format_by_name(path) if path != "-" else None
    try:
        return Source(opened, declared=declared, named=named, casts=casts or {}, limits=limits or Limits())
    except BaseException:
        opened.close()
        raise


def _without(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    """Return `chunks` less their first `count` bytes, all of which are in the first chunk."""
    if not count:
        return chunks
    first = next(chunks, b"")[count:]
    return chain([first] if first else [], chunks)


def _oversize(size_bytes: int, limit: int) -> Problem:
    return Problem("intake.size", "", f"a row of {size_bytes} bytes: expected at most {limit}")
