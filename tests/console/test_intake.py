"""intake: every bad file refused whole, every bad row with its place, and what the options promise."""

import gzip
import json
import os
import pty
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contracts.errors import ROW_CODES
from pipeline.startup.compose import Shop
from tests.in_process import Result, issue, merged
from tests.intake_processes import as_lines, batches, environment, item, reference_floor, written
from tests.reviews import person

Cli = Callable[..., Result]
ROWS = as_lines([issue(1), merged(2, fixes=1), issue(3)])
ARRAY = b"[" + b",".join(json.dumps(row).encode() for row in (issue(1), issue(2))) + b"]"


def refused(result: Result, exit_code: int = 2) -> str:
    """Return what a refusal said, after seeing that it is one: no accident, no traceback, nothing on stdout."""
    assert result.exit_code == exit_code, (result.exit_code, result.stdout, result.stderr)
    assert "Traceback" not in result.stderr
    assert "accident" not in result.stderr
    assert result.stdout == ""
    return result.stderr


def a_zip_bomb() -> bytes:
    pressed = zlib.compressobj(9, wbits=31)
    member = pressed.compress(b'{"pad": "' + b" " * (4 << 20) + b'"}\n') + pressed.flush()
    return member * 20  # 80 MB in 80 KB


BAD_FILES: dict[str, tuple[str, bytes, str]] = {
    "empty": ("empty.jsonl", b"", "is empty"),
    "blank": ("blank.jsonl", b"\n \n\t\n", "blank"),
    "header only": ("header.csv", b"id,title\n", "holds no rows"),
    "column twice": ("twice.csv", b"id,title,id\n1,a,2\n", "names 'id' 2 times"),
    "column without a name": ("unnamed.csv", b"id,,title\n1,a,b\n", "column 2"),
    "other delimiter": ("semicolon.csv", b"id;title\n1;a\n", "separate its columns by ';'"),
    "UTF-16": ("wide.jsonl", ROWS.decode().encode("utf-16"), "is UTF-16LE"),
    "UTF-16 without a mark": ("wide.jsonl", ROWS.decode().encode("utf-16-le"), "is UTF-16LE"),
    "UTF-32": ("wider.jsonl", ROWS.decode().encode("utf-32"), "is UTF-32LE"),
    "zip": ("rows.jsonl", b"PK\x03\x04rest", "a zip archive"),
    "sqlite": ("rows.jsonl", b"SQLite format 3\x00rest", "an SQLite database"),
    "gzip cut off": ("rows.jsonl.gz", gzip.compress(ROWS * 50)[:-20], "cut off"),
    "gzip damaged": ("rows.jsonl.gz", gzip.compress(ROWS * 50)[:90] + b"\0\0\0\0" + gzip.compress(ROWS * 50)[94:], "damaged gzip"),
    "gzip bomb": ("bomb.jsonl.gz", a_zip_bomb(), "gzip bomb"),
    "gzip in gzip": ("rows.jsonl.gz", gzip.compress(gzip.compress(ROWS)), "gzip inside gzip"),
    "named gzip and is not": ("rows.jsonl.gz", b"\x00\x01\x02\x03", "neither gzip nor text"),
    "array cut off": ("rows.json", ARRAY[:-30], "inside the array"),
    "array goes on": ("rows.json", ARRAY + b"[]", "goes on after its array ended"),
    "empty array": ("rows.json", b"[ ]", "holds no rows"),
    "one object": ("rows.json", b'{"number": 1}', "a single object"),
    "object over lines": ("rows.jsonl", b'{\n"number": 1\n}\n', "over several lines"),
    "quote never closed": ("rows.csv", b'id,title\n1,a\n2,"b\n3,c\n', "never closed"),
    "no known kind": ("rows.dat", b"some text\n", "does not say what it is"),
}


def test_every_bad_file_is_refused_whole(cli: Cli, shop: Shop, tmp_path: Path) -> None:
    answers = {}
    for name, (file, data, _) in BAD_FILES.items():
        path = tmp_path / file
        path.write_bytes(data)
        answers[name] = refused(cli("intake", str(path)))
    assert {name: said for name, said in answers.items() if BAD_FILES[name][2] not in said} == {}
    assert batches(shop) == []


