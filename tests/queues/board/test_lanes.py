"""The board: the same reasons as claiming, waiting apart from stalled, unknown apart from zero."""

from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from contracts.attempts import Cause
from contracts.identity import new_id
from contracts.lifecycle import Role, State, Wait, move
from pipeline.intake.batch_book import _hold
from pipeline.stages import pace
from pipeline.startup.compose import Shop
from pipeline.worker.fair_share import FairShare, take
from queues.board.lanes import Board, Lane, read_board
from queues.claims import Claim, give_back
from queues.database import Connection, transaction
from queues.mover import Planned, Route, perform
from queues.pauses import pause, scope_of
from tests.in_process import Clock, Road, issue, merged
from tests.scripted_cells import DRAFTS, put_in_force, rows, strand


def lease(road: Road, lane: str = "route", *, batch: int = 10) -> Claim:
    worker = road.worker()
    claim = take(worker.context, FairShare(), worker.id, worker.name, lane, batch=batch, seconds=30).claim
    assert claim.items
    return claim


def leave(road: Road, claim: Claim, name: str, *, delay: float = 0, **more: Any) -> None:
    worker = road.worker()
    route = Route((move(name, claim.stage, State.LEASED),), claim.lane, **more)
    with transaction(worker.context.conn, {item.workspace_id for item in claim.items}) as conn:
        wishes = [Planned(item.item_id, item.fence, route, delay_seconds=delay) for item in claim.items]
        assert not perform(conn, wishes, by=worker.name).refused


@pytest.fixture
def board(connect: Any, workspace: UUID) -> Any:
    conn = connect(Role.READ)
    return lambda: read_board(conn, workspace)


def lane_of(board: Board, name: str) -> Lane:
    return next(lane for lane in board.lanes if lane.lane == name)


def test_an_empty_factory_has_an_empty_board_and_needs_nothing(board: Any) -> None:
    seen = board()
    assert (seen.lanes, seen.waiting, seen.dead, seen.needs_attention) == ([], [], 0, False)
    assert seen.sweeper is None, "no sweeper was seen: that is unknown, not none"
    assert seen.totals["in_queue"] == 0


def test_ready_work_without_a_worker_is_stalled_and_says_what_to_type(road: Road, board: Any) -> None:
    road.take_in([issue(1), issue(2)])
    route = lane_of(board(), "route")
    assert (route.ready, route.waiting, route.workers) == (2, 0, 0)
    assert route.stalled == "no live worker serves it: 2 items are ready"
    assert route.remedy == "shopfloor up"
    assert board().needs_attention


def test_ready_work_with_a_worker_is_not_stalled(road: Road, board: Any) -> None:
    road.take_in([issue(1)])
    road.worker()
    route = lane_of(board(), "route")
    assert (route.ready, route.workers, route.stalled) == (1, 1, "")
    assert route.oldest_ready_seconds is not None
    assert not board().needs_attention


def test_idle_lanes_of_live_workers_are_on_the_board_in_the_order_of_the_road(road: Road, board: Any) -> None:
    road.worker()
    assert [lane.lane for lane in board().lanes] == [
        "route", "cell.issue_review", "artifact", "qa", "rework", "archive",
    ]  # fmt: skip


def test_a_served_lane_in_which_nothing_moves_for_a_minute_is_stalled(road: Road, board: Any, clock: Clock, admin: Connection) -> None:
    road.take_in([issue(1)])
    road.worker()
    clock.advance(90)
    admin.execute("UPDATE shopfloor.workers SET beat_at = shopfloor.clock()")
    assert "1 live worker serves it and does not take work" in lane_of(board(), "route").stalled


def test_a_lane_that_claims_and_gives_back_and_finishes_nothing_is_stalled(road: Road, board: Any) -> None:
    road.take_in([issue(1)])
    conn = road.worker().context.conn

    def claim_and_give_back() -> None:
        claim = lease(road)
        with transaction(conn, claim.items[0].workspace_id):
            assert give_back(conn, claim.id, by="w", note="the database went away") == {claim.items[0].item_id: "route"}

    for _ in range(19):
        claim_and_give_back()
    assert lane_of(board(), "route").stalled == ""
    claim_and_give_back()
    route = lane_of(board(), "route")
    assert (route.returned, route.stalled) == (20, "items were claimed and given back 20 times in the last minutes, and none was finished")
    assert board().needs_attention
    road.run()
    assert not board().needs_attention, "one was finished"


