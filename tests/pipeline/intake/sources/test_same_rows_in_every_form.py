"""Properties: the form of a file does not change its rows, and places lead back to them."""

import csv
import gzip
import io
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from contracts.errors import BadSource
from pipeline.intake.sources import BadRow, Limits, Row, open_source
from pipeline.intake.sources.csv_rows import cut_records
from pipeline.intake.sources.json_array import cut_elements
from pipeline.intake.sources.jsonl import cut_lines
from pipeline.intake.sources.rows import Piece

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
NUMBER = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUE = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)
ROWS = st.lists(st.dictionaries(TEXT, VALUE, max_size=4), min_size=1, max_size=8)
SIZES = st.integers(min_value=1, max_value=40)


def read(data: bytes, kind: str, *, skip: int = 0) -> list[Row | BadRow]:
    with open_source("-", stdin=io.BytesIO(data), format=kind) as source:
        return list(source.rows(skip=skip))


def chunks_of(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def lines_of(rows: list[dict[str, Any]], *, is_ascii: bool, end: str) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=is_ascii) + end for row in rows).encode()


@given(ROWS, st.booleans(), st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from([None, 1]))
def test_lines_array_and_gzip_hold_the_same_rows(rows: list[dict[str, Any]], is_ascii: bool, end: str, indent: int | None) -> None:
    lines = lines_of(rows, is_ascii=is_ascii, end=end)
    array = json.dumps(rows, ensure_ascii=is_ascii, indent=indent).encode()

    for data, kind in ((lines, "jsonl"), (array, "json")):
        plain = read(data, kind)
        assert plain == read(gzip.compress(data), kind)
        assert [row.value for row in plain if isinstance(row, Row)] == rows
        for row in plain:
            assert isinstance(row, Row)
            assert json.loads(data[row.byte_offset : row.byte_offset + row.size_bytes]) == row.value
            if kind == "json":
                assert row.line == 1 + data[: row.byte_offset].count(b"\n")


@given(ROWS, st.integers(min_value=0, max_value=8))
def test_resuming_behind_any_row_gives_the_rest(rows: list[dict[str, Any]], skip: int) -> None:
    skip = min(skip, len(rows))
    lines = lines_of(rows, is_ascii=False, end="\n")
    array = json.dumps(rows).encode()

    assert read(lines, "jsonl", skip=skip) == read(lines, "jsonl")[skip:]
    assert read(array, "json", skip=skip) == read(array, "json")[skip:]


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=8), st.sampled_from(["\n", "\r\n"]), st.booleans(), SIZES)
def test_csv_fields_come_back_as_they_were_written(records: list[tuple[str, str]], end: str, is_quoted: bool, size: int) -> None:
    out = io.StringIO(newline="")
    # The writer leaves a lone carriage return bare, where it is a line end to every reader.
    is_quoted = is_quoted or any("\r" in field for record in records for field in record)
    writer = csv.writer(out, lineterminator=end, quoting=csv.QUOTE_ALL if is_quoted else csv.QUOTE_MINIMAL)
    writer.writerow(["a", "b"])
    writer.writerows(records)
    data = out.getvalue().encode()

    rows = read(data, "csv")

    assert [row.value for row in rows if isinstance(row, Row)] == [{"a": a, "b": b} for a, b in records]
    for row in rows:
        assert isinstance(row, Row)
        cut = data[row.byte_offset : row.byte_offset + row.size_bytes].decode()
        assert next(csv.reader([cut])) == list(row.value.values())
    limits = Limits(row_bytes=64)
    whole = list(cut_records(iter([data]), start=0, limits=limits, delimiter=",", name="x"))
    parts = list(cut_records(iter(chunks_of(data, size)), start=0, limits=limits, delimiter=",", name="x"))
    assert [piece._replace(raw=b"") for piece in parts] == [piece._replace(raw=b"") for piece in whole]


@settings(max_examples=300)
@given(st.text('{}[]",:\\ \n\ra1', max_size=60), SIZES, st.sampled_from([8, 1000]))
def test_no_text_upsets_the_cutters_wherever_it_is_split(text: str, size: int, limit: int) -> None:
    data = ("[" + text).encode()
    limits = Limits(row_bytes=limit)

    def outline(pieces: Iterator[Piece]) -> tuple[list[tuple[int, int, int]], str]:
        found: list[tuple[int, int, int]] = []
        try:
            for piece in pieces:
                is_whole = piece.size_bytes <= limit
                assert not is_whole or data[piece.byte_offset :].startswith(piece.raw)
                found.append((piece.line, piece.byte_offset, piece.size_bytes if is_whole else -1))
        except BadSource as error:
            return found, error.message
        return found, ""

    def cut(chunks: list[bytes]) -> list[object]:
        return [
            outline(cut_lines(iter(chunks), start=0, limits=limits)),
            outline(cut_elements(iter(chunks), start=0, limits=limits, name="x")),
            outline(cut_records(iter(chunks), start=0, limits=limits, delimiter=",", name="x")),
        ]

    assert cut(chunks_of(data, size)) == cut([data])
