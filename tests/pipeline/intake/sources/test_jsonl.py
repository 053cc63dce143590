"""Lines of JSON: what is taken, and what each bad line gets."""

import io
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from contracts.errors import ROW_CODES
from pipeline.intake.sources import BadRow, Limits, Row, open_source
from pipeline.intake.sources.jsonl import cut_lines


def read(data: bytes, **options: object) -> list[Row | BadRow]:
    options.setdefault("format", "jsonl")
    with open_source("-", stdin=io.BytesIO(data), **options) as source:  # type: ignore[arg-type]
        return list(source.rows())


def the_bad_row(line: bytes, **options: object) -> BadRow:
    """Return what `line` gets between two good lines, both of which must come through."""
    first, bad, last = read(b'{"n":1}\n' + line + b'\n{"n":3}\n', **options)
    assert isinstance(first, Row)
    assert isinstance(last, Row)
    assert (first.value, last.value) == ({"n": 1}, {"n": 3})
    assert last.row_no == 3
    assert isinstance(bad, BadRow)
    assert (bad.row_no, bad.line, bad.byte_offset) == (2, 2, 8)
    assert bad.code in ROW_CODES
    assert bad.message.isprintable()
    assert bad.excerpt.isprintable()
    assert bad.field.isprintable()
    return bad


@pytest.mark.parametrize(
    ("line", "code", "field", "message"),
    [
        (b'{"a":nope}', "intake.json", "", "not valid JSON at byte 13: expecting value, got 'nope}'"),
        (b'{"a":1},', "intake.json", "", "not valid JSON at byte 15: expecting the end of the row, got ','"),
        (b'{"a":1}{"a":2}', "intake.json", "", "not valid JSON at byte 15: expecting the end of the row"),
        (b'{"a":"x\ty"}', "intake.json", "", "invalid control character at"),
        (b"[1,2]", "intake.not_object", "", "expected an object, got an array"),
        (b"null", "intake.not_object", "", "expected an object, got null"),
        (b'"x"', "intake.not_object", "", "expected an object, got a string"),
        (b"true", "intake.not_object", "", "got a boolean"),
        (b"12", "intake.not_object", "", "got a number"),
        (b'{"a":1,"a":1}', "intake.duplicate_key", "/a", "this key is there twice"),
        (b'{"b":{"c":[0,{"x":1,"y":2,"x":3}]}}', "intake.duplicate_key", "/b/c/1/x", "this key is there twice"),
        (rb'{"a":1,"\u0061":1}', "intake.duplicate_key", "/a", "this key is there twice"),
        (b'{"a":NaN}', "intake.number", "/a", "NaN is not a JSON number"),
        (b'{"a":[0,Infinity]}', "intake.number", "/a/1", "Infinity is not a JSON number"),
        (b'{"a":-Infinity}', "intake.number", "/a", "-Infinity is not a JSON number"),
        (b'{"a":{"b/c~":1e999}}', "intake.number", "/a/b~1c~0", "1e999 is too large for a number"),
        (b'{"a":-1e999}', "intake.number", "/a", "-1e999 is too large for a number"),
        (b'{"a":' + b"9" * 5000 + b"}", "intake.number", "/a", "an integer of 5000 digits: expected at most 4300"),
        (b'{"a":"\xff"}', "intake.encoding", "", "not UTF-8: the byte 0xff at byte 14"),
        (b'{"a":"\xed\xa0\x80"}', "intake.encoding", "", "not UTF-8: the byte 0xed at byte 14"),
        (rb'{"a":"x\u0000y"}', "intake.encoding", "/a", "the text holds the character NUL"),
        (rb'{"\u0000":1}', "intake.encoding", r"/\x00", "the key holds the character NUL"),
        (b'{"a":\x001}', "intake.encoding", "", "a NUL character at byte 13"),
        (b'{"a":"\x00"}', "intake.encoding", "", "a NUL character at byte 14"),
        (rb'{"a":["\ud83d"]}', "intake.encoding", "/a/0", r"holds \ud83d, half of a surrogate pair"),
        (rb'{"a":"\ude00\ud83d"}', "intake.encoding", "/a", "half of a surrogate pair"),
        (rb'{"a":"\ud83d\ud83d\ude00"}', "intake.encoding", "/a", "half of a surrogate pair"),
        (rb'{"a":"\ud83d\\\ude00"}', "intake.encoding", "/a", "half of a surrogate pair"),
        (rb'{"\uDC00":1}', "intake.encoding", r"/\udc00", "the key holds"),
    ],
)
def test_a_bad_line_is_rejected_with_code_and_place_and_the_next_ones_are_read(line: bytes, code: str, field: str, message: str) -> None:
    bad = the_bad_row(line)

    assert (bad.code, bad.field) == (code, field)
    assert message in bad.message


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (rb'{"a":"\ud83d\ude00"}', "😀"),
        (rb'{"a":"\\u0000"}', r"\u0000"),
        (rb'{"a":"\\ud800"}', r"\ud800"),
        (b'{"a":' + b"9" * 4300 + b"}", int("9" * 4300)),
        (b'{"a":18446744073709551616}', 2**64),
        (b' \t{"a":1} \t', 1),
        (b'{"a":"' + b"[" * 500 + b'"}', "[" * 500),
        (rb'{"a":"\"[[[\\"}', '"[[[\\'),
    ],
)
def test_what_looks_dangerous_and_is_not_is_taken_exactly(line: bytes, value: object) -> None:
    [row] = read(line + b"\n")

    assert isinstance(row, Row)
    assert row.value == {"a": value}
    assert type(row.value["a"]) is type(value)