def test_what_is_not_a_regular_file_is_refused_at_once(cli: Cli, shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.jsonl").symlink_to(tmp_path / "loop.jsonl")
    for name, said in {
        "folder.jsonl": "is a directory",
        "pipe.jsonl": "is a named pipe",
        "link.jsonl": "is a symbolic link to",
        "loop.jsonl": "leads back to itself",
        "missing.jsonl": "does not exist",
        "x" * 300: "cannot be opened",
        "/dev/zero": "is a device",
    }.items():
        assert said in refused(cli("intake", str(tmp_path / name), timeout=20)), name
    assert batches(shop) == []


def test_a_link_to_a_file_is_that_file(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "real.jsonl").write_bytes(ROWS)
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "real.jsonl")
    assert cli("intake", str(tmp_path / "link.jsonl"), "--json").json["accepted"] == 3


def test_what_only_looks_odd_is_read_like_the_plain_file(cli: Cli, tmp_path: Path) -> None:
    for name, data in {
        "mark.jsonl": b"\xef\xbb\xbf" + ROWS,
        "crlf.jsonl": ROWS.replace(b"\n", b"\r\n"),
        "mixed.jsonl": ROWS.replace(b"\n", b"\r\n", 1),
        "open.jsonl": ROWS.rstrip(b"\n"),
        "rows.jsonl.gz": gzip.compress(ROWS),
        "array.json": b"[" + b",\n".join(ROWS.splitlines()) + b"]\n",
    }.items():
        (tmp_path / name).write_bytes(data)
        found = cli("intake", str(tmp_path / name), "--dry-run", "--json")
        assert (found.exit_code, found.json["accepted"], found.json["context"]) == (0, 3, 1), name


def changed(number: int, old: str, new: str) -> bytes:
    text = json.dumps(issue(number))
    assert old in text
    return text.replace(old, new, 1).encode()


BAD_ROWS: list[tuple[bytes, str, str]] = [
    (b"this is not JSON", "intake.json", ""),
    (b"[1, 2]", "intake.not_object", ""),
    (b'"text"', "intake.not_object", ""),
    (b"null", "intake.not_object", ""),
    (changed(10, '"comments": 0', '"comments": NaN'), "intake.number", "/comments"),
    (changed(11, '"comments": 0', '"comments": -Infinity'), "intake.number", "/comments"),
    (changed(12, '"comments": 0', '"comments": 1e999'), "intake.number", "/comments"),
    (changed(13, '"comments": 0', '"comments": ' + "9" * 5000), "intake.number", "/comments"),
    (changed(14, '"comments": 0', '"comments": 0, "comments": 1'), "intake.duplicate_key", "/comments"),
    (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "intake.depth", ""),
    (changed(15, "It stands still.", "\\u0000"), "intake.encoding", "/body"),
    (changed(16, "It stands still.", "\\ud800"), "intake.encoding", "/body"),
    (changed(17, "It stands still.", "XX").replace(b"XX", b"\xff\xfe"), "intake.encoding", ""),
    (b'{"pad": "' + b"x" * (17 << 20) + b'"}', "intake.size", ""),
    (changed(18, '"state": "open"', '"state": 7'), "intake.type", "/state"),
    (changed(19, '"state": "open"', '"state": "ajar"'), "intake.value", "/state"),
    (changed(20, '"updated_at": "2025-01-02T00:00:00Z"', '"updated_at": "2025-02-30T00:00:00Z"'), "intake.value", "/updated_at"),
    (json.dumps({"number": 21}).encode(), "intake.required", "/state"),
    (b"{}", "intake.required", "/number"),
    (b'{"number": 22, "title": "cut o', "intake.truncated", ""),
]


