"""The rejects file: whole lines, private, continued after a stop, never over somebody's data."""

import json
import os
import resource
import signal
import stat
from pathlib import Path

import pytest
from contracts.errors import BadInput, Refused
from pipeline.intake.sources import BadRow
from pipeline.intake.sources.rejects import RejectsFile


def bad(row_no: int) -> BadRow:
    return BadRow(row_no, row_no + 1, row_no * 100, "intake.json", "/ä", "no\x1b[31m", "{é")


def row_numbers(path: Path) -> list[int]:
    return [json.loads(line)["row_no"] for line in path.read_text().splitlines()]


def test_a_reject_is_one_line_of_ascii_with_every_field(tmp_path: Path) -> None:
    path = tmp_path / "rejects.jsonl"
    with RejectsFile(str(path)) as rejects:
        rejects.add(bad(7))

    assert path.read_bytes().isascii()
    assert path.read_bytes().count(b"\n") == 1
    assert json.loads(path.read_bytes()) == {
        "line": 8,
        "byte_offset": 700,
        "row_no": 7,
        "field": "/ä",
        "code": "intake.json",
        "message": "no\x1b[31m",
        "excerpt": "{é",
    }


def test_nothing_is_on_disk_before_a_flush_and_all_is_after_it(tmp_path: Path) -> None:
    path = tmp_path / "rejects.jsonl"
    with RejectsFile(str(path)) as rejects:
        rejects.add(bad(1))
        rejects.add(bad(2))
        assert path.read_bytes() == b""
        rejects.flush()
        assert row_numbers(path) == [1, 2]
        rejects.add(bad(3))
    assert row_numbers(path) == [1, 2, 3]


@pytest.mark.parametrize("mode", [None, 0o644])
def test_only_its_owner_may_read_it(tmp_path: Path, mode: int | None) -> None:
    path = tmp_path / "rejects.jsonl"
    if mode is not None:
        path.touch(mode)
    RejectsFile(str(path)).close()

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_resumed_run_keeps_what_was_done_and_drops_the_rest_and_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "rejects.jsonl"
    with RejectsFile(str(path)) as rejects:
        for row_no in (3, 5, 9):
            rejects.add(bad(row_no))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:20])

    with RejectsFile(str(path), after_row=5) as rejects:
        assert rejects.count == 2
        rejects.add(bad(9))
        rejects.add(bad(11))

    assert row_numbers(path) == [3, 5, 9, 11]


def test_a_torn_line_right_behind_the_kept_ones_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "rejects.jsonl"
    with RejectsFile(str(path)) as rejects:
        rejects.add(bad(3))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:20])

    RejectsFile(str(path), after_row=5).close()

    assert path.read_bytes() == whole


def test_a_new_run_replaces_the_rejects_of_an_old_one(tmp_path: Path) -> None:
    path = tmp_path / "rejects.jsonl"
    for row_no in (1, 2):
        with RejectsFile(str(path)) as rejects:
            rejects.add(bad(row_no))

    assert row_numbers(path) == [2]


@pytest.mark.parametrize("content", [b'{"n":1}\n', b"id,n\n", b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_holds_other_data_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    path.chmod(0o644)

    with pytest.raises(BadInput, match="it will not be overwritten"):
        RejectsFile(str(path))

    assert path.read_bytes() == content
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_places_that_cannot_hold_a_file_are_refused(tmp_path: Path) -> None:
    mode = os.stat("/dev/null").st_mode
    for path in (str(tmp_path), str(tmp_path / "no" / "where"), "/dev/null", "a\0b"):
        with pytest.raises(BadInput):
            RejectsFile(path)
    assert os.stat("/dev/null").st_mode == mode


def test_a_full_disk_leaves_whole_lines_and_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "rejects.jsonl"
    rejects = RejectsFile(str(path))
    rejects.add(bad(1))
    rejects.flush()
    before = path.read_bytes()
    old_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    old_signal = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 50, old_limit[1]))
    try:
        rejects.add(bad(2))
        with pytest.raises(Refused) as refused:
            rejects.flush()
        assert path.read_bytes() == before
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
        signal.signal(signal.SIGXFSZ, old_signal)
    rejects.close()

    assert "make room" in refused.value.hint
    assert row_numbers(path) == [1, 2]
