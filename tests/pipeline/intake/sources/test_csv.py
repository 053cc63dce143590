"""CSV and TSV: headers, quotes, casts, and what a bad record gets."""

import csv
import io

import pytest
from contracts.errors import BadInput, BadSource
from pipeline.intake.sources import BadRow, Limits, Row, open_source


def read(data: bytes, **options: object) -> list[Row | BadRow]:
    options.setdefault("format", "csv")
    with open_source("-", stdin=io.BytesIO(data), **options) as source:  # type: ignore[arg-type]
        return list(source.rows())


def values(rows: list[Row | BadRow]) -> list[object]:
    return [row.value if isinstance(row, Row) else row.code for row in rows]


def test_columns_without_a_declared_type_stay_text() -> None:
    assert values(read(b"id,n\r\n007,1.50\r\n,\r\n")) == [{"id": "007", "n": "1.50"}, {"id": "", "n": ""}]


def test_quotes_hold_commas_quotes_and_line_ends_and_places_stay_right() -> None:
    data = b'id,body\n1,"a,b"\n2,"say ""hi""\r\nand\nbye"\n\n3,5" pipe\n4,""\n'

    rows = read(data)

    assert values(rows) == [
        {"id": "1", "body": "a,b"},
        {"id": "2", "body": 'say "hi"\r\nand\nbye'},
        {"id": "3", "body": '5" pipe'},
        {"id": "4", "body": ""},
    ]
    assert [row.line for row in rows] == [2, 3, 7, 8]
    for row in rows:
        assert isinstance(row, Row)
        cut = data[row.byte_offset : row.byte_offset + row.size_bytes].decode()
        assert next(csv.reader([cut])) == list(row.value.values())


def test_tabs_separate_a_tsv() -> None:
    assert values(read(b'id\tbody\n1\ta,"b\n2\t"x\ty"\n', format="tsv")) == [
        {"id": "1", "body": 'a,"b'},
        {"id": "2", "body": "x\ty"},
    ]


@pytest.mark.parametrize(
    ("record", "code", "message"),
    [
        (b"1", "intake.columns", "expected 2 fields as in the header, got 1"),
        (b"1,2,3", "intake.columns", "expected 2 fields as in the header, got 3"),
        (b'1,"a"b', "intake.columns", "text after a closing quote"),
        (b'1,"a\n2,"b",c', "intake.columns", "the quoted field spans 2 lines, all rejected with it"),
        (b"1,\xff", "intake.encoding", "not UTF-8: the byte 0xff at byte 15"),
        (b'1,"\xff"', "intake.encoding", "not UTF-8: the byte 0xff at byte 16"),
        (b"1,\x00", "intake.encoding", "a NUL character at byte 15"),
        (b"1," + b"x" * 2000, "intake.size", "a row of 2002 bytes: expected at most 1000"),
        (b'1,"' + b"x\n" * 1000 + b'"', "intake.size", "a row of"),
        (b'1,"' + b"x" * 600_000 + b"\n" + b'y"', "intake.size", "a row of"),
        (b"x" * 600_000 + b',"\n\n,"', "intake.size", "a row of 600006 bytes"),
    ],
)
def test_a_bad_record_is_rejected_and_the_next_ones_are_read(record: bytes, code: str, message: str) -> None:
    data = b"id,body\n0,a\n" + record + b"\n9,z\n"

    first, bad, last = read(data[:8] + b" " + data[8:], limits=Limits(row_bytes=1000))

    assert isinstance(first, Row)
    assert isinstance(last, Row)
    assert isinstance(bad, BadRow)
    assert bad.code == code
    assert message in bad.message
    assert (bad.row_no, bad.line, bad.byte_offset) == (2, 3, 13)
    assert last.value == {"id": "9", "body": "z"}
    assert last.line == 4 + record.count(b"\n")


def test_a_quote_that_is_never_closed_rejects_its_row_and_stops_with_its_place() -> None:
    rows: list[Row | BadRow] = []
    data = b'id,body\n1,a\n2,"b\n3,c\n4,d\n'

    with open_source("-", stdin=io.BytesIO(data), format="csv") as source, pytest.raises(BadSource) as refused:
        for row in source.rows():
            rows.append(row)

    assert values(rows) == [{"id": "1", "body": "a"}, "intake.truncated"]
    assert "the quote opened in the row at line 3, byte 12 is never closed" in refused.value.message
    assert refused.value.exit_code == 2