def test_an_odd_value_before_a_syntax_error_is_still_one_reject() -> None:
    assert the_bad_row(b'{"a":NaN,').code == "intake.json"


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
def test_a_depth_of_100000_is_rejected_and_does_not_exhaust_the_stack(opening: bytes) -> None:
    bad = the_bad_row(b'{"a":' + opening * 100_000)

    assert (bad.code, bad.message) == ("intake.depth", "nested deeper than 100")


def test_depth_is_counted_exactly_at_the_limit() -> None:
    inside = 99
    [row] = read(b'{"a":' + b"[" * inside + b"]" * inside + b"}\n")
    assert isinstance(row, Row)

    assert the_bad_row(b'{"a":' + b"[" * (inside + 1) + b"]" * (inside + 1) + b"}").code == "intake.depth"


def test_many_shallow_arrays_are_not_deep() -> None:
    [row] = read(b'{"a":[' + b",".join([b'["[[["]'] * 1000) + b"]}\n")

    assert isinstance(row, Row)


def test_a_row_of_millions_of_empty_arrays_is_rejected_before_it_fills_the_memory() -> None:
    bad = the_bad_row(b'{"a":[' + b"[]," * 600_000 + b"1]}")

    assert (bad.code, bad.message) == ("intake.size", "more than 500000 objects and arrays in one row")


def test_a_line_over_the_limit_is_rejected_with_its_size() -> None:
    bad = the_bad_row(b'{"a":"' + b"x" * 2000 + b'"}', limits=Limits(row_bytes=1000))

    assert (bad.code, bad.message) == ("intake.size", "a row of 2008 bytes: expected at most 1000")
    assert bad.excerpt.startswith('{"a":"xxx')
    assert len(bad.excerpt) == 200


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
def test_a_line_of_exactly_the_limit_is_taken_whatever_ends_it(ending: bytes) -> None:
    line = b'{"a":"' + b"x" * 92 + b'"}'

    assert isinstance(read(line + ending, limits=Limits(row_bytes=100))[0], Row)
    assert isinstance(read(line + ending, limits=Limits(row_bytes=99))[0], BadRow)