def test_what_a_worker_gives_back_because_its_group_was_slow_is_counted_too(
    road: Road, shop: Shop, board: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "LATE_SECONDS", -1.0)  # every group is late after its first item
    road.registry = put_in_force(shop, tmp_path / "cells", DRAFTS)
    road.take_in(rows(["a", "b", "c"]), flow="scripted")
    road.worker().step("route")
    cell = lane_of(board(), "cell.scripted")
    assert (cell.finished, cell.failed, cell.returned) == (1, 0, 2)


def test_work_of_a_cell_that_no_flow_uses_any_more_says_so_and_not_to_start_a_worker(
    road: Road, board: Any, workspace: UUID, tmp_path: Path
) -> None:
    strand(road, workspace, tmp_path)
    lane = lane_of(board(), "cell.scripted")
    assert lane.stalled == (
        "no flow of the floor in force uses it, so no worker serves it: 1 item is ready; "
        "apply a floor with a flow that does, or cancel them"
    )
    assert lane.remedy == "shopfloor cancel --lane cell.scripted --dry-run"


def test_leased_and_silent_are_told_apart_and_silent_is_stalled(road: Road, board: Any, clock: Clock) -> None:
    road.take_in([issue(1), issue(2)])
    lease(road)
    route = lane_of(board(), "route")
    assert (route.ready, route.active, route.silent, route.stalled) == (0, 2, 0, "")
    clock.advance(12)
    route = lane_of(board(), "route")
    assert (route.active, route.silent) == (2, 2)
    assert "sends no heartbeat" in route.stalled


def test_a_lease_that_ended_and_still_stands_means_a_late_sweeper(road: Road, board: Any, clock: Clock) -> None:
    road.take_in([issue(1)])
    lease(road)
    clock.advance(45)
    seen = board()
    assert seen.sweeper == "late"
    assert lane_of(seen, "route").remedy == "shopfloor sweeper"
    road.sweep()
    assert board().sweeper is None


def test_a_connected_sweeper_is_seen_running(road: Road, board: Any) -> None:
    with road.shop.connect(Role.SWEEP, name="sweeper"):
        assert board().sweeper == "running"


def test_waiting_is_counted_by_reason_and_never_stalled(road: Road, board: Any) -> None:
    road.take_in([issue(1), merged(2, fixes=1), issue(3, updated_at="2025-03-01T00:00:00Z")])
    road.run()
    seen = board()
    assert [(one.reason, one.items) for one in seen.waiting] == [("approval", 1)]
    assert lane_of(seen, "qa").waiting == 1
    assert not seen.needs_attention
    assert seen.totals["in_queue"] == 1
    assert seen.totals["ended"] == 2


def test_dead_letters_need_attention(road: Road, board: Any) -> None:
    road.take_in([issue(1)])
    leave(road, lease(road), "bury", cause=Cause.CRASH)
    seen = board()
    assert (seen.dead, lane_of(seen, "route").dead) == (1, 1)
    assert seen.oldest_dead_seconds is not None
    assert seen.needs_attention


def test_finished_failed_and_their_share_come_from_the_last_minutes(road: Road, board: Any, clock: Clock) -> None:
    road.take_in([issue(1)])
    road.run()
    cell = lane_of(board(), "cell.issue_review")
    assert (cell.finished, cell.failed, cell.failed_share) == (1, 0, 0.0)
    clock.advance(360)
    names = [lane.lane for lane in board().lanes]
    assert "cell.issue_review" not in names, "nothing there, nobody serves it, nothing moved"


def test_net_flow_is_what_the_window_added(road: Road, board: Any, clock: Clock) -> None:
    road.take_in([issue(number) for number in range(1, 6)])
    assert lane_of(board(), "route").net_flow == 5
    clock.advance(600)
    assert lane_of(board(), "route").net_flow == 0, "all of it was there before the window"
    road.take_in([issue(number) for number in range(6, 9)])
    assert lane_of(board(), "route").net_flow == 3


