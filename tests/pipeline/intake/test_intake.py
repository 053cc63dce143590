"""Intake, from the inside: what is decided in a chunk, who holds a batch, and what a killed intake finds again."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from console.benchmarks.reference import FLOOR
from contracts.errors import BadInput, BadSource, Conflict
from contracts.lifecycle import Role
from pipeline.floors.publish import publish_floor, read_floor
from pipeline.intake import arrivals, storing
from pipeline.intake import chunks as chunks_module
from pipeline.intake import intake as intake_module
from pipeline.intake.batch_book import fail_abandoned
from pipeline.intake.from_file import FromFile, open_intake, take_file
from pipeline.intake.intake import Intake, take_in
from pipeline.intake.reject_limit import RejectLimit, reject_limit
from pipeline.intake.sources import open_source
from pipeline.review.clearances import Answer, decide_all
from pipeline.startup.setup import SERVICE, ensure_workspace
from pipeline.worker.fair_share import FairShare
from pipeline.worker.fair_share import take as claim_batch
from pipeline.worker.inline import InlineWorker
from queues.database import Connection
from tests.in_process import Clock, Road, issue, merged
from tests.intake_processes import as_lines, batches, item, reference_floor, written
from tests.reviews import ballot, person, propose

Connect = Callable[[Role], Connection]
LATER = datetime(2025, 6, 1, tzinfo=UTC)


@contextmanager
def opened(road: Road, flow: str = "issue-sweep", **more: Any) -> Iterator[Intake]:
    """Yield an intake on a connection of its own."""
    with road.shop.connect(Role.INTAKE) as conn:
        yield open_intake(conn, road.shop.store, road.shop.workspace_id(conn), flow, road.registry, submitter=SERVICE, **more)


def write(path: Path, *rows: Any) -> Path:
    path.write_bytes(as_lines(list(rows)))
    return path


def take(road: Road, path: Path, flow: str = "issue-sweep", **more: Any) -> Any:
    with opened(road, flow, **more) as job:
        return take_file(job, FromFile(str(path)))


# ---------------------------------------------------------------- identity


def test_a_row_twice_in_one_file_makes_one_order(road: Road) -> None:
    report = road.take_in([issue(1), issue(2), issue(1), issue(1)])
    assert (report.accepted, report.duplicate) == (2, 2)
    assert len(road.items()) == 2


def test_revisions_within_one_file_supersede_in_its_order(road: Road) -> None:
    rows = [issue(1, updated_at=f"2025-01-0{day}T00:00:00Z", title=f"day {day}") for day in (2, 4, 3)]
    report = road.take_in(rows)
    assert (report.accepted, report.duplicate, report.superseded) == (2, 1, 1)
    assert [(found["row_no"], found["state"]) for found in road.items()] == [(1, "superseded"), (2, "ready")]


def test_many_revisions_of_one_subject_come_in_as_one_chunk(road: Road, admin: Connection) -> None:
    rows = [issue(n, updated_at=f"2025-01-01T00:00:{second:02}Z") for second in range(20) for n in (1, 2)]
    report = road.take_in([*rows, rows[-1], issue(3)])
    assert (report.accepted, report.duplicate, report.superseded) == (41, 1, 38)
    assert [found["state"] for found in road.items(archived=False)] == ["ready"] * 3
    assert admin.execute("SELECT count(DISTINCT xmin::text) FROM batch_rows").fetchone() == (1,)


def test_the_same_revision_with_other_content_in_one_file_is_a_conflict(road: Road) -> None:
    report = road.take_in([issue(1), issue(1, title="Other"), issue(1)])
    assert (report.accepted, report.rejected, report.duplicate) == (1, 1, 1)
    [bad] = report.first_rejects
    assert (bad.row_no, bad.code) == (2, "intake.conflict")
    assert bad.excerpt.startswith('{"author":"ada"')


def test_names_that_look_the_same_and_are_not_cannot_come_in(road: Road, tmp_path: Path) -> None:
    reference_floor(road.shop, tmp_path, FLOOR.replace("subject: id", "subject: title"))
    report = road.take_in([item(1, title=title) for title in ("caf\u00e9", "cafe\u0301", "CAF\u00c9")], flow="reference")
    assert (report.accepted, report.rejected) == (2, 1)
    [bad] = report.first_rejects
    assert (bad.row_no, bad.code, bad.field) == (2, "intake.subject", "/title")


@pytest.mark.parametrize("key", ["", "x" * 501, None, True, 1.5, ["a"]])
def test_a_row_without_a_usable_subject_is_rejected(key: Any, road: Road, tmp_path: Path) -> None:
    # A field that the contract leaves open, so that only the flow's own demand can refuse it.
    reference_floor(road.shop, tmp_path, FLOOR.replace("subject: id", "subject: key"))
    report = road.take_in([item(1, key=key), item(2, key="fine")], flow="reference")
    assert (report.accepted, report.rejected) == (1, 1)
    assert (report.first_rejects[0].code, report.first_rejects[0].field) == ("intake.subject", "/key")


def test_a_row_for_which_the_flow_cannot_tell_context_is_rejected(road: Road, tmp_path: Path) -> None:
    with_context = FLOOR.replace("    route:\n", '    context: "row.closed == true"\n    route:\n')
    reference_floor(road.shop, tmp_path, with_context)
    report = road.take_in([item(1, closed=True), item(2), item(3, closed=False)], flow="reference")
    assert (report.accepted, report.context, report.rejected) == (2, 1, 1)
    [bad] = report.first_rejects
    assert (bad.row_no, bad.code) == (2, "intake.value")
    assert "context" in bad.message


def test_a_number_that_would_lose_digits_is_rejected(road: Road, tmp_path: Path) -> None:
    reference_floor(road.shop, tmp_path)
    report = road.take_in([item(1, extra=2**53), item(2, extra=2**53 - 1)], flow="reference")
    assert (report.accepted, report.rejected) == (1, 1)
    assert report.first_rejects[0].code == "intake.number"


# ---------------------------------------------------------------- context and as-of


def test_context_rows_are_accounted_for_and_never_worked_on(road: Road) -> None:
    report = road.take_in([merged(2, fixes=1), merged(3, fixes=1), issue(1)])
    assert (report.accepted, report.context) == (3, 2)
    assert [(found["row_no"], found["stage"], found["state"], found["archived"]) for found in road.items()] == [
        (1, "archive", "done", True),
        (2, "archive", "done", True),
        (3, "route", "ready", False),
    ]


def as_of(admin: Connection) -> Any:
    row = admin.execute("SELECT as_of FROM batches ORDER BY created_at DESC LIMIT 1").fetchone()
    assert row is not None
    return row[0]


def test_ages_count_from_the_newest_revision_of_the_source(road: Road, admin: Connection) -> None:
    road.take_in([issue(1), issue(2, updated_at="2025-05-05T05:05:05Z"), issue(3), {"number": 4, "updated_at": "2030-01-01T00:00:00Z"}])
    assert as_of(admin) == datetime(2025, 5, 5, 5, 5, 5, tzinfo=UTC)


def test_an_as_of_that_is_given_holds_whatever_the_rows_say(road: Road, admin: Connection) -> None:
    road.take_in([issue(1), issue(2, updated_at="2025-05-05T05:05:05Z")], as_of=LATER)
    assert as_of(admin) == LATER
    road.take_in([issue(3), issue(4)], as_of=datetime(2025, 1, 1, tzinfo=UTC))
    assert as_of(admin) == datetime(2025, 1, 1, tzinfo=UTC)


def test_revisions_that_are_no_instants_give_no_as_of(road: Road, admin: Connection, tmp_path: Path) -> None:
    reference_floor(road.shop, tmp_path)
    road.take_in([item(1), item(2, revision=7)], flow="reference")
    assert as_of(admin) is None


# ---------------------------------------------------------------- newer revisions of work under way


def lease(worker: InlineWorker, lane: str) -> None:
    """Make a worker hold what is in a lane, and do nothing with it."""
    claim = claim_batch(worker.context, FairShare(), worker.id, worker.name, lane, batch=10, seconds=30).claim
    assert len(claim.items) == 1


def newer(number: int, **fields: Any) -> dict[str, Any]:
    return issue(number, updated_at="2025-04-01T00:00:00Z", body="Still stands still.", **fields)


def test_a_newer_revision_takes_leased_work_away_from_its_worker(road: Road) -> None:
    road.take_in([issue(1)], as_of=LATER)
    lease(road.worker(), "route")

    report = road.take_in([newer(1)], as_of=LATER)

    assert (report.accepted, report.superseded) == (1, 1)
    assert [(found["state"], found["archived"]) for found in road.items()] == [("superseded", True), ("ready", False)]
    road.run()
    assert road.states() == {"route/superseded": 1, "archive/done": 1}


def test_a_newer_revision_voids_the_proposal_that_waits_for_approval(road: Road, admin: Connection) -> None:
    road.take_in([issue(1), merged(2, fixes=1)], as_of=LATER)
    road.run()
    assert road.states()["qa/waiting"] == 1
    road.take_in([newer(1)], as_of=LATER)
    assert admin.execute("SELECT p.state, c.state FROM proposals p JOIN clearances c ON c.proposal_id = p.id").fetchall() == [
        ("superseded", "void")
    ]


@pytest.fixture
def approved(road: Road) -> Road:
    """A line with one approved proposal that is ready to be applied."""
    ballots = [ballot(one) for one in propose(road, 1)]
    token = person(road.shop, "rita", "reviewer")
    with road.shop.connect(Role.REVIEW) as conn:
        decide_all(conn, road.shop.workspace_id(conn), token, ballots, Answer.APPROVE, "fine", by="rita")
    [found] = road.items(stage="apply")
    assert found["state"] == "ready"
    return road


def test_a_newer_revision_voids_an_approval_that_was_not_carried_out(approved: Road, admin: Connection) -> None:
    report = approved.take_in([newer(1)], as_of=LATER)
    assert (report.accepted, report.superseded) == (1, 1)
    assert admin.execute("SELECT state FROM proposals").fetchall() == [("superseded",)]
    assert admin.execute("SELECT count(*) FROM applies").fetchone() == (0,)


def test_a_newer_revision_waits_a_moment_for_an_apply_and_is_then_turned_away(
    approved: Road, admin: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "_PATIENT_TRIES", 2)
    lease(approved.worker(Role.APPLY), "apply.tracker")

    report = approved.take_in([newer(1), issue(77)], as_of=LATER)

    assert (report.accepted, report.rejected, report.superseded) == (1, 1, 0)
    [bad] = report.first_rejects
    assert (bad.row_no, bad.code) == (1, "intake.busy")
    assert admin.execute("SELECT state FROM proposals").fetchall() == [("approved",)]


def test_an_effect_that_nobody_knows_yet_is_never_superseded(approved: Road, admin: Connection) -> None:
    with admin.transaction():
        admin.execute("SET LOCAL session_replication_role = replica")
        admin.execute(
            "INSERT INTO applies (id, workspace_id, proposal_id, item_id, action_id, proposal_sha256, adapter, idempotency_class, fence) "
            "SELECT gen_random_uuid(), workspace_id, id, item_id, sha256, sha256, 'tracker', 'convergent', 1 FROM proposals"
        )
    report = approved.take_in([newer(1)], as_of=LATER)
    assert (report.rejected, report.first_rejects[0].code) == (1, "intake.busy")
    [found] = approved.items(stage="apply")
    assert found["state"] == "ready"


# ---------------------------------------------------------------- who holds a batch


class Stopped(BaseException):
    """Ends an intake the way a kill does: nothing of ours catches it."""


def stop_after(chunks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [chunks]

    def point(name: str) -> None:
        if name == "intake.chunk_committed":
            left[0] -= 1
            if not left[0]:
                raise Stopped

    monkeypatch.setattr(intake_module, "failpoint", point)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks_module, "CHUNK_ROWS", 4)


MIXED = [row for n in range(1, 7) for row in (issue(n), {"number": n}, merged(100 + n, fixes=n))]


@pytest.mark.usefixtures("small_chunks")
def test_a_stopped_intake_goes_on_where_it_stopped_with_the_same_account(
    road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rejects = write(tmp_path / "rows.jsonl", *MIXED), tmp_path / "rejects.jsonl"
    stop_after(2, monkeypatch)
    with pytest.raises(Stopped):
        take(road, path, rejects=str(rejects))
    assert batches(road.shop) == [("reading", 8, 5, 3, 0)]
    monkeypatch.undo()

    report = take(road, path, rejects=str(rejects))

    assert report.resumed_at == 8
    assert (report.rows, report.accepted, report.rejected, report.duplicate, report.context) == (18, 12, 6, 0, 6)
    assert [bad.row_no for bad in report.first_rejects] == [2, 5, 8, 11, 14]
    assert [json.loads(line)["row_no"] for line in rejects.read_text(encoding="ascii").splitlines()] == [2, 5, 8, 11, 14, 17]
    assert batches(road.shop) == [("complete", 18, 12, 6, 0)]
    assert all(found["stage"] != "intake" for found in road.items()), "what waited for the batch has started"


@pytest.mark.usefixtures("small_chunks")
def test_rejects_of_before_a_stop_are_written_to_another_file_too(road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, rejects = write(tmp_path / "rows.jsonl", *MIXED), tmp_path / "rejects.jsonl"
    stop_after(2, monkeypatch)
    with pytest.raises(Stopped):
        take(road, path)
    monkeypatch.undo()
    take(road, path, rejects=str(rejects))
    assert [json.loads(line)["row_no"] for line in rejects.read_text(encoding="ascii").splitlines()] == [2, 5, 8, 11, 14, 17]


@pytest.mark.usefixtures("small_chunks")
def test_rejects_that_a_kill_left_before_its_commit_are_not_doubled(road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, rejects = write(tmp_path / "rows.jsonl", *MIXED), tmp_path / "rejects.jsonl"
    write_rejects = storing.write_rejects
    left = [2]

    def killed(*arguments: Any) -> None:
        write_rejects(*arguments)
        left[0] -= 1
        if not left[0]:
            raise Stopped  # the lines are on disk, the chunk is not committed

    monkeypatch.setattr(storing, "write_rejects", killed)
    with pytest.raises(Stopped):
        take(road, path, rejects=str(rejects))
    assert batches(road.shop) == [("reading", 4, 3, 1, 0)]
    assert len(rejects.read_text(encoding="ascii").splitlines()) == 3
    monkeypatch.setattr(storing, "write_rejects", write_rejects)
    take(road, path, rejects=str(rejects))
    assert [json.loads(line)["row_no"] for line in rejects.read_text(encoding="ascii").splitlines()] == [2, 5, 8, 11, 14, 17]


@pytest.mark.usefixtures("small_chunks")
def test_another_file_or_another_way_of_reading_it_is_another_batch(road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "rows.jsonl", *MIXED)
    stop_after(2, monkeypatch)
    with pytest.raises(Stopped):
        take(road, path)
    monkeypatch.undo()
    path.write_bytes(path.read_bytes() + as_lines([issue(99)]))
    report = take(road, path)
    assert (report.resumed_at, report.rows, report.duplicate) == (0, 19, 5)
    assert [row[0] for row in batches(road.shop)] == ["reading", "complete"]


@pytest.mark.usefixtures("small_chunks")
def test_a_second_intake_of_a_file_that_is_being_taken_in_makes_a_batch_of_its_own(road: Road, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", *MIXED)
    second: list[Any] = []

    def look(report: Any, source: Any) -> None:
        if report.rows == 8 and not second:
            second.append(take(road, path))

    first = take(road, path, progress=look)
    assert (second[0].resumed_at, second[0].accepted, second[0].duplicate) == (0, 7, 5)
    assert (first.accepted, first.duplicate) == (5, 7)
    assert [row[0] for row in batches(road.shop)] == ["complete", "complete"]
    assert len(road.items()) == 12


@pytest.mark.usefixtures("small_chunks")
def test_an_intake_whose_batch_was_ended_by_somebody_stops(road: Road, admin: Connection, tmp_path: Path) -> None:
    def cancel(report: Any, source: Any) -> None:
        admin.execute("UPDATE batches SET state = 'cancelled' WHERE state = 'reading'")

    with pytest.raises(Conflict, match="is cancelled at row 4") as caught:
        take(road, write(tmp_path / "rows.jsonl", *MIXED), progress=cancel)
    assert caught.value.instance_code == "batch.moved_on"
    assert batches(road.shop) == [("cancelled", 4, 3, 1, 0)]


@pytest.mark.usefixtures("small_chunks")
def test_a_batch_whose_intake_never_came_back_is_ended_and_what_it_held_starts(
    road: Road, connect: Connect, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(2, monkeypatch)
    with pytest.raises(Stopped):
        take(road, write(tmp_path / "rows.jsonl", *MIXED))
    held = [found for found in road.items() if found["reason"] == "dependency"]
    assert len(held) == 3
    road.sweep()
    assert batches(road.shop) == [("reading", 8, 5, 3, 0)], "somebody may yet run it again"
    clock.advance(seconds=601)
    assert road.sweep()["abandoned"] == 1
    assert batches(road.shop) == [("failed", 8, 5, 3, 0)]
    assert [found for found in road.items() if found["reason"] == "dependency"] == []
    assert road.sweep()["abandoned"] == 0


@pytest.mark.usefixtures("small_chunks")
def test_a_batch_whose_intake_lives_is_let_be_however_slow_it_is(road: Road, connect: Connect, tmp_path: Path) -> None:
    counts: list[int] = []

    def sweep(report: Any, source: Any) -> None:
        counts.append(fail_abandoned(connect(Role.SWEEP), seconds=-1))

    take(road, write(tmp_path / "rows.jsonl", *MIXED), progress=sweep)
    assert set(counts) == {0}
    assert [row[0] for row in batches(road.shop)] == ["complete"]


# ---------------------------------------------------------------- sources that change, chunks that meet


@pytest.mark.usefixtures("small_chunks")
def test_a_file_that_changes_while_it_is_read_fails_its_batch(road: Road, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", *MIXED)

    def append(report: Any, source: Any) -> None:
        with path.open("ab") as file:
            file.write(as_lines([issue(500)]))

    with pytest.raises(BadSource, match="changed while it was read") as caught:
        take(road, path, progress=append)
    assert caught.value.instance_code == "source.changed"
    assert [row[0] for row in batches(road.shop)] == ["failed"]
    assert [found for found in road.items() if found["reason"] == "dependency"] == [], "nothing waits for a batch that ended"
    assert take(road, path).rows == path.read_bytes().count(b"\n")


def test_a_chunk_that_meets_another_intake_decides_again(
    road: Road, admin: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = arrivals.known_orders
    calls: list[int] = []

    def looked(*arguments: Any) -> Any:
        found = known(*arguments)
        if not calls:
            calls.append(1)
            road.take_in([issue(1)])  # another intake commits between our look and our insert
        return found

    monkeypatch.setattr(storing, "known_orders", looked)
    report = take(road, write(tmp_path / "rows.jsonl", issue(1), issue(2), {"number": 3}))
    assert (report.accepted, report.duplicate, report.rejected) == (1, 1, 1)
    assert len(road.items()) == 2


def test_intakes_that_never_get_through_say_so(road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def collide(*_: Any, **__: Any) -> None:
        raise psycopg.errors.UniqueViolation

    monkeypatch.setattr(storing, "admit", collide)
    with pytest.raises(Conflict, match="other intakes keep taking the same subjects"):
        take(road, write(tmp_path / "rows.jsonl", issue(1)))
    assert batches(road.shop) == [("reading", 0, 0, 0, 0)]


def test_a_chunk_is_written_whole_or_not_at_all(road: Road, admin: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = written(admin)

    def broken(*_: Any, **__: Any) -> None:
        raise Stopped

    monkeypatch.setattr(storing, "note_chunk", broken)
    with pytest.raises(Stopped):
        take(road, write(tmp_path / "rows.jsonl", issue(1), merged(2, fixes=1)))
    after = written(admin)
    assert {name for name in after if after[name] != before[name]} == {"batches", "triggers"}


def test_a_large_body_is_stored_beside_the_database_and_worked_on_all_the_same(road: Road, admin: Connection) -> None:
    road.take_in([issue(1, body="wide " * 20_000)])
    assert admin.execute("SELECT count(*) FROM bodies").fetchone() == (0,)
    road.run()
    assert road.states() == {"archive/done": 1}


# ---------------------------------------------------------------- limits


def test_a_share_of_rejects_is_held_to_once_there_are_enough_rows() -> None:
    share = RejectLimit(percent=1)
    assert not share.is_passed(5, 10, final=False)
    assert share.is_passed(5, 10, final=True)
    assert share.is_passed(11, 1000, final=False)
    assert not share.is_passed(10, 1000, final=True)
    assert RejectLimit(rows=0).is_passed(1, 1, final=False)
    assert not RejectLimit().is_passed(9, 9, final=True)


@pytest.mark.parametrize(("text", "limit"), [("0", RejectLimit(0)), ("250", RejectLimit(250)), ("2.5%", RejectLimit(None, 2.5))])
def test_a_limit_of_rejects_is_a_count_or_a_share(text: str, limit: RejectLimit) -> None:
    assert reject_limit(text) == limit


@pytest.mark.parametrize("text", ["", "-1", "1.5", "%", "nan%", "101%", "5%%", "٣", "1e3"])
def test_any_other_limit_of_rejects_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="expected a number of rows such as 100, or a share"):
        reject_limit(text)


@pytest.mark.usefixtures("small_chunks")
def test_an_intake_stops_at_the_chunk_that_has_too_many_rejects(road: Road, tmp_path: Path) -> None:
    rows = [issue(1), issue(2), issue(3), issue(4), *({"number": n} for n in range(4)), *(issue(n) for n in range(5, 20))]
    with pytest.raises(BadInput, match="stopped after row 8; the 4 accepted before stay"):
        take(road, write(tmp_path / "rows.jsonl", *rows), max_rejects=RejectLimit(3))
    assert batches(road.shop) == [("failed", 8, 4, 4, 0)]
    assert {found["stage"] for found in road.items()} == {"route"}, "what was taken in is worked on"


def test_a_source_is_read_once_alone(road: Road, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", issue(1))
    with opened(road) as job, open_source(str(path)) as source:
        take_in(job, source)
        with pytest.raises(BadInput, match="already read"):
            take_in(job, source)


def test_rows_of_another_workspace_are_never_met(road: Road, admin: Connection, workspace: UUID) -> None:
    road.take_in([issue(1)])
    with road.shop.connect(Role.OPERATE) as conn:
        other = ensure_workspace(conn, "elsewhere")
        publish_floor(conn, other, read_floor(None), road.registry, by="test")
    with road.shop.connect(Role.INTAKE) as conn:
        job = open_intake(conn, road.shop.store, other, "issue-sweep", road.registry, submitter=SERVICE)
        folder = Path(road.shop.tracker_dir).parent
        report = take_file(job, FromFile(str(write(folder / "other.jsonl", issue(1, title="Other")))))
    assert (report.accepted, report.rejected) == (1, 0)
    assert admin.execute("SELECT count(DISTINCT workspace_id) FROM items").fetchone() == (2,)
