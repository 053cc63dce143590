"""Leases: renewed while held, refused once lost, and never renewed back from the dead."""

import threading
import time
from uuid import UUID

import pytest
from contracts.identity import new_id
from contracts.lifecycle import Role, Stage
from pipeline.startup.compose import Shop
from pipeline.worker.advance import Mode, advance
from pipeline.worker.commit import Committer
from pipeline.worker.fair_share import Taken, take
from queues import workers
from queues.claims import claim_batch
from queues.database import Connection, transaction
from queues.leases import Heartbeat
from tests.in_process import Clock, Road, issue
from tests.waiting import wait_until

pytestmark = pytest.mark.races


def _hold(road: Road, seconds: float = 5) -> Taken:
    worker = road.worker()
    taken = take(worker.context, worker._turns, worker.id, worker.name, "route", batch=10, seconds=seconds)
    assert taken.claim.items
    return taken


def test_a_worker_whose_lease_was_expired_commits_nothing(road: Road, clock: Clock) -> None:
    road.take_in([issue(1)])
    held = _hold(road)
    clock.advance(seconds=6)
    assert road.sweep()["expired"] == 1
    before = road.items()

    worker = road.worker()
    hand = Committer(worker.name, worker.id, set(worker.lanes).__contains__)
    rings = set().union(*advance(worker.context, hand, held, Mode.FUSED))

    assert rings == set()
    assert road.items() == before


def test_a_worker_whose_items_were_taken_over_commits_nothing_of_theirs(road: Road, clock: Clock) -> None:
    road.take_in([issue(1)])
    slow = _hold(road)
    clock.advance(seconds=6)
    road.sweep()
    clock.advance(seconds=60)
    quick = _hold(road)
    assert quick.claim.items[0].fence == slow.claim.items[0].fence + 1
    worker = road.worker()
    hand = Committer(worker.name, worker.id, set(worker.lanes).__contains__)

    list(advance(worker.context, hand, slow, Mode.STRICT))

    [item] = road.items()
    assert (item["stage"], item["state"], item["fence"]) == ("route", "leased", quick.claim.items[0].fence)


def test_a_heartbeat_renews_what_is_held_and_never_a_lease_that_ran_out(
    road: Road, shop: Shop, workspace: UUID, admin: Connection, clock: Clock
) -> None:
    road.take_in([issue(1)])
    with shop.connect(Role.PROPOSE) as conn:
        worker_id, claim_id = new_id(), new_id()
        workers.register(conn, worker_id, name="one", host="here", pid=1, lanes=["route"])
        with transaction(conn, workspace):
            pod = conn.execute("SELECT id FROM pods WHERE name = 'maintainers'").fetchone()[0]
            claim_batch(conn, claim_id, worker_id, "one", "route", Stage.ROUTE, {(workspace, pod): 1}, seconds=1.5)
    heart = Heartbeat(lambda: shop.connect(Role.PROPOSE), worker_id, lease_seconds=1.5, limit_seconds=60, on_hang=lambda claim: None)
    heart.hold(claim_id, time.monotonic())
    heart.start()
    try:
        first = _until(admin, claim_id)
        wait_until(lambda: _until(admin, claim_id) > first)
        assert heart.holds(claim_id, margin_seconds=0)

        clock.advance(seconds=3600)
        lost = _until(admin, claim_id)
        wait_until(lambda: not heart.holds(claim_id, margin_seconds=0))
        assert _until(admin, claim_id) == lost
    finally:
        heart.stop()


def test_a_worker_that_was_taken_for_dead_lives_again_with_its_next_beat(shop: Shop, admin: Connection) -> None:
    worker_id = new_id()
    with shop.connect(Role.PROPOSE) as conn:
        workers.register(conn, worker_id, name="one", host="here", pid=1, lanes=["route"])
    admin.execute("UPDATE workers SET stopped_at = shopfloor.clock()")
    heart = Heartbeat(lambda: shop.connect(Role.PROPOSE), worker_id, lease_seconds=1, limit_seconds=60, on_hang=lambda claim: None)
    heart.start()
    try:
        wait_until(lambda: admin.execute("SELECT stopped_at FROM workers").fetchall() == [(None,)])
    finally:
        heart.stop()


def test_a_claim_held_too_long_is_given_up_and_its_worker_told(road: Road, shop: Shop, workspace: UUID) -> None:
    told = threading.Event()
    heart = Heartbeat(lambda: shop.connect(Role.PROPOSE), new_id(), lease_seconds=0.3, limit_seconds=0.2, on_hang=lambda claim: told.set())
    heart.hold(new_id(), time.monotonic())
    heart.start()
    assert told.wait(10)
    heart.stop()


def test_a_heartbeat_finds_the_database_again(shop: Shop, admin: Connection) -> None:
    beats: list[Connection] = []
    heart = Heartbeat(
        lambda: shop.connect(Role.PROPOSE, name="pulse"),
        new_id(),
        lease_seconds=0.3,
        limit_seconds=60,
        on_hang=lambda claim: None,
        on_beat=beats.append,
    )
    heart.start()
    try:
        wait_until(lambda: bool(beats))
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pulse' AND datname = current_database()"
        )
        first = beats[-1]
        wait_until(lambda: beats[-1] is not first)
    finally:
        heart.stop()


def _until(admin: Connection, claim_id: UUID) -> float:
    row = admin.execute("SELECT extract(epoch FROM until)::float8 FROM claims WHERE id = %s", [claim_id]).fetchone()
    assert row is not None
    return float(row[0])
