"""One damaged or refused row must not take its neighbours along, and is not tried for ever."""

import json
from collections import Counter
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from console.benchmarks.reference import row
from contracts.attempts import CEILINGS, Cause
from contracts.floor import parse_floor
from contracts.lifecycle import Role
from contracts.nouns import Draft, Outcome
from pipeline import failpoints
from pipeline.access.tokens import ensure_actor, issue_token
from pipeline.floors.publish import publish_floor
from pipeline.operations.steering import requeue
from pipeline.review.clearances import Answer, Ballot, decide_all
from pipeline.startup.compose import Shop
from queues.board.why import Why, why
from queues.database import Connection, transaction
from queues.lookup import find_item
from tests.chaos.account import violations
from tests.chaos.plant import AS_OF, FLOOR, seed_tracker
from tests.in_process import Clock, Road, issue, merged


@pytest.fixture(params=["road", "strict_road"])
def line(request: pytest.FixtureRequest, shop: Shop) -> Road:
    found: Road = request.getfixturevalue(request.param)
    with shop.connect(Role.OPERATE) as conn:
        publish_floor(conn, shop.workspace_id(conn), parse_floor(FLOOR, "chaos floor"), found.registry, by="chaos")
    return found


def _item(line: Road, row_no: int) -> str:
    return str(line.items(row_no=row_no)[0]["id"])


def test_an_item_whose_payload_is_damaged_is_buried_and_its_neighbours_finish(line: Road, admin: Connection, clock: Clock) -> None:
    line.take_in([row(number) for number in range(1, 11)], flow="reference")
    admin.execute("UPDATE bodies SET bytes = 'torn' WHERE item_id = %s", [_item(line, 4)])
    line.run()
    assert line.states() == {"archive/done": 9, "route/ready": 1}
    for _ in range(CEILINGS[Cause.TRANSIENT]):
        clock.advance(seconds=600)
        line.run()
    assert line.states() == {"archive/done": 9, "route/dead": 1}
    assert violations(admin) == []


def test_a_result_that_the_database_refuses_is_left_out_of_its_batch(line: Road, admin: Connection, clock: Clock) -> None:
    line.take_in([row(number) for number in range(1, 11)], flow="reference")
    admin.execute(f"ALTER TABLE artifacts ADD CONSTRAINT refused CHECK (item_id <> '{UUID(_item(line, 4))}') NOT VALID")
    line.run()
    assert line.states()["archive/done"] == 9
    [refused] = [item for item in line.items() if item["state"] != "done"]
    assert refused["state"] == "ready"
    [(transients, crashes)] = admin.execute("SELECT transients, crashes FROM queue").fetchall()
    assert transients >= 1, "on a slow machine its backoff is over before the others are done"
    assert crashes == 0

    admin.execute("ALTER TABLE artifacts DROP CONSTRAINT refused")
    clock.advance(seconds=60)
    line.run()
    line.sweep()
    assert line.states() == {"archive/done": 10}
    assert violations(admin) == []


def test_what_drifts_between_a_lost_intent_and_its_recovery_is_not_applied(
    line: Road, shop: Shop, admin: Connection, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed_tracker(shop.tracker_dir, 1)
    line.take_in([issue(1), merged(2, fixes=1)], as_of=AS_OF)
    line.run()
    _approve_all(shop, admin)
    monkeypatch.setitem(failpoints._ARMED, "apply.intent", ("raise", 1))
    line.sweep()
    line.run()
    assert line.states()["apply/ready"] == 1
    assert admin.execute("SELECT state FROM applies").fetchall() == [("intent",)]

    [path] = shop.tracker_dir.rglob("*.json")
    document: dict[str, Any] = json.loads(path.read_text())
    path.write_text(
        json.dumps(document | {"updated_at": "2025-05-05T00:00:00Z", "title": "Somebody else was here", "comments": [], "body": "Changed."})
    )
    clock.advance(seconds=60)
    line.run()

    assert admin.execute("SELECT state FROM applies").fetchall() == [("failed",)]
    assert admin.execute("SELECT state FROM proposals ORDER BY epoch LIMIT 1").fetchall() == [("drifted",)]
    assert json.loads(path.read_text())["applied"] == []

    # What would drift again is not asked about again, until a person says that the target is as it was.
    assert line.states() == {"archive/done": 1, "qa/waiting": 1}
    told = why_of(shop, _item(line, 1))
    assert told.reason == "human"
    assert "a newer revision" in told.words
    assert told.words.count("apply.drifted") == 1
    path.write_text(json.dumps(document))
    _requeue(shop, _item(line, 1))
    line.run()
    _approve_all(shop, admin)
    line.sweep()
    line.run()
    assert line.states() == {"archive/done": 2}
    assert len(json.loads(path.read_text())["applied"]) == 1
    assert violations(admin) == []


def why_of(shop: Shop, item: str) -> Why:
    with shop.connect(Role.READ) as conn, transaction(conn, shop.workspace_id(conn)):
        return why(conn, find_item(conn, item))


def _requeue(shop: Shop, item: str) -> None:
    with shop.connect(Role.OPERATE) as conn:
        [done] = requeue(conn, shop.workspace_id(conn), [UUID(item)], by="ada", why="the title was put back")
    assert done.error is None


def _approve_all(shop: Shop, admin: Connection) -> None:
    with shop.connect(Role.OPERATE) as conn:
        workspace = shop.workspace_id(conn)
        token = issue_token(
            conn, workspace, ensure_actor(conn, workspace, "ada", kind="person", roles=("reviewer",)), label="test", by="test"
        )
    ballots = [Ballot(*one) for one in admin.execute("SELECT id, sha256 FROM proposals WHERE state = 'open'").fetchall()]
    assert len(ballots) == 1
    with shop.connect(Role.REVIEW) as conn:
        decided = decide_all(conn, workspace, token, ballots, Answer.APPROVE, "seen", by="ada")
    assert not [one.error for one in decided if one.error]


def test_an_outcome_that_is_no_json_breaks_the_contract_and_runs_nothing_twice(line: Road, admin: Connection) -> None:
    cell, ran = line.registry.by_name["reference"], []

    def run(item: Any, bench: Any) -> Outcome:
        ran.append(item["id"])
        return Draft(value={"score": float("nan")}) if item["id"] == 4 else cell.code.run(item, bench)

    line.registry.by_sha256[cell.contract.sha256] = replace(cell, code=replace(cell.code, run=run))
    line.take_in([row(number) for number in range(1, 9)], flow="reference")
    line.run()
    assert line.states()["archive/done"] == 7
    assert Counter(ran) == Counter(dict.fromkeys(range(1, 9), 1) | {4: ran.count(4)})
    causes = admin.execute("SELECT DISTINCT cause FROM attempts WHERE outcome = 'accident'").fetchall()
    assert causes == [("contract",)]
    assert violations(admin) == []