class Endless(io.RawIOBase):
    """A stream that makes its bytes when they are asked for."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self.parts = parts

    def read(self, size: int = -1) -> bytes:
        return next(self.parts, b"")


def test_a_line_of_64_mebibytes_is_skipped_in_constant_memory() -> None:
    def parts() -> Iterator[bytes]:
        yield b'{"n":1}\n{"a":"'
        for _ in range(64):
            yield b"x" * 1024 * 1024
        yield b'"}\r\n{"n":3}\n'

    tracemalloc.start()
    try:
        with open_source("-", stdin=Endless(parts()), limits=Limits(row_bytes=1024 * 1024)) as source:  # type: ignore[arg-type]
            first, bad, last = source.rows()
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert isinstance(first, Row)
    assert isinstance(bad, BadRow)
    assert isinstance(last, Row)
    size = 64 * 1024 * 1024 + len('{"a":""}')
    assert bad.message == f"a row of {size} bytes: expected at most 1048576"
    assert (last.line, last.byte_offset) == (3, 8 + size + 2)
    assert peak_bytes < 8 * 1024 * 1024


def test_a_cut_off_last_line_is_told_from_a_wrong_one() -> None:
    def last_of(data: bytes) -> tuple[str, int]:
        last = read(data)[-1]
        assert isinstance(last, BadRow)
        return last.code, last.line

    assert last_of(b'{"n":1}\n{"n":') == ("intake.truncated", 2)
    assert last_of(b'{"n":1}\n{"n":"abc') == ("intake.truncated", 2)
    assert last_of('{"n":1}\n{"n":"é'.encode()[:-1]) == ("intake.truncated", 2)
    assert last_of(b'{"n":1}\n{"n":nope}') == ("intake.json", 2)
    assert last_of(b'{"n":1}\n{"n":"abc\n') == ("intake.json", 2)


def test_a_last_line_without_line_end_is_taken() -> None:
    assert [row.value for row in read(b'{"n":1}\n{"n":2}') if isinstance(row, Row)] == [{"n": 1}, {"n": 2}]


def test_mixed_line_ends_and_blank_lines_keep_numbers_and_offsets_right() -> None:
    data = b'{"n":1}\r\n\n  \t\n{"n":2}\r{"n":3}\n\r\n{"n":4}'

    rows = read(data)

    assert [(row.row_no, row.line) for row in rows] == [(1, 1), (2, 4), (3, 5), (4, 7)]
    for row in rows:
        assert isinstance(row, Row)
        cut = data[row.byte_offset : row.byte_offset + row.size_bytes]
        assert cut == b'{"n":%d}' % row.row_no


def test_a_carriage_return_and_its_line_feed_in_two_chunks_are_one_line_end() -> None:
    chunks = [b'{"n":1}\r', b'\n{"n":2}\r', b'{"n":3}\r', b"\n"]

    pieces = list(cut_lines(iter(chunks), start=0, limits=Limits()))

    assert [(piece.line, piece.byte_offset) for piece in pieces] == [(1, 0), (2, 9), (3, 17)]
    assert all(piece.is_ended for piece in pieces)


def test_a_byte_order_mark_is_dropped_and_counted_in_offsets() -> None:
    [row] = read(b'\xef\xbb\xbf{"n":1}\n')

    assert isinstance(row, Row)
    assert (row.value, row.byte_offset) == ({"n": 1}, 3)


def test_invalid_utf8_deep_in_a_file_names_the_byte() -> None:
    good = b'{"text":"' + b"x" * 1000 + b'"}\n'
    data = good * 1000 + b'{"text":"\xe9"}\n' + good * 10

    rows = read(data)
    bad = rows[1000]

    assert isinstance(bad, BadRow)
    assert bad.message == f"not UTF-8: the byte 0xe9 at byte {data.index(0xE9)}"
    assert sum(isinstance(row, Row) for row in rows) == 1010


def test_messages_and_excerpts_disarm_the_terminal_and_stay_short() -> None:
    attack = json.dumps("\x1b]0;owned\x07\u202egnp.exe\u2028\x9b2J" * 50, ensure_ascii=False).encode()

    bad = the_bad_row(b"{" + attack + b":1," + attack + b":1}")

    assert bad.code == "intake.duplicate_key"
    assert len(bad.field) <= 81
    assert len(bad.excerpt) <= 200
    assert r"\x1b" in bad.field
    assert r"\u202e" in bad.excerpt


def test_the_excerpt_shows_the_place_of_a_late_error() -> None:
    bad = the_bad_row(b'{"a":"' + b"x" * 5000 + b'","b":nope}')

    assert bad.excerpt.startswith("…x")
    assert '"b":nope}' in bad.excerpt


def test_rows_that_were_done_are_skipped_without_being_parsed_and_hashed_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"n":1}\nbroken\n{"n":3}\n{"n":4}\n')
    with open_source(str(path)) as source:
        everything = list(source.rows())
        whole = source.sha256

    for skip in range(4):
        with open_source(str(path)) as source:
            assert list(source.rows(skip=skip)) == everything[skip:]
            assert source.sha256 == whole