def test_every_bad_row_is_rejected_with_its_place_and_the_rest_is_taken_in(cli: Cli, shop: Shop, tmp_path: Path) -> None:
    lines = [json.dumps(issue(1)).encode()]
    for row, _, _ in BAD_ROWS:
        lines += [row, json.dumps(issue(1000 + len(lines))).encode()]
    lines.pop()  # the last bad row is one that the file ends in
    data = b"\n".join(lines)
    path, rejects = tmp_path / "rows.jsonl", tmp_path / "rejects.jsonl"
    path.write_bytes(data)

    result = cli("intake", str(path), "--rejects", str(rejects), "--json")

    assert result.exit_code == 0, result.stderr
    found = result.json
    assert (found["rows"], found["rejected"], found["duplicate"]) == (len(lines), len(BAD_ROWS), 0)
    assert found["accepted"] == len(lines) - len(BAD_ROWS)
    told = [json.loads(line) for line in rejects.read_text(encoding="ascii").splitlines()]
    assert [(one["code"], one["field"]) for one in told] == [(code, field) for _, code, field in BAD_ROWS]
    for one, (row, _, _) in zip(told, BAD_ROWS, strict=True):
        assert one["code"] in ROW_CODES
        assert data[one["byte_offset"] :].startswith(row[:100])
        assert data.count(b"\n", 0, one["byte_offset"]) + 1 == one["line"] == one["row_no"]
        assert one["message"]
        assert one["excerpt"].isprintable()
    assert batches(shop) == [("complete", found["rows"], found["accepted"], found["rejected"], 0)]


