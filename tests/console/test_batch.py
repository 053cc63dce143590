"""batch: the summary of what came in, every row back in order, and waiting for the end."""

import csv
import io
import json
import threading
import time
from typing import Any
from uuid import UUID

import pytest
from contracts.errors import Conflict, NotFound
from contracts.identity import new_id
from contracts.lifecycle import Role
from pipeline.operations import batches
from pipeline.operations.batches import batch_summary, rejects, results, wait_for_batch
from tests.in_process import Road, issue, merged

ROWS = [
    issue(1),
    merged(2, fixes=1),
    issue(3, updated_at="2025-03-01T00:00:00Z"),
    {"number": 4},
    issue(3, updated_at="2025-03-01T00:00:00Z"),
]


@pytest.fixture
def batch(road: Road) -> UUID:
    """A batch that has been worked on: accepted, context, rejected and duplicate rows."""
    report = road.take_in(ROWS)
    road.run()
    assert report.batch_id is not None
    return report.batch_id


def test_the_counts_of_a_batch_add_up(batch: UUID, connect: Any, workspace: UUID) -> None:
    found = batch_summary(connect(Role.READ), workspace, batch)
    assert found["rows"] == found["accepted"] + found["rejected"] + found["duplicate"] == 5
    assert (found["accepted"], found["rejected"], found["duplicate"], found["context"]) == (3, 1, 1, 1)
    assert found["orders"] == {"done": 2, "open": 1}
    assert found["findings"] == {"context": 1, "nothing_found": 1}
    assert found["proposals"] == {"open": 1}
    assert [(row["status"], row["items"]) for row in found["in_progress"]] == [("approval", 1)]
    assert found["seconds"] is None, "an order is open"


def test_every_row_comes_back_in_order_with_what_became_of_it(batch: UUID, connect: Any, workspace: UUID) -> None:
    rows = list(results(connect(Role.READ), workspace, batch))
    assert [(row["row_no"], row["outcome"], row["order_state"], row["finding"]) for row in rows] == [
        (1, "accepted", "open", "resolved_by_merged_pr"),
        (2, "accepted", "done", "context"),
        (3, "accepted", "done", "nothing_found"),
        (4, "rejected", None, None),
        (5, "duplicate", "done", "nothing_found"),
    ]
    assert (rows[0]["reason"], rows[0]["proposal_state"], rows[0]["action"]) == ("approval", "open", "close")
    assert rows[0]["artifact_sha256"] is not None
    assert rows[3]["code"] == "intake.required"
    assert rows[4]["order_id"] == rows[2]["order_id"], "a duplicate points to the order that does its work"


def test_results_are_read_a_page_at_a_time_and_none_is_lost_at_the_seam(
    batch: UUID, connect: Any, workspace: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "PAGE_ROWS", 2)
    conn = connect(Role.READ)
    rows = results(conn, workspace, batch)
    first = next(rows)
    assert conn.info.transaction_status.name == "IDLE", "a slow reader holds no transaction open"
    assert [row["row_no"] for row in (first, *rows)] == [1, 2, 3, 4, 5]
    assert [row["row_no"] for row in results(conn, workspace, batch, after=3)] == [4, 5]


def test_rejects_say_where_and_what(batch: UUID, connect: Any, workspace: UUID) -> None:
    [row] = rejects(connect(Role.READ), workspace, batch)
    assert (row["row_no"], row["line"], row["code"]) == (4, 4, "intake.required")
    assert row["byte_offset"] > 0


def test_waiting_ends_when_every_order_has_ended_or_waits_for_a_person(road: Road, connect: Any, workspace: UUID) -> None:
    report = road.take_in(ROWS)
    assert report.batch_id is not None
    conn = connect(Role.READ)
    with pytest.raises(Conflict, match="2 ready in lane route") as refused:
        wait_for_batch(conn, workspace, report.batch_id, seconds=0)
    assert refused.value.instance_code == "batch.open"
    found: list[dict[str, Any]] = []
    waiting = threading.Thread(target=lambda: found.append(wait_for_batch(conn, workspace, report.batch_id or new_id(), seconds=30)))
    waiting.start()
    road.run()
    waiting.join(30)
    assert found[0]["orders"] == {"done": 2, "open": 1}


def test_a_batch_that_does_not_exist_is_not_waited_for(connect: Any, workspace: UUID) -> None:
    started = time.monotonic()
    with pytest.raises(NotFound):
        wait_for_batch(connect(Role.READ), workspace, new_id(), seconds=30)
    assert time.monotonic() - started < 5


def test_another_workspace_gets_no_rows(batch: UUID, connect: Any) -> None:
    conn = connect(Role.READ)
    assert list(results(conn, new_id(), batch)) == []
    with pytest.raises(NotFound):
        batch_summary(conn, new_id(), batch)


def test_the_commands_print_the_same_in_every_form(batch: UUID, cli: Any) -> None:
    listed = cli("batch", "list", "--json").json["batches"]
    assert [one["id"] for one in listed] == [str(batch)]
    shown = cli("batch", "show", "latest")
    assert "5 rows = 3 accepted (1 context) + 1 rejected + 1 duplicate" in shown.stdout
    assert f"shopfloor batch rejects {batch}" in shown.stdout
    lines = [json.loads(line) for line in cli("batch", "results", "latest", "--jsonl").stdout.splitlines()]
    document = cli("batch", "results", str(batch), "--json").json
    assert (document["schema_version"], document["batch"], document["results"]) == (1, str(batch), lines)
    rows = list(csv.DictReader(io.StringIO(cli("batch", "results", str(batch)[:-3], "--csv").stdout)))
    assert [row["row_no"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert [row["order_id"] for row in rows] == [line["order_id"] or "" for line in lines]
    text = cli("batch", "rejects", "latest").stdout
    assert text.startswith("line 4, byte ")
    assert "[intake.required]" in text


def test_wait_exits_4_with_what_is_open(road: Road, cli: Any) -> None:
    road.take_in([issue(1)])
    seen = cli("batch", "wait", "latest", "--timeout", "0s")
    assert seen.exit_code == 4
    assert "1 ready in lane route" in seen.stderr
    assert "shopfloor status" in seen.stderr
    road.run()
    done = cli("batch", "wait", "latest", "--json")
    assert (done.exit_code, done.json["orders"]) == (0, {"done": 1})
    assert done.json["seconds"] >= 0


def test_an_unknown_batch_is_not_found(cli: Any) -> None:
    for name in ("latest", "nonsense", str(new_id())):
        seen = cli("batch", "show", name)
        assert seen.exit_code == 3
        assert "shopfloor batch list" in seen.stderr
