"""Many claimers at one lane: no item twice, none forgotten, no deadlock."""

import threading
import time
from collections import Counter
from contextlib import closing
from typing import Any
from uuid import UUID

import pytest
from contracts.identity import new_id
from contracts.lifecycle import Role, Stage, State, move
from pipeline.startup.compose import Shop
from pipeline.startup.setup import load_registry
from pipeline.worker.fair_share import FairShare, take
from pipeline.worker.inline import InlineWorker
from queues import workers
from queues.claims import claim_batch, give_back
from queues.database import Connection, transaction
from queues.mover import Planned, Route, perform
from tests.in_process import Clock, Road, issue
from tests.reviews import look

pytestmark = pytest.mark.races


def _together(count: int, act: Any) -> list[BaseException]:
    """Run `act(number)` in that many threads at once and return what they raised."""
    raised: list[BaseException] = []
    gate = threading.Barrier(count)

    def run(number: int) -> None:
        gate.wait()
        try:
            act(number)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def test_sixteen_claimers_share_a_lane_without_taking_an_item_twice(road: Road, shop: Shop, workspace: UUID) -> None:
    road.take_in([issue(number) for number in range(1, 201)])
    taken: Counter[UUID] = Counter()
    lock = threading.Lock()

    def claim(number: int) -> None:
        with shop.connect(Role.PROPOSE, worker=True) as conn:
            worker_id = new_id()
            workers.register(conn, worker_id, name=f"racer-{number}", host="here", pid=number, lanes=["route"])
            pod = conn.execute("SELECT 1").fetchone() and _pod(conn, workspace)
            for _ in range(100):
                with transaction(conn, workspace):
                    found = claim_batch(
                        conn, new_id(), worker_id, f"racer-{number}", "route", Stage.ROUTE, {(workspace, pod): 7}, seconds=30
                    )
                if not found.items:
                    return
                with lock:
                    taken.update(item.item_id for item in found.items)

    assert _together(16, claim) == []
    assert len(taken) == 200
    assert set(taken.values()) == {1}


def test_workers_that_move_overlapping_sets_in_any_order_never_deadlock_and_move_each_once(road: Road, shop: Shop, workspace: UUID) -> None:
    road.take_in([issue(number) for number in range(1, 101)])
    with shop.connect(Role.PROPOSE) as conn:
        worker_id, claim_id = new_id(), new_id()
        workers.register(conn, worker_id, name="one", host="here", pid=1, lanes=["route"])
        with transaction(conn, workspace):
            held = claim_batch(
                conn, claim_id, worker_id, "one", "route", Stage.ROUTE, {(workspace, _pod(conn, workspace)): 100}, seconds=30
            )
    route = Route((move("give_back", Stage.ROUTE, State.LEASED),), "route")
    done: Counter[UUID] = Counter()
    lock = threading.Lock()

    def hand_back(number: int) -> None:
        wishes = [Planned(item.item_id, item.fence, route) for item in held.items]
        with shop.connect(Role.PROPOSE) as conn, transaction(conn, workspace):
            moved = perform(conn, wishes if number % 2 else wishes[::-1], by=f"racer-{number}")
        with lock:
            done.update(list(moved.done))

    assert _together(8, hand_back) == []
    assert len(done) == 100
    assert set(done.values()) == {1}


def test_a_claim_that_another_session_holds_locked_stays_open_when_it_is_given_back(road: Road, shop: Shop, workspace: UUID) -> None:
    road.take_in([issue(1), issue(2)])
    with shop.connect(Role.PROPOSE) as conn, shop.connect(Role.PROPOSE) as other:
        worker_id, claim_id = new_id(), new_id()
        workers.register(conn, worker_id, name="one", host="here", pid=1, lanes=["route"])
        with transaction(conn, workspace):
            held = claim_batch(conn, claim_id, worker_id, "one", "route", Stage.ROUTE, {(workspace, _pod(conn, workspace)): 2}, seconds=30)
        # A session whose connection was cut may live on for a moment, with its rows locked.
        with transaction(other, workspace):
            other.execute("SELECT FROM queue WHERE item_id = %s FOR NO KEY UPDATE", [held.items[0].item_id])
            with transaction(conn, workspace):
                give_back(conn, claim_id, by="one", note="cut off")
            assert _closed_at(conn, claim_id) is None
        with transaction(conn, workspace):
            give_back(conn, claim_id, by="one", note="again")
        assert _closed_at(conn, claim_id) is not None
    assert road.states() == {"route/ready": 2}


def _pod(conn: Any, workspace: UUID) -> UUID:
    with transaction(conn, workspace):
        row = conn.execute("SELECT id FROM pods WHERE name = 'maintainers'").fetchone()
    found: UUID = row[0]
    return found


def _closed_at(conn: Any, claim_id: UUID) -> Any:
    return conn.execute("SELECT closed_at FROM claims WHERE id = %s", [claim_id]).fetchone()[0]


def limit(admin: Connection, workspace: UUID, **most: int) -> None:
    names = ", ".join(most)
    admin.execute(
        f"INSERT INTO shopfloor.lanes (workspace_id, name, {names}, changed_by) VALUES (%s, 'route', {', '.join(['%s'] * len(most))}, 'ada')",
        [workspace, *most.values()],
    )


def claimed(worker: InlineWorker) -> int:
    return len(take(worker.context, FairShare(), worker.id, worker.name, "route", batch=50, seconds=30).claim.items)


def test_a_limit_holds_over_every_claim_and_pod_of_its_workspace(road: Road, admin: Connection, workspace: UUID) -> None:
    road.take_in([issue(number) for number in range(1, 41)])
    admin.execute("INSERT INTO pods (id, workspace_id, name) VALUES (gen_random_uuid(), %s, 'second')", [workspace])
    admin.execute("SET session_replication_role = replica")
    admin.execute(
        "UPDATE queue SET pod_id = (SELECT id FROM pods WHERE name = 'second') WHERE item_id IN (SELECT item_id FROM queue LIMIT 20)"
    )
    admin.execute("SET session_replication_role = origin")
    limit(admin, workspace, max_active=5)
    counts = [claimed(road.worker()) for _ in range(3)]
    assert counts == [5, 0, 0]
    assert look(admin, "SELECT count(DISTINCT pod_id) FROM queue WHERE state = 'leased'") == [2]


def test_claims_at_once_do_not_pass_a_limit_together(shop: Shop, road: Road, admin: Connection, workspace: UUID) -> None:
    road.take_in([issue(number) for number in range(1, 61)])
    limit(admin, workspace, max_active=7)
    gate = threading.Barrier(6)
    counts: list[int] = []

    def run() -> None:
        with closing(InlineWorker(shop, Role.PROPOSE, ["route"], load_registry())) as worker:
            gate.wait()
            counts.append(claimed(worker))

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 7


def test_a_rate_counts_what_was_started_in_the_minute(road: Road, admin: Connection, workspace: UUID, clock: Clock) -> None:
    road.take_in([issue(number) for number in range(1, 41)])
    limit(admin, workspace, per_minute=6)
    clock.advance(60 - time.time() % 60 + 1)  # the minute does not end under the test
    assert [claimed(road.worker()) for _ in range(3)] == [6, 0, 0]
    assert {row["reason"] for row in road.items(stage="route", state="ready")} == {"rate"}
    clock.advance(60)
    assert [claimed(road.worker()) for _ in range(2)] == [6, 0]