def test_a_person_reads_the_first_rejects_and_what_to_type_next(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(as_lines([issue(1), *[{"number": n, "title": "\x1b[2J"} for n in range(2, 9)]]))
    result = cli("intake", str(path))
    assert "8 rows: 1 taken in (0 as context), 7 rejected, 0 duplicate" in result.stdout
    assert "line 2, byte" in result.stdout
    assert "[intake.required]" in result.stdout
    assert "… and 2 more" in result.stdout
    assert "next: shopfloor batch show " in result.stdout
    assert result.stderr == ""
    assert "\x1b" not in result.stdout


# ---------------------------------------------------------------- CSV


def test_a_csv_file_is_taken_in_by_its_casts(cli: Cli, shop: Shop, admin: Any, tmp_path: Path) -> None:
    reference_floor(shop, tmp_path)
    path, rejects = tmp_path / "rows.csv", tmp_path / "rejects.jsonl"
    path.write_text(
        "id,revision,title,source,priority,body\n"
        '1,1,First,test,5,"please, refund\nthe invoice"\n'
        "two,1,Second,test,5,x\n"
        "3,1,Third,test,99,x\n"
        "4,1,Fourth,test,5\n"
        "5,1,Fifth,test,,x\n",
        encoding="utf-8",
    )
    casts = ["--cast", "id=int", "--cast", "revision=int", "--cast", "priority=int"]

    found = cli("intake", str(path), *casts, "--rejects", str(rejects), "--json").json

    assert (found["rows"], found["accepted"], found["rejected"]) == (5, 1, 4)
    told = [json.loads(line) for line in rejects.read_text(encoding="ascii").splitlines()]
    assert [(one["line"], one["field"], one["code"]) for one in told] == [
        (4, "/id", "intake.cast"),
        (5, "/priority", "intake.value"),
        (6, "", "intake.columns"),
        (7, "/priority", "intake.type"),
    ]
    [(body,)] = admin.execute("SELECT bytes FROM bodies").fetchall()
    assert json.loads(body) == item(1, title="First", body="please, refund\nthe invoice")


def test_a_cast_that_cannot_be_done_is_refused(cli: Cli, shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("id,title\n1,a\n", encoding="utf-8")
    for cast, said in {"nosuch=int": "nosuch", "id=money": "money", "id": "expected COLUMN=TYPE"}.items():
        assert said in refused(cli("intake", str(path), "--cast", cast))
    assert batches(shop) == []


# ---------------------------------------------------------------- options


def test_an_option_that_cannot_be_used_is_refused(cli: Cli, shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(ROWS)
    for option, value, exit_code, said in (
        ("--flow", "issue-sweap", 3, "did you mean 'issue-sweep'?"),
        ("--format", "xml", 2, "--format"),
        ("--as-of", "yesterday", 2, "expected an instant with its offset"),
        ("--as-of", "2026-01-31T12:00:00", 2, "expected an instant with its offset"),
        ("--max-rejects", "few", 2, "expected a number of rows"),
        ("--max-rejects", "101%", 2, "expected a number of rows"),
        ("--expect-rows", "-1", 2, "--expect-rows"),
        ("--timeout", "soon", 2, "--timeout"),
        ("--no-such-option", "1", 2, "--no-such-option"),
    ):
        assert said in refused(cli("intake", str(path), option, value), exit_code), option
    assert batches(shop) == []


def test_a_dry_run_writes_nothing_but_the_rejects_file(cli: Cli, admin: Any, tmp_path: Path) -> None:
    path, rejects = tmp_path / "rows.jsonl", tmp_path / "rejects.jsonl"
    path.write_bytes(as_lines([issue(1), merged(2, fixes=1), {"number": 3}]))
    before = written(admin)
    result = cli("intake", str(path), "--dry-run", "--rejects", str(rejects), "--json")
    assert (result.exit_code, result.json["batch"]) == (0, None)
    assert {name: result.json[name] for name in ("rows", "accepted", "rejected", "context")} == {
        "rows": 3, "accepted": 2, "rejected": 1, "context": 1,
    }  # fmt: skip
    assert written(admin) == before
    assert json.loads(rejects.read_text(encoding="ascii"))["row_no"] == 3


def test_a_dry_run_compares_with_what_is_there(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(as_lines([issue(1), issue(2), issue(3)]))
    cli("intake", str(path))
    newer = issue(3, updated_at="2025-04-01T00:00:00Z")
    path.write_bytes(as_lines([issue(1), issue(2, title="Other"), newer, issue(4)]))
    found = cli("intake", str(path), "--dry-run", "--json").json
    assert (found["accepted"], found["rejected"], found["duplicate"], found["superseded"]) == (2, 1, 1, 1)


def test_strict_takes_all_or_nothing(cli: Cli, shop: Shop, tmp_path: Path) -> None:
    path, rejects = tmp_path / "rows.jsonl", tmp_path / "rejects.jsonl"
    path.write_bytes(as_lines([issue(1), {"number": 2}, issue(3)]))
    said = refused(cli("intake", str(path), "--strict", "--rejects", str(rejects)))
    assert "1 of 3 rows would be rejected; nothing was taken in. First: line 2, byte" in said
    assert "[source.strict]" in said
    assert len(rejects.read_text(encoding="ascii").splitlines()) == 1
    assert batches(shop) == []

    path.write_bytes(ROWS)
    assert cli("intake", str(path), "--strict", "--rejects", str(rejects), "--json").json["accepted"] == 3
    assert rejects.read_text(encoding="ascii") == ""


def test_strict_counts_a_conflict_with_what_is_there(cli: Cli, shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(as_lines([issue(1)]))
    cli("intake", str(path))
    path.write_bytes(as_lines([issue(2), issue(1, title="Other")]))
    assert "[intake.conflict]" in refused(cli("intake", str(path), "--strict"))
    assert len(batches(shop)) == 1


def test_a_file_of_another_length_is_refused(cli: Cli, shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(ROWS)
    said = refused(cli("intake", str(path), "--expect-rows", "4"))
    assert "the source holds 3 rows: expected 4; nothing was taken in" in said
    assert batches(shop) == []
    assert cli("intake", str(path), "--expect-rows", "3", "--json").json["rows"] == 3


def test_too_many_rejects_stop_the_batch_and_say_what_stands(cli: Cli, shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(as_lines([issue(1), *[{"number": n} for n in range(2, 5)], issue(5)]))
    for limit in ("2", "10%"):
        said = refused(cli("intake", str(path), "--max-rejects", limit))
        assert "3 of 5 rows were rejected, more than the" in said
        assert "[intake.too_many_rejects]" in said
    assert batches(shop) == [("failed", 5, 2, 3, 0), ("failed", 5, 0, 3, 2)]


def test_as_many_rejects_as_allowed_are_no_failure(cli: Cli, shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(as_lines([issue(1), {"number": 2}]))
    assert cli("intake", str(path), "--max-rejects", "1", "--json").exit_code == 0
    assert [row[0] for row in batches(shop)] == ["complete"]


def test_a_dry_run_ends_as_the_real_run_would(cli: Cli, shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(as_lines([issue(1), {"number": 2}]))
    for option in (["--strict"], ["--max-rejects", "0"], ["--expect-rows", "5"]):
        result = cli("intake", str(path), "--dry-run", *option, "--json")
        assert (result.exit_code, result.json["rows"]) == (2, 2)
    assert batches(shop) == []


def test_a_file_of_somebody_elses_is_never_overwritten_with_rejects(cli: Cli, shop: Shop, tmp_path: Path) -> None:
    path, other = tmp_path / "rows.jsonl", tmp_path / "other"
    path.write_bytes(ROWS)
    other.write_bytes(b'{"number": 1}\n')
    assert "will not be overwritten" in refused(cli("intake", str(path), "--rejects", str(other)))
    assert other.read_bytes() == b'{"number": 1}\n'
    assert batches(shop) == []


def test_the_file_that_is_taken_in_is_no_rejects_file(cli: Cli, shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(ROWS)
    assert "the very file" in refused(cli("intake", str(path), "--rejects", str(tmp_path / "." / "rows.jsonl")))
    assert path.read_bytes() == ROWS


# ---------------------------------------------------------------- standard input


def test_standard_input_is_taken_in_once_through(cli: Cli, tmp_path: Path) -> None:
    found = cli("intake", "-", "--json", input=ROWS.decode())
    assert (found.exit_code, found.json["accepted"]) == (0, 3)
    again = cli("intake", "-", "--json", input=ROWS.decode()).json
    assert (again["accepted"], again["duplicate"]) == (0, 3)
    assert again["batch"] != found.json["batch"]


def test_what_needs_two_readings_refuses_standard_input(cli: Cli, shop: Shop) -> None:
    for option in (["--strict"], ["--expect-rows", "3"]):
        assert "only once" in refused(cli("intake", "-", *option, input=ROWS.decode()))
    assert batches(shop) == []


def test_a_stream_that_ends_badly_fails_its_batch_and_says_so(cli: Cli, shop: Shop) -> None:
    said = refused(cli("intake", "-", input=ARRAY[:-30].decode()))
    assert "inside the array" in said
    assert [row[0] for row in batches(shop)] == ["failed"]


def test_an_empty_stream_is_refused(cli: Cli, shop: Shop) -> None:
    refused(cli("intake", "-", input=""))
    assert batches(shop) == []


# ---------------------------------------------------------------- the screen


def test_progress_is_shown_on_a_terminal_and_nowhere_else(shop: Shop, cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(ROWS)
    assert cli("intake", str(path)).stderr == ""

    path.write_bytes(as_lines([issue(7)]))
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "console", "intake", str(path), "--json"], env=environment(shop), stdout=subprocess.PIPE, stderr=theirs
    ) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # the terminal's other end is closed
                break
            if not part:
                break
            seen += part
        os.close(ours)
        assert process.stdout is not None
        assert json.loads(process.stdout.read())["accepted"] == 1
    assert b"intake 100%" in seen
    assert b"1 rows" in seen


# ---------------------------------------------------------------- services that are away


def test_intake_goes_on_while_the_broker_is_down_and_says_so(shop: Shop, cli: Cli, tmp_path: Path) -> None:
    reference_floor(shop, tmp_path)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(as_lines([item(n) for n in range(1, 2501)]))
    result = cli("intake", str(path), "--json", env={"SHOPFLOOR_BROKER_URL": "redis://127.0.0.1:1/0"})
    assert (result.exit_code, result.json["accepted"]) == (0, 2500)
    assert result.stderr.splitlines() == ["the broker cannot be reached: the rows are in, work on them starts when it is back"]
    assert [row[0] for row in batches(shop)] == ["complete"]


def test_rows_are_taken_in_from_who_may_submit(shop: Shop, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(ROWS)
    for roles, code in ((("reader",), 5), ((), 5), (("submitter",), 0)):
        token = person(shop, f"one-{len(roles)}-{code}", *roles)
        told = cli("intake", str(tmp_path / "rows.jsonl"), "--json", env={"SHOPFLOOR_TOKEN": token})
        assert told.exit_code == code, told.stderr


def test_a_row_from_the_future_makes_no_other_row_old(shop: Shop, cli: Cli, tmp_path: Path) -> None:
    rows = [issue(1), issue(2, updated_at="2099-01-01T00:00:00Z")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cli("intake", str(tmp_path / "rows.jsonl")).exit_code == 0
    assert cli("batch", "show", "latest", "--json").json["as_of"] == "2025-01-02T00:00:00Z"
    assert "ages count from 2025-01-02" in cli("batch", "show", "latest").stdout


def test_waiting_for_a_batch_that_failed_is_no_success(cli: Cli) -> None:
    assert cli("intake", "-", input=ARRAY[:-30].decode()).exit_code == 2
    waited = cli("batch", "wait", "latest")
    assert (waited.exit_code, "batch.failed" in waited.stderr) == (1, True), waited.stderr
