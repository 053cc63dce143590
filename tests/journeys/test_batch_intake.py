"""Batch intake through the front door, by processes that are killed, doubled and starved."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from console.benchmarks.reference import write_file
from pipeline.startup.compose import Shop
from queues.database import Connection
from tests.in_process import Result, Road, issue, merged
from tests.intake_processes import as_lines, batches, environment, item, reference_floor
from tests.waiting import wait_until

Cli = Callable[..., Result]
ROWS = 3500
"""Enough for four chunks."""


def bad_and_good(count: int) -> list[Any]:
    """Return rows of which each seventh is broken, each eleventh repeats an earlier one, and each thirteenth has a newer twin."""
    rows: list[Any] = []
    for number in range(1, count + 1):
        if number % 7 == 0:
            rows.append(b'{"id": %d, "title": ' % number)
        elif number % 11 == 0:
            rows.append(item(number - 10))
        elif number % 13 == 0:
            rows.append(item(number - 12, revision=2))
        else:
            rows.append(item(number))
    return rows


@pytest.fixture
def reference(shop: Shop, tmp_path: Path) -> Shop:
    """A factory whose floor takes rows of the reference work as they are."""
    reference_floor(shop, tmp_path)
    return shop


def start(shop: Shop, *arguments: str, **env: str) -> "subprocess.Popen[str]":
    """Start `shopfloor ARGS…` and return at once."""
    return subprocess.Popen(
        [sys.executable, "-m", "console", *arguments],
        env=environment(shop, **env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Started in the background of a script, this run itself may have been told to ignore interrupts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - one thread, and nothing but this
    )


def ended(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """Return the account that an intake printed, once it is done."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def account(found: dict[str, Any]) -> dict[str, Any]:
    """Return the part of an account that does not depend on when and how often it was begun."""
    return {name: found[name] for name in ("rows", "accepted", "rejected", "duplicate", "context", "superseded")}


def contents(admin: Connection) -> list[tuple[Any, ...]]:
    """Return what came of every row, without ids and instants."""
    return admin.execute(
        "SELECT r.row_no, r.outcome, r.code, r.field, r.line, r.byte_offset, o.subject_key, o.revision, o.state, a.state, q.stage, q.state "
        "FROM batch_rows r LEFT JOIN orders o ON o.id = r.order_id LEFT JOIN items i ON i.order_id = o.id "
        "LEFT JOIN archived_items a ON a.item_id = i.id LEFT JOIN queue q ON q.item_id = i.id ORDER BY r.row_no"
    ).fetchall()


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]


@pytest.fixture
def undisturbed(reference: Shop, cli: Cli, admin: Connection, tmp_path: Path) -> tuple[Path, dict[str, Any], Any, Any]:
    """A file, and the account, rows and rejects of an intake of it that nothing disturbed; then everything of it is gone."""
    path, rejects = tmp_path / "rows.jsonl", tmp_path / "rejects.jsonl"
    path.write_bytes(as_lines(bad_and_good(ROWS)))
    found = cli("intake", str(path), "--rejects", str(rejects), "--json")
    assert found.exit_code == 0, found.stderr
    kept = path, account(found.json), contents(admin), lines_of(rejects)
    rejects.unlink()
    forget(admin)
    return kept


def forget(admin: Connection) -> None:
    with admin.transaction():
        # The guards refuse what only a test may do: to make work undone.
        admin.execute("SET LOCAL session_replication_role = replica")
        for table in ("batch_rows", "queue", "archived_items", "moves", "bodies", "items", "orders", "batches", "triggers"):
            admin.execute(f"DELETE FROM {table}")


@pytest.mark.parametrize("point", ["intake.chunk_committed:kill:2", "intake.complete:kill"])
def test_a_killed_intake_goes_on_and_comes_to_the_same_account(
    point: str, undisturbed: tuple[Path, dict[str, Any], Any, Any], cli: Cli, reference: Shop, admin: Connection, tmp_path: Path
) -> None:
    path, figures, rows, rejected = undisturbed
    rejects = tmp_path / "rejects.jsonl"

    killed = cli("intake", str(path), "--rejects", str(rejects), env={"SHOPFLOOR_FAIL": point})
    assert killed.exit_code == -signal.SIGKILL
    [(state, done, *_)] = batches(reference)
    assert state == "reading"

    found = cli("intake", str(path), "--rejects", str(rejects), "--json").json

    assert found["resumed_at"] == done > 0
    assert account(found) == figures
    assert contents(admin) == rows
    assert lines_of(rejects) == rejected
    assert [row[0] for row in batches(reference)] == ["complete"]


@pytest.mark.chaos
def test_an_intake_that_is_killed_again_and_again_still_ends_right(
    undisturbed: tuple[Path, dict[str, Any], Any, Any], cli: Cli, admin: Connection
) -> None:
    path, figures, rows, _ = undisturbed
    kills = 0
    while (found := cli("intake", str(path), "--json", env={"SHOPFLOOR_FAIL": "intake.chunk_committed:kill"})).exit_code:
        kills += 1
        assert kills <= 4, found.stderr
    assert kills == 4
    assert account(found.json) == figures
    assert contents(admin) == rows


def test_an_interrupted_intake_says_so_and_can_go_on(reference: Shop, cli: Cli, tmp_path: Path) -> None:
    path = write_file(tmp_path / "rows.jsonl", 1, 20_000)
    process = start(reference, "intake", str(path))
    wait_until(lambda: any(row[1] for row in batches(reference)), seconds=60)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err.strip()) == (130, "interrupted"), err
    found = cli("intake", str(path), "--json").json
    assert (found["accepted"], found["rejected"], found["duplicate"]) == (20_000, 0, 0)
    assert found["resumed_at"] > 0


