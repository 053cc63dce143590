"""Every reason of the lifecycle has its sentence, and every end too."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from contracts.attempts import Cause
from contracts.envelope import action_id
from contracts.errors import BadInput, NotFound
from contracts.identity import new_id
from contracts.lifecycle import Reason, Role, Stage, State, Wait, move
from pipeline.access.tokens import ensure_actor, issue_token
from pipeline.intake.from_file import open_intake
from pipeline.intake.intake import take_in
from pipeline.intake.sources import open_source
from pipeline.review.clearances import Answer, Ballot, decide
from pipeline.startup.setup import SERVICE
from pipeline.worker.fair_share import FairShare, take
from queues.board.dossier import history, read_dossier
from queues.board.endings import format_duration
from queues.board.why import SENTENCES, Why, why
from queues.claims import Claim
from queues.database import Connection, transaction
from queues.lookup import find_item
from queues.mover import Planned, Route, perform
from queues.pauses import pause, scope_of
from tests.in_process import Clock, Road, issue, merged
from tests.scripted_cells import strand
from workcells.appliers.tracker_seed import seed
from workcells.shapes.catalogue import SHAPES

Ask = Callable[[int], Why]
KEY = "acme/widgets#"
FIXED = [issue(1), merged(2, fixes=1), issue(3, updated_at="2025-03-01T00:00:00Z")]
"""An issue that a merged pull request settled, and one that makes the data old enough for that to count."""


@pytest.fixture
def ask(connect: Any, workspace: UUID) -> Ask:
    """Ask why an issue stands where it stands, as the role that only reads."""
    conn = connect(Role.READ)

    def asking(number: int) -> Why:
        with transaction(conn, workspace):
            return why(conn, find_item(conn, f"{KEY}{number}"))

    return asking


def lease(road: Road, lane: str = "route", role: Role = Role.PROPOSE) -> Claim:
    worker = road.worker(role)
    claim = take(worker.context, FairShare(), worker.id, worker.name, lane, batch=10, seconds=30).claim
    assert claim.items
    return claim


def leave(road: Road, claim: Claim, name: str, *, role: Role = Role.PROPOSE, note: str = "", delay: float = 0, **more: Any) -> None:
    """End the lease of a claim's items by a move within their stage."""
    worker = road.worker(role)
    route = Route((move(name, claim.stage, State.LEASED),), claim.lane, (note,), **more)
    with transaction(worker.context.conn, {item.workspace_id for item in claim.items}) as conn:
        moved = perform(
            conn,
            [Planned(item.item_id, item.fence, route, delay_seconds=delay) for item in claim.items],
            by=worker.name,
        )
    assert not moved.refused


def reviewer(connect: Any, workspace: UUID, name: str) -> str:
    conn = connect(Role.OPERATE)
    actor = ensure_actor(conn, workspace, name, kind="person", roles=("reviewer",))
    return issue_token(conn, workspace, actor, label="test", by="test")


def answer(connect: Any, workspace: UUID, admin: Connection, name: str, given: Answer, reason: str = "") -> None:
    row = admin.execute("SELECT id, sha256 FROM shopfloor.proposals WHERE state = 'open'").fetchone()
    assert row is not None
    token = reviewer(connect, workspace, name)
    decide(connect(Role.REVIEW), workspace, token, Ballot(row[0], row[1]), given, reason, by=name)


def test_every_reason_has_a_sentence() -> None:
    assert set(SENTENCES) == set(Reason)


def test_ready_says_who_serves_the_lane_and_how_many_are_ahead(road: Road, ask: Ask) -> None:
    road.take_in([issue(1), issue(2), issue(3)])
    road.worker()
    said = ask(3)
    assert said.reason == "ready"
    assert said.words == "1 worker serves lane route, 2 items ahead of it in its pod"


def test_slot_says_that_no_worker_serves_the_lane_and_how_to_start_one(road: Road, ask: Ask) -> None:
    road.take_in([issue(1)])
    said = ask(1)
    assert (said.reason, said.words) == ("slot", "no live worker serves lane route")
    assert said.type == ("shopfloor up",)


def test_slot_names_the_limit_that_is_reached(road: Road, ask: Ask, admin: Connection, workspace: UUID) -> None:
    road.take_in([issue(1)])
    road.worker()
    admin.execute(
        "INSERT INTO shopfloor.lanes (workspace_id, name, max_active, changed_by) VALUES (%s, 'route', 0, 'ada')",
        [workspace],
    )
    said = ask(1)
    assert (said.reason, said.words) == ("slot", "lane route is at its limit of 0 items in work")


