"""Which files are opened at all, and how each refusal reads."""

import errno
import gzip
import hashlib
import io
import os
import socket
from pathlib import Path

import pytest
from contracts.errors import BadInput, BadSource
from pipeline.intake.sources import Row, open_source

ROWS = b'{"n":1}\n{"n":2}\n'


def refusal(path: str | Path, **options: object) -> BadSource:
    with pytest.raises(BadSource) as refused, open_source(str(path), **options) as source:  # type: ignore[arg-type]
        list(source.rows())
    assert refused.value.exit_code == 2
    return refused.value


def stream_refusal(data: bytes, **options: object) -> BadSource:
    return refusal("-", stdin=io.BytesIO(data), **options)


def test_a_missing_file_says_where_it_was_looked_for(tmp_path: Path) -> None:
    error = refusal(tmp_path / "none.jsonl")

    assert "none.jsonl does not exist" in error.message
    assert os.getcwd() in error.hint


def test_directories_pipes_sockets_and_devices_are_refused_and_never_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    link = tmp_path / "link.jsonl"
    link.symlink_to(pipe)
    place = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        assert "is a socket: expected a regular file" in refusal(place).message
    assert "is a directory" in refusal(tmp_path).message
    assert "is a named pipe" in refusal(pipe).message
    assert "is a named pipe" in refusal(link).message
    assert "is a device" in refusal("/dev/zero").message
    assert "shopfloor intake - --flow FLOW <" in refusal("/dev/null").hint


def test_a_symbolic_link_is_followed_to_a_file_and_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(ROWS)
    good, broken, loop = (tmp_path / name for name in ("good.jsonl", "broken.jsonl", "loop.jsonl"))
    good.symlink_to("rows.jsonl")
    broken.symlink_to("gone.jsonl")
    loop.symlink_to("loop.jsonl")

    with open_source(str(good)) as source:
        assert len(list(source.rows())) == 2
    assert "is a symbolic link to gone.jsonl, which does not exist" in refusal(broken).message
    assert "leads back to itself" in refusal(loop).message


def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(ROWS)
    path.chmod(0)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        error = refusal(path)
    finally:
        if is_root:
            os.seteuid(0)

    assert "may not be read by this user" in error.message


def test_names_that_no_file_can_have_are_refused() -> None:
    assert "holds a NUL character" in refusal("a\0b").message
    assert "cannot be opened" in refusal("x" * 5000).message


def test_a_file_name_cannot_control_the_terminal(tmp_path: Path) -> None:
    assert refusal(tmp_path / "a\x1b[2J\u202e.jsonl").message.isprintable()


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf", b" \n\n", gzip.compress(b"", mtime=0)])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.txt", "rows.jsonl.gz"])
def test_a_file_without_rows_is_refused(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)

    assert "empty" in refusal(path).message


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", ['{"n":1}\n', "id,n\n1,2\n"])
def test_other_encodings_are_named_with_the_command_that_converts_them(codec: str, text: str) -> None:
    error = stream_refusal(text.encode(codec), format="csv")

    assert f"is {codec[:6].upper()}" in error.message
    assert f"iconv -f {codec[:6].upper()} -t UTF-8" in error.hint


@pytest.mark.parametrize(
    ("magic", "kind", "command"),
    [(b"PK\x03\x04", "zip", "unzip -p"), (b"\x28\xb5\x2f\xfd", "zstd", "zstd -dc"), (b"PAR1", "Parquet", "export")],
)
def test_other_containers_are_named_with_what_to_type(magic: bytes, kind: str, command: str) -> None:
    error = stream_refusal(magic + b"abcdefgh", format="jsonl")

    assert kind in error.message
    assert command in error.hint


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.jsonl", b'{"n":1}\n', "jsonl"),
        ("a.NDJSON", b'{"n":1}\n', "jsonl"),
        ("a.json", b' [{"n":1}]', "json"),
        ("a.json", b'{"n":1}\n{"n":2}\n', "jsonl"),
        ("a.csv", b"n\n1\n", "csv"),
        ("a.tsv", b"n\tm\n1\t2\n", "tsv"),
        ("a", b'\xef\xbb\xbf[{"n":1}]', "json"),
        ("a.txt", b'\n{"n":1}\n', "jsonl"),
    ],
)
@pytest.mark.parametrize("is_packed", [False, True])
def test_the_format_comes_from_the_name_and_else_from_the_first_bytes(
    tmp_path: Path, name: str, data: bytes, kind: str, is_packed: bool
) -> None:
    path = tmp_path / (name + ".gz" * is_packed)
    for content in (gzip.compress(data), data) if is_packed else (data, gzip.compress(data)):
        path.write_bytes(content)
        with open_source(str(path)) as source:
            assert source.format == kind
            assert isinstance(next(source.rows()), Row)


