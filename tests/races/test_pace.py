"""Slow work: what has not been begun stops for a pause and for a worker that is told to stop, and nothing is forgotten."""

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from contracts.lifecycle import Role
from pipeline.doctor.invariants import check_all
from pipeline.review.clearances import Answer, decide_all
from pipeline.stages.pace import CLAIM_SECONDS, GROUP_SECONDS, LATE_SECONDS, Pace
from pipeline.startup.compose import Shop
from pipeline.worker.advance import Mode, advance
from pipeline.worker.commit import Committer
from pipeline.worker.fair_share import FairShare, take
from queues.database import Connection
from queues.pauses import pause, resume, scope_of
from tests.in_process import Road
from tests.item_states import in_the_cells_lane
from tests.reviews import ballot, look, person, propose

SECONDS = 0.6
"""What one send takes here."""


class Slow:
    """An applier that takes its time; `during` is called once, in the middle of the first send."""

    def __init__(self, inner: Any, during: Callable[[], None]) -> None:
        self._inner, self._during, self.sent = inner, during, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def send(self, action: Any, *, key: str) -> Any:
        self.sent += 1
        if self.sent == 1:
            self._during()
        time.sleep(SECONDS)
        return self._inner.send(action, key=key)


@pytest.fixture
def approved(shop: Shop, strict_road: Road, workspace: UUID) -> Road:
    """Fourteen approved changes, ready to be applied."""
    found = propose(strict_road, 14)
    with shop.connect(Role.REVIEW) as conn:
        token = person(shop, "ada", "reviewer")
        assert all(one.error is None for one in decide_all(conn, workspace, token, map(ballot, found), Answer.APPROVE, "", by="ada"))
    return strict_road


def broken(shop: Shop) -> list[str]:
    """Return what `doctor --strict` would tell."""
    with shop.connect(Role.AUDIT) as conn:
        return [said for one in check_all(conn, shop.store) for said in one.violations]


def test_a_pause_holds_within_seconds_although_a_claim_of_slow_work_is_in_hand(
    approved: Road, shop: Shop, admin: Connection, workspace: UUID
) -> None:
    with shop.connect(Role.OPERATE) as conn:
        scope = scope_of(conn, workspace, "lane:apply.tracker")
        paused_at = 0.0

        def during() -> None:
            nonlocal paused_at
            pause(conn, workspace, scope, why="test", by="ops")
            paused_at = time.monotonic()

        worker = approved.worker(Role.APPLY)
        slow = Slow(worker.context.appliers["tracker"], during)
        worker.context.appliers = {"tracker": slow}

        worker.run()

        assert time.monotonic() - paused_at < 5
        assert 1 <= slow.sent <= LATE_SECONDS / SECONDS + 1
        assert look(admin, "SELECT count(*) FROM applies WHERE state = 'applied'") == [slow.sent]
        assert look(admin, "SELECT count(*) FROM applies WHERE state IN ('intent', 'unknown')") == [0]
        assert approved.states()["apply/ready"] == 14 - slow.sent
        assert look(admin, "SELECT count(*) FROM claims WHERE closed_at IS NULL") == [0]
        assert broken(shop) == []

        resume(conn, workspace, scope, by="ops")
    worker.context.appliers = {"tracker": slow._inner}
    approved.run()

    assert approved.states()["archive/done"] == 28
    assert look(admin, "SELECT count(*) FROM applies WHERE state = 'applied'") == [14]
    assert look(admin, "SELECT sum(transients + crashes + drifts) FROM queue") == [None]
    assert broken(shop) == []


def test_a_worker_that_is_told_to_stop_returns_what_it_has_not_begun(road: Road, admin: Connection) -> None:
    in_the_cells_lane(road, admin, 30)
    worker = road.worker()
    taken = take(worker.context, FairShare(), worker.id, worker.name, "cell.issue_review", batch=30, seconds=30)
    hand = Committer(worker.name, worker.id, set(worker.lanes).__contains__, lambda: False)

    rings = set().union(*advance(worker.context, hand, taken, Mode.FUSED))

    assert rings == {"cell.issue_review"}
    done = road.states()["archive/done"]
    assert 0 < done < 30
    assert road.states() == {"archive/done": done, "workcell/ready": 30 - done}
    assert look(admin, "SELECT count(*) FROM claims WHERE closed_at IS NULL") == [0]
    road.run()
    assert road.states() == {"archive/done": 30}


def test_groups_and_claims_are_as_large_as_the_work_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("pipeline.stages.pace.time.monotonic", lambda: now)
    pace = Pace()
    assert pace.claim("apply.github", 200) == 200
    size = pace.group("apply.github")
    now += 2.0 * size
    assert pace.is_late()
    pace.note("apply.github", size)
    assert pace.group("apply.github") == 1
    assert pace.claim("apply.github", 200) == int(CLAIM_SECONDS / 2)

    pace.group("route")
    now += 0.01
    pace.note("route", 8)
    assert pace.group("route") >= 200
    assert pace.claim("route", 200) == 200

    for _ in range(12):  # a target that gets quick again is given more, by and by
        size = pace.group("apply.github")
        now += 0.25 + 0.001 * size
        pace.note("apply.github", size)
    assert pace.group("apply.github") > GROUP_SECONDS / 0.01
