"""Many people at one proposal: exactly one outcome, whatever the order."""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from contracts.errors import ShopfloorError
from contracts.lifecycle import Role
from pipeline import failpoints
from pipeline.operations.steering import cancel
from pipeline.review.clearances import Answer, decide
from pipeline.startup.compose import Shop
from pipeline.sweeper.decisions import lapse_proposals
from queues.database import Connection
from tests.in_process import Clock, Road
from tests.reviews import ballot, look, person, propose

pytestmark = pytest.mark.races
ROUNDS = 3


def at_once(acts: list[Callable[[], Any]]) -> list[Any]:
    """Run all acts at the same moment, a thread each, and return what each returned or raised."""
    results: list[Any] = [None] * len(acts)
    gate = threading.Barrier(len(acts))

    def run(place: int) -> None:
        gate.wait(timeout=30)
        try:
            results[place] = acts[place]()
        except Exception as error:
            results[place] = error

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    return results


def test_approve_reject_and_cancel_at_once_leave_exactly_one_outcome(shop: Shop, road: Road, admin: Connection) -> None:
    proposals = propose(road, ROUNDS)
    with shop.connect(Role.READ) as conn:
        workspace = shop.workspace_id(conn)
    tokens = [person(shop, f"reviewer-{k}", "reviewer") for k in range(18)]
    conns = [shop.connect(Role.REVIEW) for _ in tokens]
    operators = [shop.connect(Role.OPERATE) for _ in range(2)]

    for one in proposals:

        def answer(k: int, one: Any = one) -> Any:
            said = Answer.APPROVE if k % 2 else Answer.REJECT
            return decide(conns[k], workspace, tokens[k], ballot(one), said, "", by=f"reviewer-{k}")

        def end(k: int, one: Any = one) -> Any:
            [steered] = cancel(operators[k], workspace, [one.item_id], by="ops", why="")
            if steered.error:
                raise steered.error
            return steered

        acts: list[Callable[[], Any]] = [lambda k=k: answer(k) for k in range(18)]  # type: ignore[misc]
        acts += [lambda k=k: end(k) for k in range(2)]  # type: ignore[misc]
        results = at_once(acts)

        refused = [result for result in results if isinstance(result, Exception)]
        assert all(isinstance(error, ShopfloorError) for error in refused), refused
        [(decisions, proposal, clearance)] = look(
            admin,
            "SELECT (SELECT count(*) FROM decisions d WHERE d.clearance_id = c.id), p.state, c.state "
            "FROM proposals p JOIN clearances c ON c.proposal_id = p.id WHERE p.id = %s",
            one.id,
        )
        [moved] = look(
            admin,
            "SELECT array_agg(move ORDER BY no) FROM inspect.moves "
            "WHERE item_id = %s AND from_stage IN ('qa', 'apply') AND from_state <> 'leased'",
            str(one.item_id),
        )
        assert (proposal, clearance, decisions, moved) in [
            ("approved", "cleared", 1, ["approve"]),
            ("cancelled", "void", 1, ["approve", "cancel"]),  # a cancel may still end what was approved and not begun
            ("rejected", "refused", 1, ["reject"]),
            ("cancelled", "void", 0, ["cancel"]),
        ]
        assert len(results) - len(refused) == len(moved)

    for conn in (*conns, *operators):
        conn.close()
    road.run()
    [applied] = look(admin, "SELECT count(*) FROM applies WHERE state = 'applied'")
    assert applied == look(admin, "SELECT count(*) FROM proposals WHERE state = 'applied'")[0]


def test_an_approver_who_is_disabled_before_the_apply_has_approved_nothing(shop: Shop, road: Road, admin: Connection) -> None:
    [one] = propose(road, 1)
    ada = person(shop, "ada", "reviewer")
    with shop.connect(Role.REVIEW) as conn:
        decide(conn, shop.workspace_id(conn), ada, ballot(one), Answer.APPROVE, "", by="ada")
    admin.execute("UPDATE actors SET disabled_at = shopfloor.clock() WHERE name = 'ada'")

    road.run()

    assert look(admin, "SELECT count(*) FROM applies") == [0]
    assert look(admin, "SELECT state FROM proposals ORDER BY epoch") == ["expired", "open"]
    assert road.states()["qa/waiting"] == 1


