"""One JSON array: cut element by element, recovered after a broken one."""

import io
import json

import pytest
from contracts.errors import BadSource
from pipeline.intake.sources import BadRow, Limits, Row, open_source
from pipeline.intake.sources.json_array import cut_elements

Found = tuple[list[Row | BadRow], str]


def read(data: bytes, **options: object) -> Found:
    """Return the rows, and the message with which the source ended; empty for a good end."""
    rows: list[Row | BadRow] = []
    with open_source("-", stdin=io.BytesIO(data), **options) as source:  # type: ignore[arg-type]
        try:
            rows.extend(source.rows())
        except BadSource as error:
            return rows, error.message
    return rows, ""


def outline(rows: list[Row | BadRow]) -> list[object]:
    return [row.value if isinstance(row, Row) else row.code for row in rows]


def test_elements_come_with_line_and_offset() -> None:
    data = b'\n [ {"n": 1},\n  {"n": [2, {"m": "],"}]}\n,\n\n{"n":\n3} ]\n \n'

    rows, end = read(data)

    assert end == ""
    assert [(row.row_no, row.line) for row in rows] == [(1, 2), (2, 3), (3, 6)]
    for row in rows:
        assert isinstance(row, Row)
        assert json.loads(data[row.byte_offset : row.byte_offset + row.size_bytes]) == row.value


@pytest.mark.parametrize(
    ("element", "code"),
    [
        (b'{"a": nope}', "intake.json"),
        (b'{"a":1]', "intake.json"),
        (b'{"a":1} {"b":2}', "intake.json"),
        (b"}", "intake.json"),
        (b"", "intake.json"),
        (b'{"a":1,"a":2}', "intake.duplicate_key"),
        (b'{"a":NaN}', "intake.number"),
        (b'{"a":"\xff"}', "intake.encoding"),
        (rb'{"a":"\ud800"}', "intake.encoding"),
        (b"17", "intake.not_object"),
        (b"[1,[2]]", "intake.not_object"),
        (b'"x,y]"', "intake.not_object"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "intake.depth"),
        (b'{"a":"' + b"x" * 600_000 + b'"}', "intake.size"),
        (b'{"a":[' + b"[],\n" * 150_000 + b"[]]}", "intake.size"),
    ],
)
def test_a_broken_element_is_rejected_and_the_next_ones_are_read(element: bytes, code: str) -> None:
    data = b'[{"n":1},\n' + element + b',\n{"n":3}]'

    rows, end = read(data, limits=Limits(row_bytes=500_000))

    assert end == ""
    assert outline(rows) == [{"n": 1}, code, {"n": 3}]
    assert rows[1].byte_offset == 10 or not element
    assert rows[2].byte_offset == len(data) - 8
    assert rows[2].line == 3 + element.count(b"\n")


def test_a_trailing_comma_is_one_rejected_element() -> None:
    rows, end = read(b'[{"n":1},]')

    assert (outline(rows), end) == ([{"n": 1}, "intake.json"], "")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'[{"n":1},{"n":', [{"n": 1}, "intake.truncated"]),
        (b'[{"n":1},{"n":"x', [{"n": 1}, "intake.truncated"]),
        (b'[{"n":1},{"n":"x\\', [{"n": 1}, "intake.truncated"]),
        (b'[{"n":1},{"n":2}', [{"n": 1}, {"n": 2}]),
        (b'[{"n":1},', [{"n": 1}]),
        (b'[{"n":1}, {"n":2, {"n":3}]', [{"n": 1}, "intake.json"]),
    ],
)
def test_an_array_that_is_not_closed_gives_its_rows_and_then_says_where_it_stops(data: bytes, expected: list[object]) -> None:
    rows, end = read(data)

    assert outline(rows) == expected
    assert f"ends at byte {len(data)} inside the array" in end


def test_an_element_over_the_limit_that_never_ends_is_counted_not_kept() -> None:
    rows, end = read(b'[{"n":"' + b"x" * 900_000, limits=Limits(row_bytes=1000))

    [bad] = rows
    assert isinstance(bad, BadRow)
    assert (bad.code, bad.message) == ("intake.size", "a row of 900006 bytes: expected at most 1000")
    assert "inside the array" in end


def test_what_follows_the_array_is_refused_with_its_place() -> None:
    rows, end = read(b'[{"n":1}]\n\n[{"n":2}]')

    assert outline(rows) == [{"n": 1}]
    assert "goes on after its array ended: expected the end of the file at byte 11, line 3" in end


def test_an_empty_array_is_refused() -> None:
    assert read(b" [ ] \n") == ([], "standard input holds no rows")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_where_the_stream_is_cut_into_chunks_changes_nothing(size: int) -> None:
    data = b'\n[ {"n":"a\\"],\\\\"}, [1,[2]] ,{"n":{"m":[{"o":[{"p":[[[]]]}]}]}},nope,\n{"n":4}  ]  \n'
    whole = list(cut_elements(iter([data]), start=0, limits=Limits(), name="x"))

    chunks = [data[at : at + size] for at in range(0, len(data), size)]

    assert list(cut_elements(iter(chunks), start=0, limits=Limits(), name="x")) == whole
    assert len(whole) == 5