def test_rate_says_when_the_next_minute_begins(road: Road, ask: Ask, admin: Connection, workspace: UUID) -> None:
    road.take_in([issue(1)])
    road.worker()
    admin.execute(
        "INSERT INTO shopfloor.lanes (workspace_id, name, per_minute, changed_by) VALUES (%s, 'route', 0, 'ada')",
        [workspace],
    )
    said = ask(1)
    assert (said.reason, said.words) == ("rate", "lane route has started its 0 of this minute")
    assert said.next_at is not None
    assert said.next_at.second == 0


def test_leased_says_by_whom_under_which_fence_and_until_when(road: Road, ask: Ask) -> None:
    road.take_in([issue(1)])
    lease(road)
    said = ask(1)
    assert said.reason == "leased"
    assert said.words.startswith("leased by inline-propose, fence 1: heartbeat ")
    assert "its lease ends in" in said.next
    assert said.next_at is not None


def test_silent_says_how_long_nothing_was_heard(road: Road, ask: Ask, clock: Clock) -> None:
    road.take_in([issue(1)])
    lease(road)
    clock.advance(12)
    said = ask(1)
    assert said.reason == "silent"
    assert "has sent no heartbeat for 12 s" in said.words
    clock.advance(48)
    assert "its lease ended" in ask(1).next


def test_backoff_counts_what_went_wrong_and_says_when_it_is_tried_again(road: Road, ask: Ask) -> None:
    road.take_in([issue(1)])
    leave(road, lease(road), "retry", note="transient: connection reset", delay=90, cause=Cause.TRANSIENT)
    said = ask(1)
    assert said.reason == "backoff"
    assert said.words == "waits for its next attempt; so far transient 1 of 8: transient: connection reset"
    assert said.next in ("it is tried again in 90 s", "it is tried again in 89 s")
    assert said.next_at is not None


@pytest.mark.parametrize("scope", ["flow:issue-sweep", "all", "workspace", "lane:route", "pod:maintainers"])
def test_paused_says_by_whom_and_why_and_how_to_lift_it(road: Road, ask: Ask, connect: Any, workspace: UUID, scope: str) -> None:
    road.take_in([issue(1)])
    conn = connect(Role.OPERATE)
    pause(conn, workspace, scope_of(conn, workspace, scope), why="release freeze", by="ada")
    said = ask(1)
    assert said.reason == "paused"
    assert said.words.startswith(f"paused: {scope} by ada for ")
    assert said.words.endswith("'release freeze'")
    assert said.type == (f"shopfloor resume {scope}",)


def test_a_pause_on_a_cell_or_on_the_item_itself_is_named(road: Road, ask: Ask, connect: Any, workspace: UUID) -> None:
    road.take_in([issue(1)])
    claim = lease(road)
    conn = connect(Role.OPERATE)
    pause(conn, workspace, scope_of(conn, workspace, "cell:issue_review"), why="bad soul", by="ada")
    pause(conn, workspace, scope_of(conn, workspace, f"item:{claim.items[0].item_id}"), why="look at it", by="bea")
    leave(road, claim, "give_back")
    said = ask(1)
    assert said.type == (f"shopfloor resume item:{claim.items[0].item_id}",)
    worker = road.worker()
    pin = worker.context.pin("issue_review")
    again = perform_to_cell(road, said.item_id, pin, connect, workspace, conn)
    assert again
    assert ask(1).type == ("shopfloor resume cell:issue_review", f"shopfloor resume item:{said.item_id}")


def perform_to_cell(road: Road, item: UUID, pin: int, connect: Any, workspace: UUID, operate: Connection) -> bool:
    """Bring an item that a pause holds in front of its cell, as a worker that had claimed it before would."""
    with transaction(operate, workspace):
        operate.execute("UPDATE pauses SET lifted_at = clock(), lifted_by = 'ada' WHERE kind = 'item'")
    claim = lease(road)
    route = Route((move("hand_on", Stage.ROUTE, State.LEASED, Stage.WORKCELL),), "cell.issue_review", contract_id=pin)
    conn = road.worker().context.conn
    with transaction(conn, workspace):
        moved = perform(conn, [Planned(item, claim.items[0].fence, route)], by="test")
    pause(operate, workspace, scope_of(operate, workspace, f"item:{item}"), why="look at it", by="bea")
    return bool(moved.done)


