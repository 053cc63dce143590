"""Compressed sources: members, damage, cuts and bombs."""

import gzip
import io
import random

import pytest
from contracts.errors import BadSource
from pipeline.intake.sources import BadRow, Limits, Row, open_source
from pipeline.intake.sources.byte_stream import gunzip

LINES = [b'{"n":%d,"x":"%d"}\n' % (n, random.Random(n).getrandbits(200)) for n in range(20_000)]
PACKED = gzip.compress(b"".join(LINES), mtime=0)


def read(data: bytes, **options: object) -> tuple[list[Row | BadRow], str]:
    rows: list[Row | BadRow] = []
    try:
        with open_source("-", stdin=io.BytesIO(data), format="jsonl", **options) as source:  # type: ignore[arg-type]
            rows.extend(source.rows())
    except BadSource as error:
        return rows, error.message
    return rows, ""


def test_members_one_after_another_and_zero_padding_are_one_stream() -> None:
    data = gzip.compress(LINES[0]) + gzip.compress(b"") + gzip.compress(LINES[1]) + b"\0" * 1000

    rows, end = read(data)

    assert end == ""
    assert [row.byte_offset for row in rows] == [0, len(LINES[0])]


def test_a_stream_that_is_cut_off_gives_its_whole_rows_and_the_byte() -> None:
    rows, end = read(PACKED[: len(PACKED) // 2])

    assert 9_000 < len(rows) < 11_000
    assert all(isinstance(row, Row) for row in rows)
    assert f"is cut off: its gzip data ends at byte {len(PACKED) // 2}" in end


@pytest.mark.parametrize("cut", [3, 12, len(PACKED) - 8, len(PACKED) - 1])
def test_a_cut_is_seen_wherever_it_is(cut: int) -> None:
    assert "cut off" in read(PACKED[:cut])[1]


def test_damage_in_the_middle_gives_the_rows_before_it_and_the_byte() -> None:
    middle = len(PACKED) // 2
    damaged = PACKED[:middle] + b"\x00" * 64 + PACKED[middle + 64 :]

    rows, end = read(damaged)

    assert "is damaged gzip at byte" in end
    assert middle <= int(end.rsplit(" ", 1)[1]) <= len(PACKED)
    assert [row.value["n"] for row in rows[:9000] if isinstance(row, Row)] == list(range(9000))


def test_a_wrong_checksum_is_told_after_all_rows() -> None:
    rows, end = read(PACKED[:-8] + b"\0\0\0\0" + PACKED[-4:])

    assert len(rows) == 20_000
    assert "is damaged gzip at byte" in end


def test_garbage_after_the_last_member_is_told_with_its_byte() -> None:
    rows, end = read(PACKED + b"garbage")

    assert len(rows) == 20_000
    # The first two bytes of a member are judged together.
    assert end.endswith(f"is damaged gzip at byte {len(PACKED) + 1}")


def test_a_bomb_is_refused_long_before_it_is_unpacked() -> None:
    bomb = gzip.compress(b'{"n":"' + b"x" * 30_000_000)

    rows, end = read(bomb, limits=Limits(gzip_free_bytes=1_000_000))

    assert rows == []
    assert "decompresses to more than 200 times its size" in end


def test_uniform_rows_below_the_free_size_are_no_bomb() -> None:
    rows, end = read(gzip.compress(b'{"n":1}\n' * 100_000))

    assert (len(rows), end) == (100_000, "")


def test_a_bound_on_the_decompressed_size_holds() -> None:
    assert "decompresses to more than 100000 bytes" in read(PACKED, limits=Limits(decompressed_bytes=100_000))[1]


def test_gzip_inside_gzip_is_refused() -> None:
    assert "gzip inside gzip" in read(gzip.compress(PACKED))[1]


def test_no_piece_of_a_decompressed_stream_is_large() -> None:
    data = gzip.compress(b"x" * 20_000_000)

    sizes = [len(piece) for piece in gunzip(iter([data]), limits=Limits(), name="x")]

    assert sum(sizes) == 20_000_000
    assert max(sizes) <= 256 * 1024