@pytest.mark.parametrize(
    ("name", "data", "message", "hint"),
    [
        ("a.json", b'{"n":1}\n', "is a single object", "an array of objects, or one object per line"),
        ("a.json", b'{\n "n":1\n}\n', "is a single object", "one object per line"),
        ("a.json", b'"text"', "is no array: it begins with '\"text\"'", "an array of objects"),
        ("a.json", b"12", "is no array", "an array of objects"),
        ("a.jsonl", b'{\n "n":1\n}\n', "is an object over several lines", "jq -c"),
        ("a.jsonl", b'[\n {"n":1}\n]\n', "is an array over several lines", "name it .json"),
        ("a", b'{\n "n":1\n}\n', "is an object over several lines", "jq -c"),
        ("a.csv", b'{"n":1}\n', "is named .csv and holds JSON", "rename it to .jsonl"),
        ("a.txt", b"id,n\n1,2\n", "does not say what it is", "give its format: jsonl, json, csv, tsv"),
        ("a.jsonl.gz", b"\x00\x01\x02garbage", "is named .gz and is neither gzip nor text", "gzip -t"),
    ],
)
def test_what_is_no_stream_of_rows_is_refused_with_what_to_do(tmp_path: Path, name: str, data: bytes, message: str, hint: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)

    error = refusal(path)

    assert message in error.message
    assert hint in error.hint


def test_an_unknown_format_is_refused_with_the_known_ones() -> None:
    assert "the format 'xml' is unknown: expected one of jsonl, json" in stream_refusal(ROWS, format="xml").message


def test_ndjson_is_another_word_for_jsonl() -> None:
    with open_source("-", stdin=io.BytesIO(ROWS), format="ndjson") as source:
        assert source.format == "jsonl"


def test_standard_input_that_is_a_terminal_is_refused() -> None:
    leader, follower = os.openpty()
    with os.fdopen(leader, "rb", buffering=0), os.fdopen(follower, "rb", buffering=0) as terminal:
        error = refusal("-", stdin=terminal)

    assert "standard input is a terminal" in error.message


def test_rows_of_a_pipe_arrive_before_its_writer_is_done() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stdin, os.fdopen(writing, "wb", buffering=0) as writer:
        writer.write(b'{"n":1}\n')
        with open_source("-", stdin=stdin) as source:
            rows = source.rows()
            assert isinstance(next(rows), Row)
            writer.write(b'{"n":2}\n{"n":')
            assert isinstance(next(rows), Row)
            writer.write(b"3}")
            writer.close()
            assert [row.row_no for row in rows] == [3]
            assert (source.total_bytes, source.fingerprint) == (None, None)
        assert not stdin.closed


def test_a_file_on_standard_input_is_watched_like_one_with_a_name(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(ROWS)

    with path.open("rb") as stdin, open_source("-", stdin=stdin) as source, pytest.raises(BadSource) as refused:
        assert source.total_bytes == len(ROWS)
        for _ in source.rows():
            grow(path)

    assert refused.value.instance_code == "source.changed"


class Unreadable(io.RawIOBase):
    """A stream on a disk that fails behind the first bytes."""

    def __init__(self) -> None:
        self.good = [ROWS]

    def read(self, size: int = -1) -> bytes:
        if self.good:
            return self.good.pop()
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_disk_that_fails_gives_the_rows_before_and_the_byte() -> None:
    rows = []
    with open_source("-", stdin=Unreadable()) as source, pytest.raises(BadSource) as refused:  # type: ignore[arg-type]
        for row in source.rows():
            rows.append(row)

    assert len(rows) == 2
    assert "cannot be read at byte 16: Input/output error" in refused.value.message


def test_a_file_that_begins_with_nothing_but_blanks_is_refused() -> None:
    assert "begins with 65536 blank bytes" in stream_refusal(b" " * 100_000 + ROWS).message


def test_the_hash_is_known_after_the_last_row_and_covers_every_raw_byte(tmp_path: Path) -> None:
    data = gzip.compress(b'[{"n":1},{"n":2}]  \n') + b"\0" * 512
    path = tmp_path / "rows.json.gz"
    path.write_bytes(data)

    with open_source(str(path)) as source:
        assert source.total_bytes == len(data)
        list(source.rows())
        assert source.sha256 == hashlib.sha256(data).hexdigest()
        assert source.bytes_read == len(data)


def test_the_rows_of_a_source_are_read_once(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(ROWS)
    with open_source(str(path)) as source:
        list(source.rows())
        with pytest.raises(BadInput, match="already read"):
            next(source.rows())


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b'{"n":3}\n')


def replace(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(path.read_bytes())
    other.rename(path)


def touch(path: Path) -> None:
    os.utime(path, ns=(0, 0))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (grow, "it was 16 bytes and is 24"),
        (replace, "another file has its name"),
        (touch, "it was written to"),
        (Path.unlink, "it is gone"),
    ],
)
def test_a_file_that_changes_while_it_is_read_is_told_at_the_end(tmp_path: Path, change: object, words: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(ROWS)

    with open_source(str(path)) as source, pytest.raises(BadSource) as refused:
        for row in source.rows():
            if row.row_no == 1:
                change(path)  # type: ignore[operator]

    assert refused.value.instance_code == "source.changed"
    assert words in refused.value.message


def test_a_resumed_source_with_fewer_rows_than_were_done_is_another_file() -> None:
    with open_source("-", stdin=io.BytesIO(ROWS)) as source, pytest.raises(BadSource) as refused:
        list(source.rows(skip=3))

    assert refused.value.instance_code == "source.changed"
    assert "holds 2 rows, fewer than the 3 already done" in refused.value.message