def test_dependency_says_which_batch_is_still_read(road: Road, ask: Ask, tmp_path: Path, connect: Any, workspace: UUID) -> None:
    path = tmp_path / "half.jsonl"
    path.write_text(json.dumps(issue(1)) + "\n" + '{"number": 2}\n', encoding="utf-8")
    conn = connect(Role.INTAKE)

    class Died(Exception):
        """The process that took in ended between two chunks."""

    def die(*_: object) -> None:
        raise Died

    job = open_intake(conn, road.shop.store, workspace, "issue-sweep", road.registry, submitter=SERVICE, progress=die)
    with open_source(str(path)) as source, pytest.raises(Died):
        take_in(job, source)
    said = ask(1)
    assert said.reason == "dependency"
    assert "is complete: 2 rows so far, the intake still reads" in said.words
    assert said.type[0].startswith("shopfloor batch show ")


def test_approval_says_how_many_are_missing_and_for_what(road: Road, ask: Ask) -> None:
    road.take_in(FIXED)
    road.run()
    said = ask(1)
    assert (said.reason, said.words) == (
        "approval",
        "needs 1 approval, has 0: 'close acme/widgets#1' (tier single)",
    )
    assert said.type[0].startswith("shopfloor review show ")
    assert "lane apply.tracker" in said.next


def test_an_approval_that_nobody_gave_in_time_is_called_overdue(road: Road, ask: Ask, clock: Clock) -> None:
    road.take_in(FIXED)
    road.run()
    clock.advance(3 * 86400)
    assert "overdue for 24 h" in ask(1).words


def test_second_approval_names_who_approved_already(road: Road, ask: Ask, connect: Any, workspace: UUID, admin: Connection) -> None:
    road.take_in(FIXED)
    road.run()
    admin.execute("UPDATE shopfloor.clearances SET tier = 'dual', needed = 2")
    answer(connect, workspace, admin, "bea", Answer.APPROVE)
    said = ask(1)
    assert said.reason == "second_approval"
    assert said.words == "needs 2 approvals, has 1: 'close acme/widgets#1' (tier dual); approved by bea"
    assert said.next.startswith("another reviewer decides")


def test_human_says_what_was_asked_and_found(road: Road, ask: Ask) -> None:
    road.take_in([issue(1)])
    leave(road, lease(road), "escalate", note="is this the same as #7?", wait=Wait.HUMAN, waiting_on="an answer")
    said = ask(1)
    assert said.reason == "human"
    assert said.words == "waits for an answer; inline-propose asked: is this the same as #7?"
    assert any(command.startswith("shopfloor rework ") for command in said.type)


def test_unknown_says_what_was_sent_and_that_it_is_not_sent_again(
    road: Road, ask: Ask, connect: Any, workspace: UUID, admin: Connection
) -> None:
    road.take_in(FIXED)
    road.run()
    answer(connect, workspace, admin, "bea", Answer.APPROVE)
    claim = lease(road, "apply.tracker", Role.APPLY)
    apply = connect(Role.APPLY)
    with transaction(apply, workspace):
        row = apply.execute("SELECT id, item_id, sha256, target, adapter FROM proposals").fetchone()
        assert row is not None
        proposal, item, sha256, target, adapter = row
        apply.execute(
            "INSERT INTO applies (id, workspace_id, proposal_id, item_id, action_id, proposal_sha256, adapter, "
            "idempotency_class, fence) VALUES (%s, %s, %s, %s, %s, %s, %s, 'none', %s)",
            [new_id(), workspace, proposal, item, action_id(sha256, target), sha256, adapter, claim.items[0].fence],
        )
    leave(
        road, claim, "escalate", role=Role.APPLY, note="the connection broke after the request", wait=Wait.UNKNOWN,
        waiting_on="a person",
    )  # fmt: skip
    said = ask(1)
    assert said.reason == "unknown"
    assert said.words.startswith("'close acme/widgets#1' through tracker was sent ")
    assert said.words.endswith("could not be learned: the connection broke after the request")
    assert "nothing is ever sent blindly again" in said.next