@pytest.mark.races
def test_the_same_file_from_two_processes_at_once_makes_every_order_once(reference: Shop, admin: Connection, tmp_path: Path) -> None:
    path = write_file(tmp_path / "rows.jsonl", 1, 6000)
    both = [ended(process) for process in [start(reference, "intake", str(path), "--json") for _ in range(2)]]
    assert [found["rows"] for found in both] == [6000, 6000]
    assert [found["accepted"] + found["duplicate"] for found in both] == [6000, 6000]
    assert sum(found["accepted"] for found in both) == 6000
    assert [row[0] for row in batches(reference)] == ["complete", "complete"]
    assert admin.execute("SELECT count(*), count(DISTINCT subject_key) FROM orders").fetchone() == (6000, 6000)


@pytest.mark.races
def test_two_files_that_share_subjects_in_opposite_order_do_not_block_each_other(reference: Shop, tmp_path: Path) -> None:
    numbers = list(range(1, 4001))
    one, other = tmp_path / "up.jsonl", tmp_path / "down.jsonl"
    one.write_bytes(as_lines([item(n) for n in numbers]))
    other.write_bytes(as_lines([item(n) for n in reversed(numbers)]))
    started = time.monotonic()
    both = [ended(process) for process in [start(reference, "intake", str(path), "--json") for path in (one, other)]]
    assert sum(found["accepted"] for found in both) == 4000
    assert all(found["rejected"] == 0 for found in both)
    assert time.monotonic() - started < 60


@pytest.mark.races
def test_results_of_an_intake_by_two_processes_are_those_of_one(shop: Shop, cli: Cli, road: Road, tmp_path: Path) -> None:
    rows = [row for n in range(1, 400) for row in (issue(n), merged(5000 + n, fixes=n))]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(as_lines(rows))
    both = [ended(process) for process in [start(shop, "intake", str(path), "--json") for _ in range(2)]]
    assert sum(found["accepted"] for found in both) == len(rows)
    assert sum(found["context"] for found in both) == 399
    road.run()
    assert {stand: count for stand, count in road.states().items() if stand.startswith("intake")} == {}
    assert sum(road.states().values()) == len(rows)


def test_a_file_that_goes_on_growing_has_an_end_and_is_refused_as_changed(reference: Shop, tmp_path: Path) -> None:
    path = write_file(tmp_path / "rows.jsonl", 1, 10_000)
    process = start(reference, "intake", str(path), "--json")
    numbers = count(10_001)

    def grows_until_it_ends() -> bool:
        with path.open("ab") as file:
            file.write(as_lines([item(next(numbers))]))
        return process.poll() is not None

    wait_until(grows_until_it_ends, seconds=90)
    out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert "changed while it was read" in err
    [(state, rows, accepted, rejected, duplicate)] = batches(reference)
    assert (state, accepted + rejected + duplicate) == ("failed", rows)


def test_waiting_for_the_end_of_a_batch_tells_how_its_orders_ended(shop: Shop, cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(as_lines([merged(1, fixes=2), merged(3, fixes=2)]))
    found = cli("intake", str(path), "--wait", "--json")
    assert (found.exit_code, found.json["ends"]) == (0, {"done": 2})

    path.write_bytes(as_lines([issue(7)]))
    late = cli("intake", str(path), "--wait", "--timeout", "1s", "--json")
    assert late.exit_code == 4, "nobody works here"
    assert late.json["accepted"] == 1, "the account is told all the same"
    assert "is still open after 1 s" in late.stderr


def peak_megabytes(shop: Shop, arguments: Sequence[str]) -> tuple[dict[str, Any], float]:
    """Return what a command printed and the most memory that its process held."""
    process = start(shop, *arguments)
    peak = 0.0

    def measured_until_it_ends() -> bool:
        nonlocal peak
        # Not what wait4 says: that starts with the memory of the process that forked.
        lines = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").splitlines()
        peak = max(peak, *(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)
        return process.poll() is not None

    wait_until(measured_until_it_ends, seconds=300)
    return ended(process), peak


@pytest.mark.slow
def test_memory_stays_flat_however_long_the_file_is(reference: Shop, tmp_path: Path) -> None:
    short = write_file(tmp_path / "short.jsonl", 1, 20_000)
    long = write_file(tmp_path / "long.jsonl", 1_000_000, 300_000)
    _, at_first = peak_megabytes(reference, ["intake", str(short), "--json"])
    found, at_last = peak_megabytes(reference, ["intake", str(long), "--json"])
    assert found["accepted"] == 300_000
    assert at_last < 200
    assert at_last < at_first + 15


@pytest.mark.slow
def test_a_line_of_a_gigabyte_is_one_rejected_row(reference: Shop, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with path.open("wb") as file:
        file.write(as_lines([item(1)]) + b'{"pad": "')
        for _ in range(1024):
            file.write(b"x" * (1 << 20))
        file.write(b'"}\n' + as_lines([item(2)]))
    found, peak = peak_megabytes(reference, ["intake", str(path), "--json"])
    path.unlink()
    assert (found["rows"], found["accepted"], found["rejected"]) == (3, 2, 1)
    assert peak < 250


def test_a_wide_row_takes_no_more_memory_than_it_must(reference: Shop, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(as_lines([item(1), b'{"pad": "' + b"x" * (40 << 20) + b'"}', item(2)]))
    found, peak = peak_megabytes(reference, ["intake", str(path), "--json"])
    assert (found["accepted"], found["rejected"]) == (2, 1)
    assert peak < 200