def test_an_approver_who_is_disabled_between_the_intent_and_its_recovery_has_approved_nothing(
    shop: Shop, road: Road, admin: Connection, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    [one] = propose(road, 1)
    ada = person(shop, "ada", "reviewer")
    with shop.connect(Role.REVIEW) as conn:
        decide(conn, shop.workspace_id(conn), ada, ballot(one), Answer.APPROVE, "", by="ada")
    monkeypatch.setitem(failpoints._ARMED, "apply.intent", ("raise", 1))
    road.run()
    assert look(admin, "SELECT state FROM applies") == ["intent"]
    admin.execute("UPDATE actors SET disabled_at = shopfloor.clock() WHERE name = 'ada'")

    clock.advance(seconds=60)
    road.run()

    assert look(admin, "SELECT state FROM applies") == ["failed"]
    assert [path.name for path in shop.tracker_dir.rglob("*.json") if json.loads(path.read_text())["applied"]] == []


def test_twenty_approvals_of_one_person_count_once(shop: Shop, road: Road, admin: Connection) -> None:
    [one] = propose(road, 1)
    admin.execute("UPDATE clearances SET tier = 'dual', needed = 2")
    ada = person(shop, "ada", "reviewer")
    conns = [shop.connect(Role.REVIEW) for _ in range(20)]
    workspace = shop.workspace_id(conns[0])

    results = at_once([lambda conn=conn: decide(conn, workspace, ada, ballot(one), Answer.APPROVE, "", by="ada") for conn in conns])  # type: ignore[misc]

    for conn in conns:
        conn.close()
    assert sum(not isinstance(result, Exception) for result in results) == 1
    assert look(admin, "SELECT count(*) FROM decisions") == [1]
    assert look(admin, "SELECT state FROM clearances") == ["open"]
    assert road.states()["qa/waiting"] == 1


def test_approve_reject_and_expire_at_once_from_fifty_threads_leave_exactly_one_outcome(shop: Shop, road: Road, admin: Connection) -> None:
    proposals = propose(road, ROUNDS)
    with shop.connect(Role.READ) as conn:
        workspace = shop.workspace_id(conn)
    tokens = [person(shop, f"reviewer-{k}", "reviewer") for k in range(48)]
    conns = [shop.connect(Role.REVIEW) for _ in tokens]
    sweepers = [shop.connect(Role.SWEEP) for _ in range(2)]

    for nth, one in enumerate(proposals):
        # It expires while they decide: at once, a moment later, and later still.
        admin.execute("SET session_replication_role = replica")
        admin.execute(
            "UPDATE proposals SET expires_at = clock_timestamp() + make_interval(secs => %s) WHERE id = %s",
            [(0.0, 0.05, 0.2)[nth % 3], one.id],
        )
        admin.execute("SET session_replication_role = origin")

        def answer(k: int, one: Any = one) -> Any:
            said = Answer.APPROVE if k % 2 else Answer.REJECT
            return decide(conns[k], workspace, tokens[k], ballot(one), said, "", by=f"reviewer-{k}")

        def lapse(k: int) -> Any:
            until = time.monotonic() + 1.0
            while time.monotonic() < until:
                lapse_proposals(sweepers[k])

        acts: list[Callable[[], Any]] = [lambda k=k: answer(k) for k in range(48)]  # type: ignore[misc]
        acts += [lambda k=k: lapse(k) for k in range(2)]  # type: ignore[misc]
        refused = [result for result in at_once(acts) if isinstance(result, Exception)]

        assert all(isinstance(error, ShopfloorError) for error in refused), refused
        [outcome] = look(
            admin,
            "SELECT p.state, c.state, (SELECT count(*) FROM decisions d WHERE d.clearance_id = c.id), (SELECT array_agg(l.move) FROM moves m "
            "JOIN legal_moves l ON l.number = m.legal WHERE m.item_id = p.item_id AND l.move IN ('approve', 'reject', 'lapse')) "
            "FROM proposals p JOIN clearances c ON c.proposal_id = p.id WHERE p.id = %s",
            one.id,
        )
        assert outcome in [
            ("approved", "cleared", 1, ["approve"]),
            ("rejected", "refused", 1, ["reject"]),
            ("expired", "void", 0, ["lapse"]),
        ]

    for conn in (*conns, *sweepers):
        conn.close()