def test_budget_says_which_one_is_spent(road: Road, ask: Ask, connect: Any) -> None:
    road.take_in([issue(1)])
    item = ask(1)
    row = {"waiting_on": "pod:maintainers", "lane": item.lane, "next_at": None, "item_id": item.item_id}
    said = SENTENCES[Reason.BUDGET](connect(Role.READ), row)
    assert said.words == "no money is left in a budget that covers it: pod:maintainers"


def test_a_dead_letter_says_what_killed_it(road: Road, ask: Ask) -> None:
    road.take_in([issue(1)])
    leave(road, lease(road), "bury", note="crash: killed by signal 9", cause=Cause.CRASH)
    said = ask(1)
    assert (said.state, said.reason) == ("dead", None)
    assert said.words == "dead letter of lane route: crash: killed by signal 9"


def test_an_ended_item_says_what_was_found(road: Road, ask: Ask) -> None:
    road.take_in([issue(3)])
    road.run()
    said = ask(3)
    assert (said.state, said.words) == ("done", "done, filed under nothing_found; it proposed nothing")


def test_a_context_row_says_that_it_was_never_worked_on(road: Road, ask: Ask) -> None:
    road.take_in([merged(2, fixes=1)])
    assert "context" in ask(2).words


def test_an_applied_item_says_what_was_applied_and_who_approved(
    road: Road, ask: Ask, connect: Any, workspace: UUID, admin: Connection
) -> None:
    seed(road.shop.tracker_dir, [SHAPES["github_issue"].normalise(FIXED[0])])
    road.take_in(FIXED)
    road.run()
    answer(connect, workspace, admin, "bea", Answer.APPROVE, "clear case")
    road.run()
    said = ask(1)
    assert said.state == "done", said
    assert "'close acme/widgets#1' was applied through tracker (bea approve: clear case)" in said.words


def test_a_rejected_item_says_who_rejected_it(road: Road, ask: Ask, connect: Any, workspace: UUID, admin: Connection) -> None:
    road.take_in(FIXED)
    road.run()
    answer(connect, workspace, admin, "bea", Answer.REJECT, "still happens")
    said = ask(1)
    assert said.state == "refused"
    assert "bea reject: still happens" in said.words


def test_a_superseded_item_points_to_the_newer_order(road: Road, connect: Any, workspace: UUID) -> None:
    road.take_in([issue(1)])
    conn = connect(Role.READ)
    with transaction(conn, workspace):
        old = find_item(conn, f"{KEY}1")
    road.take_in([issue(1, updated_at="2025-04-01T00:00:00Z")])
    with transaction(conn, workspace):
        said, newer = why(conn, old), find_item(conn, f"{KEY}1")
    assert newer.item_id != old.item_id
    assert said.state == "superseded"
    assert said.words.startswith("superseded by revision 2025-04-01T00:00:00Z")
    assert said.type == (f"shopfloor show {newer.order_id}",)


def test_a_cancelled_item_says_by_whom(road: Road, ask: Ask, connect: Any, workspace: UUID) -> None:
    road.take_in([issue(1)])
    conn = connect(Role.OPERATE)
    item = ask(1).item_id
    with transaction(conn, workspace):
        route = Route((move("cancel", Stage.ROUTE, State.READY),), "route", ("not ours",), finding="cancelled")
        perform(conn, [Planned(item, 0, route)], by="ada")
    assert ask(1).words == "cancelled in stage route by ada: not ours"


def test_an_item_is_found_by_order_by_the_beginning_of_its_id_and_by_subject(road: Road, connect: Any, workspace: UUID) -> None:
    road.take_in([issue(1), issue(2)])
    conn = connect(Role.READ)
    with transaction(conn, workspace):
        found = find_item(conn, f"{KEY}1")
        assert find_item(conn, str(found.item_id)) == found
        assert find_item(conn, str(found.order_id)) == found
        assert find_item(conn, str(found.item_id)[:-2]) == found
        with pytest.raises(BadInput, match="start with"):
            find_item(conn, str(found.item_id)[:9])
        for missing in ("acme/widgets#99", str(new_id()), "", "nul\0"):
            with pytest.raises(NotFound):
                find_item(conn, missing)


