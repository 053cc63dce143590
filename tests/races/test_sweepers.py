"""Any number of sweepers: what one has done, the other finds done."""

import threading
from typing import Any

import pytest
from contracts.identity import new_id
from contracts.lifecycle import Role
from pipeline.access.tokens import token_sha256
from pipeline.startup.compose import Shop
from pipeline.sweeper.process import sweep
from pipeline.sweeper.upkeep import upkeep
from queues.database import Connection, transaction
from tests.in_process import Clock, Road, issue
from tests.reviews import person, propose

pytestmark = pytest.mark.races


def _claimed(road: Road, count: int) -> None:
    """Leave that many items leased by a worker that is gone."""
    road.take_in([issue(number) for number in range(1, count + 1)])
    worker = road.worker()
    from pipeline.worker.fair_share import take

    claim = take(worker.context, worker._turns, worker.id, worker.name, "route", batch=count, seconds=5).claim
    assert len(claim.items) == count


def test_four_sweepers_at_once_expire_each_lease_once(road: Road, shop: Shop, clock: Clock, admin: Connection) -> None:
    _claimed(road, 60)
    clock.advance(seconds=6)
    done: list[dict[str, int]] = []
    gate = threading.Barrier(4)

    def run() -> None:
        with shop.connect(Role.SWEEP) as conn:
            gate.wait()
            done.append(sweep(conn, None))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(one["expired"] for one in done) == 60
    assert admin.execute("SELECT count(*), count(DISTINCT item_id) FROM inspect.moves WHERE move = 'expire'").fetchone() == (60, 60)
    assert set(road.sweep().values()) == {0}
    assert admin.execute("SELECT count(*) FROM claims WHERE closed_at IS NULL").fetchone() == (0,)


def test_a_lease_that_runs_out_three_times_ends_as_a_dead_letter_and_not_a_fourth(road: Road, clock: Clock, admin: Connection) -> None:
    road.take_in([issue(1)])
    worker = road.worker()
    from pipeline.worker.fair_share import take

    for expired in range(1, 4):
        claim = take(worker.context, worker._turns, worker.id, worker.name, "route", batch=1, seconds=5).claim
        assert len(claim.items) == 1
        clock.advance(seconds=6)
        assert road.sweep()["expired"] == 1
        clock.advance(seconds=60)
        assert road.states() == ({"route/dead": 1} if expired == 3 else {"route/ready": 1})
    assert road.sweep()["expired"] == 0


def test_a_row_that_the_database_refuses_keeps_no_other_duty_from_its_turn(
    road: Road, shop: Shop, clock: Clock, admin: Connection, capsys: Any
) -> None:
    _claimed(road, 1)
    clock.advance(seconds=6)
    admin.execute("ALTER TABLE shopfloor.moves ADD CONSTRAINT no_expiry CHECK (actor <> 'sweeper') NOT VALID")
    rung: list[str] = []

    class Bell:
        def ring(self, lanes: list[str]) -> int:
            rung.extend(lanes)
            return len(rung)

    road.take_in([issue(2)])
    with shop.connect(Role.SWEEP) as conn:
        done = sweep(conn, Bell())  # type: ignore[arg-type]
    assert done["expired"] == 0
    assert rung == ["route"]
    admin.execute("ALTER TABLE shopfloor.moves DROP CONSTRAINT no_expiry")
    assert road.sweep()["expired"] == 1


def test_rows_of_a_month_that_has_no_partition_yet_stop_neither_upkeep_nor_the_line(road: Road, clock: Clock, admin: Connection) -> None:
    clock.advance(120 * 86400)
    road.take_in([issue(1)])
    assert admin.execute("SELECT count(*) > 0 FROM moves_other").fetchone() == (True,)

    with road.shop.connect(Role.SWEEP) as conn:
        assert upkeep(conn) > 0
        assert upkeep(conn) == 0
    road.run()

    assert road.states() == {"archive/done": 1}


def _decide_by_hand(shop: Shop, road: Road, count: int) -> None:
    """Approve proposals as `psql` would: by the database's function alone, which moves no item."""
    ada = person(shop, "ada", "reviewer")
    proposals = propose(road, count)
    with shop.connect(Role.REVIEW) as conn, transaction(conn, shop.workspace_id(conn)):
        for one in proposals:
            conn.execute(
                "SELECT decide(%s, %s, (SELECT id FROM clearances WHERE proposal_id = %s), %s, 'approve', '')",
                [new_id(), token_sha256(ada), one.id, one.sha256],
            )


def test_a_decision_that_nobody_followed_for_days_is_followed_by_upkeep(road: Road, shop: Shop, clock: Clock) -> None:
    _decide_by_hand(shop, road, 2)
    clock.advance(seconds=3 * 86_400)
    assert road.sweep()["followed"] == 0
    with shop.connect(Role.SWEEP) as conn:
        upkeep(conn)
    assert road.states()["apply/ready"] == 2


def test_an_approval_that_expired_before_it_was_followed_holds_up_no_other(road: Road, shop: Shop, admin: Connection) -> None:
    _decide_by_hand(shop, road, 2)
    first = admin.execute("SELECT id FROM proposals ORDER BY id LIMIT 1").fetchone()
    assert first
    admin.execute("ALTER TABLE proposals DISABLE TRIGGER identity_stays")
    admin.execute("UPDATE proposals SET expires_at = clock() - interval '1 second' WHERE id = %s", first)

    assert road.sweep()["followed"] == 2
    assert (road.states()["apply/ready"], road.states()["rework/ready"]) == (1, 1)
    assert admin.execute("SELECT state FROM proposals ORDER BY id").fetchall() == [("expired",), ("approved",)]