def test_a_lane_that_keeps_up_has_no_net_flow(road: Road, board: Any) -> None:
    road.take_in([issue(1)])
    road.run()
    road.take_in([issue(2)])
    assert lane_of(board(), "route").net_flow is None


def test_another_workspace_sees_none_of_it(road: Road, connect: Any) -> None:
    road.take_in([issue(1)])
    seen = read_board(connect(Role.READ), new_id())
    assert (seen.lanes, seen.totals["rows"]) == ([], 0)


def test_the_board_counts_each_reason_as_the_scheduler_does(
    road: Road, board: Any, connect: Any, workspace: UUID, admin: Connection, clock: Clock
) -> None:
    """One item for every reason that a queue can hold; the view `item_reasons` judges each one alone, the board all at once."""
    operate = connect(Role.OPERATE)
    road.take_in([issue(number) for number in range(1, 13)])
    leave(road, lease(road, batch=2), "escalate", wait=Wait.HUMAN, waiting_on="a person")
    leave(road, lease(road, batch=1), "bury", cause=Cause.CRASH)
    leave(road, lease(road, batch=2), "retry", cause=Cause.TRANSIENT, delay=600)
    lease(road, batch=1)
    clock.advance(12)
    lease(road, batch=2)
    with transaction(operate, workspace):
        rows = operate.execute("SELECT item_id, order_id FROM queue WHERE state = 'ready' AND due_at <= clock()").fetchall()
    pause(operate, workspace, scope_of(operate, workspace, f"item:{rows[0][0]}"), why="look", by="ada")
    pause(operate, workspace, scope_of(operate, workspace, f"order:{rows[1][1]}"), why="look", by="ada")

    def judged() -> Counter[str]:
        with transaction(operate, workspace):
            return Counter(dict(operate.execute("SELECT coalesce(reason, 'dead'), count(*) FROM item_reasons GROUP BY 1").fetchall()))

    def shown() -> Counter[str]:
        seen = board()
        counts = Counter({one.reason: one.items for one in seen.waiting})
        route = lane_of(seen, "route")
        silent = route.silent
        return counts + Counter({"dead": seen.dead, "silent": silent, "leased": route.active - silent, "ready": route.ready})

    assert judged() == shown() == {
        "human": 2, "dead": 1, "backoff": 2, "silent": 1, "leased": 2, "paused": 2, "ready": 2,
    }  # fmt: skip
    admin.execute(
        "INSERT INTO shopfloor.lanes (workspace_id, name, max_active, changed_by) VALUES (%s, 'route', 3, 'ada')",
        [workspace],
    )
    assert judged()["slot"] == shown()["slot"] == 2
    admin.execute("UPDATE shopfloor.lanes SET max_active = NULL, per_minute = 0")
    assert judged()["rate"] == shown()["rate"] == 2
    pause(operate, workspace, scope_of(operate, workspace, "flow:issue-sweep"), why="freeze", by="ada")
    assert judged()["paused"] == shown()["paused"] == 6
    assert [one["scope"] for one in board().pauses][-1] == "flow:issue-sweep"


def test_a_batch_whose_intake_is_gone_needs_attention_and_one_that_is_read_does_not(
    road: Road, shop: Shop, board: Any, admin: Connection
) -> None:
    road.take_in([issue(1)])
    admin.execute("UPDATE batches SET state = 'reading', finished_at = NULL, read_at = clock() - interval '1 minute'")
    [(batch,)] = admin.execute("SELECT id FROM batches").fetchall()
    [gone] = board().unread
    assert (gone["id"], gone["rows_read"]) == (batch, 1)
    assert board().needs_attention
    with shop.connect(Role.INTAKE) as conn:
        assert _hold(conn, batch, until=0)
        assert board().unread == []


def test_what_died_in_a_lane_is_counted_as_failed(road: Road, board: Any, clock: Clock) -> None:
    road.take_in([issue(1)])
    lease(road)
    clock.advance(31)
    assert road.sweep()["expired"] == 1
    assert (lane_of(board(), "route").failed, lane_of(board(), "route").failed_share) == (1, 1.0)