def test_a_last_record_that_is_cut_off_is_told_from_a_short_one() -> None:
    assert values(read(b"a,b,c\n1,2,3\n4,5")) == [{"a": "1", "b": "2", "c": "3"}, "intake.truncated"]
    assert values(read(b"a,b,c\n1,2\n4,5,6"))[0] == "intake.columns"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"id,body\n", "holds no rows"),
        (b"id,body", "holds no rows"),
        (b"id,,body\n1,2,3\n", "column 2 of standard input has no name"),
        (b"id, \n1,2\n", "column 2 of standard input has no name"),
        (b"id,id\n1,2\n", "names 'id' 2 times"),
        (b'"id\n1,2\n', "the header of standard input cannot be read"),
        (b"id;body\n1;2\n", "seems to separate its columns by ';': expected commas"),
        (b"id\tbody\n1\t2\n", "seems to separate its columns by tabs"),
        (b"id,\xffbody\n1,2\n", "not UTF-8: the byte 0xff at byte 3"),
        (b"id," + b"x" * 2000 + b"\n1,2\n", "the header of standard input is 2003 bytes: expected at most 1000"),
    ],
)
def test_a_header_that_cannot_name_the_fields_is_refused_before_any_row(data: bytes, message: str) -> None:
    limits = Limits(row_bytes=1000)
    with (
        open_source("-", stdin=io.BytesIO(data), format="csv", limits=limits) as source,
        pytest.raises(BadSource) as refused,
    ):
        next(source.rows())

    assert message in refused.value.message


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("int", "-12", -12),
        ("int", "12345678901234567890123", 12345678901234567890123),
        ("number", "12", 12),
        ("number", "-3.5e2", -350.0),
        ("bool", "true", True),
        ("bool", "false", False),
        ("json", '"{""a"":[1,null]}"', {"a": [1, None]}),
        ("json", '" [1] "', [1]),
        ("timestamp", "2024-02-29T08:00:00Z", "2024-02-29T08:00:00Z"),
        ("timestamp", "2024-02-29 08:00:00.123456789+05:30", "2024-02-29 08:00:00.123456789+05:30"),
        ("int", "", None),
        ("json", "", None),
    ],
)
def test_a_declared_type_is_exact_and_empty_is_null(kind: str, text: str, value: object) -> None:
    [row] = read(f"id,x\n1,{text}\n".encode(), casts={"x": kind})

    assert isinstance(row, Row)
    assert row.value == {"id": "1", "x": value}
    assert type(row.value["x"]) is type(value)


@pytest.mark.parametrize(
    ("kind", "text", "code", "field"),
    [
        ("int", "007", "intake.cast", "/x~1y"),
        ("int", "1.0", "intake.cast", "/x~1y"),
        ("int", " 1", "intake.cast", "/x~1y"),
        ("int", "١", "intake.cast", "/x~1y"),
        ("int", "9" * 5000, "intake.number", "/x~1y"),
        ("number", "1e999", "intake.number", "/x~1y"),
        ("number", "NaN", "intake.number", "/x~1y"),
        ("number", "1_000", "intake.cast", "/x~1y"),
        ("number", "true", "intake.cast", "/x~1y"),
        ("number", "[1]", "intake.cast", "/x~1y"),
        ("bool", "True", "intake.cast", "/x~1y"),
        ("bool", "no", "intake.cast", "/x~1y"),
        ("bool", "1", "intake.cast", "/x~1y"),
        ("json", "nope", "intake.cast", "/x~1y"),
        ("json", '"{""a"":1,""a"":2}"', "intake.duplicate_key", "/x~1y/a"),
        ("json", "[" * 101 + "]" * 101, "intake.depth", "/x~1y"),
        ("timestamp", "2024-02-30T00:00:00Z", "intake.cast", "/x~1y"),
        ("timestamp", "2023-02-29T00:00:00Z", "intake.cast", "/x~1y"),
        ("timestamp", "2024-01-01T24:00:00Z", "intake.cast", "/x~1y"),
        ("timestamp", "2024-01-01T00:00:00", "intake.cast", "/x~1y"),
        ("timestamp", "2024-01-01", "intake.cast", "/x~1y"),
        ("timestamp", "0000-01-01T00:00:00Z", "intake.cast", "/x~1y"),
        ("timestamp", "yesterday", "intake.cast", "/x~1y"),
    ],
)
def test_a_field_that_does_not_fit_its_type_is_rejected_with_its_column(kind: str, text: str, code: str, field: str) -> None:
    bad, good = read(f"id,x/y\n1,{text}\n2,\n".encode(), casts={"x/y": kind})

    assert isinstance(bad, BadRow)
    assert isinstance(good, Row)
    assert (bad.code, bad.field) == (code, field)
    assert "{byte}" not in bad.message
    assert len(bad.message) < 160


def test_a_cast_error_says_what_was_needed_and_what_was_there() -> None:
    bad, _ = read(b"id,at\n1,2024-02-30T00:00:00Z\n2,\n", casts={"at": "timestamp"})

    assert isinstance(bad, BadRow)
    assert bad.message == "expected a date and time that exists, got '2024-02-30T00:00:00Z'"


@pytest.mark.parametrize(
    ("casts", "message"),
    [({"nope": "int"}, "has no column 'nope'"), ({"id": "integer"}, "expected one of int, number, bool")],
)
def test_a_cast_for_a_column_or_type_that_is_not_there_is_refused(casts: dict[str, str], message: str) -> None:
    with pytest.raises(BadInput) as refused:
        read(b"id,n\n1,2\n", casts=casts)

    assert message in refused.value.message


def test_a_field_longer_than_the_csv_module_takes_by_default_is_read() -> None:
    body = "x" * 200_000

    [row] = read(f'id,body\n1,"{body},"\n'.encode())

    assert isinstance(row, Row)
    assert row.value["body"] == body + ","


def test_a_byte_order_mark_is_not_part_of_the_first_name() -> None:
    [row] = read(b"\xef\xbb\xbfid,n\r\n1,2\r\n")

    assert isinstance(row, Row)
    assert (row.value, row.byte_offset) == ({"id": "1", "n": "2"}, 9)