def test_history_starts_from_nowhere_and_says_the_time_between(road: Road, connect: Any, workspace: UUID) -> None:
    road.take_in([issue(3)])
    road.run()
    conn = connect(Role.READ)
    with transaction(conn, workspace):
        moves = history(conn, find_item(conn, f"{KEY}3").item_id)
    assert (moves[0]["from_stage"], moves[0]["gap_seconds"]) == ("none", None)
    assert all(after["from_stage"] == before["to_stage"] for before, after in pairwise(moves))
    assert [one["no"] for one in moves] == list(range(1, len(moves) + 1))
    assert all(one["gap_seconds"] >= 0 for one in moves[1:])


def test_the_dossier_holds_everything_that_an_item_left(road: Road, connect: Any, workspace: UUID, admin: Connection) -> None:
    road.take_in(FIXED)
    road.run()
    answer(connect, workspace, admin, "bea", Answer.REJECT, "still happens")
    conn = connect(Role.READ)
    with transaction(conn, workspace):
        dossier = read_dossier(conn, find_item(conn, f"{KEY}1"))
    assert dossier["order"]["subject_key"] == f"{KEY}1"
    assert dossier["contract"]["name"] == "issue_review"
    assert [one["outcome"] for one in dossier["attempts"]] == ["proposal"]
    assert {one["kind"] for one in dossier["artifacts"]} == {"issue_decision@1", "proposal@1"}
    assert any(one["source"]["kind"] == "quote" for one in dossier["evidence"])
    [verdict] = dossier["verdicts"]
    assert verdict["passed"]
    assert {"schema", "evidence"} <= {check["check"] for check in verdict["checks"]}
    [proposal] = dossier["proposals"]
    assert [(one["actor"], one["decision"]) for one in proposal["decisions"]] == [("bea", "reject")]


def test_another_workspace_does_not_find_it(road: Road, connect: Any) -> None:
    road.take_in([issue(1)])
    conn = connect(Role.READ)
    with transaction(conn, new_id()), pytest.raises(NotFound):
        find_item(conn, f"{KEY}1")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (-3, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2 h"), (200_000, "2 days")],
)
def test_durations_are_said_in_the_unit_that_fits(seconds: float, said: str) -> None:
    assert format_duration(seconds) == said


def test_work_of_a_cell_that_no_flow_uses_any_more_is_not_told_to_wait_for_a_worker(
    road: Road, connect: Any, workspace: UUID, tmp_path: Path
) -> None:
    strand(road, workspace, tmp_path)
    conn = connect(Role.READ)
    with transaction(conn, workspace):
        said = why(conn, find_item(conn, "a"))
    assert said.words == "no flow of the floor in force uses lane cell.scripted, so no worker serves it"
    assert said.type[0] == f"shopfloor cancel {said.item_id}"


def test_a_pause_that_covers_an_item_in_approval_is_said_too(road: Road, ask: Ask, connect: Any, workspace: UUID) -> None:
    road.take_in(FIXED)
    road.run()
    operate = connect(Role.OPERATE)
    assert "paused" not in ask(1).words
    pause(operate, workspace, scope_of(operate, workspace, "lane:apply.tracker"), why="freeze", by="ada")
    said = ask(1)
    assert said.words.startswith("needs 1 approval, has 0: ")
    assert "; also paused: lane:apply.tracker by ada for 0 s: 'freeze'" in said.words
    assert said.type[-1] == "shopfloor resume lane:apply.tracker"


def test_a_forecast_is_a_range_of_whole_minutes_and_nothing_while_few_are_known(
    road: Road, ask: Ask, admin: Connection, workspace: UUID
) -> None:
    road.take_in([issue(number) for number in range(1, 62)])
    road.worker()
    minute = "INSERT INTO shopfloor.lane_minutes (workspace_id, lane, minute, worker_id, finished) VALUES (%s, 'route', date_trunc('minute', shopfloor.clock()) - make_interval(mins => %s), %s, %s)"
    for ago, finished in ((4, 1), (3, 10), (2, 30)):
        admin.execute(minute, [workspace, ago, new_id(), finished])
    admin.execute(minute, [workspace, 0, new_id(), 7])
    assert ask(61).next == "a worker takes it when its turn comes: 2 min or more at the pace of the last 3 minutes"
    admin.execute(minute, [workspace, 1, new_id(), 20])
    assert ask(61).next == "a worker takes it when its turn comes: 2 min to 6 min at the pace of the last 3 minutes"
    admin.execute("DELETE FROM shopfloor.lane_minutes WHERE minute < shopfloor.clock() - interval '200 s'")
    assert ask(61).next == "a worker takes it when its turn comes"
