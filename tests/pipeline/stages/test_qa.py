"""qa: evidence that does not say what its source says, rules that do not hold, and each way a proposal can go."""

import json
from typing import Any

import pytest
from contracts.lifecycle import Role
from pipeline.doctor.invariants import check_all
from tests.pipeline.stages.conftest import ROUNDS, Gate, place
from tests.reviews import look

QUOTE = {"subject": "a", "field": "body", "start": 3, "end": 7, "text": "says"}


@pytest.mark.parametrize(
    ("source", "code"),
    [
        (QUOTE | {"text": "sayz"}, "evidence.misquote"),
        (QUOTE | {"start": 4, "end": 8}, "evidence.misquote"),
        (QUOTE | {"start": 900, "end": 904}, "evidence.misquote"),
        (QUOTE | {"subject": "b", "text": "says", "start": 4, "end": 8}, "evidence.misquote"),
        ({"subject": "a", "revision": "0"}, "evidence.stale"),
        ({"subject": "b", "revision": "2"}, "evidence.stale"),
        ({"subject": "nowhere", "revision": "1"}, "evidence.unknown_source"),
        (QUOTE | {"subject": "nowhere"}, "evidence.unknown_source"),
    ],
)
def test_evidence_that_does_not_say_what_its_source_says_goes_back(source: dict[str, Any], code: str, gate: Gate) -> None:
    gate.put_in_force()
    gate.take("b")
    item = gate.take(evidence=[source])
    rounds = list(ROUNDS.values())[1]
    assert gate.findings() == [code] * rounds
    assert look(gate.admin, "SELECT DISTINCT place FROM findings") == ["/evidence/0"]
    assert (place(item), gate.reason()) == (("rework", "waiting", "human"), f"qa {rounds} of {rounds}")


@pytest.mark.parametrize("source", [QUOTE, QUOTE | {"subject": "b"}, {"subject": "a", "revision": "1"}, {"subject": "b", "revision": "1"}])
def test_evidence_that_resolves_passes(source: dict[str, Any], gate: Gate) -> None:
    gate.put_in_force()
    gate.take("b")
    assert place(gate.take(evidence=[source])) == ("archive", "done", "")
    assert look(gate.admin, "SELECT bool_and(passed), count(*) FROM verdicts") == [(True, 2)]
    assert gate.findings() == []


@pytest.mark.parametrize(
    ("note", "where", "code"),
    [
        ("rework", ("rework", "waiting", "human"), "rule.rework"),
        ("person", ("qa", "waiting", "human"), "rule.person"),
        ("refuse", ("qa", "refused", ""), "rule.refuse"),
        ("unanswerable", ("qa", "waiting", "human"), "rule.unanswered"),
    ],
)
def test_a_rule_that_does_not_hold_sends_the_work_where_it_says(note: str, where: tuple[str, str, str], code: str, gate: Gate) -> None:
    gate.put_in_force()
    assert place(gate.take(value={"note": note})) == where
    assert set(gate.findings()) == {code}
    assert look(gate.admin, "SELECT DISTINCT passed FROM verdicts") == [False]


@pytest.mark.parametrize(
    ("then", "where"), [("refuse", ("qa", "refused", "")), ("escalate", ("qa", "waiting", "human")), ("ask", ("qa", "waiting", "human"))]
)
def test_work_that_is_less_sure_than_its_contract_lets_pass_goes_where_it_says(then: str, where: tuple[str, str, str], gate: Gate) -> None:
    gate.put_in_force(uncertain=then)
    assert place(gate.take(confidence=0.49)) == where
    assert gate.findings() == ["qa.uncertain"]
    assert place(gate.take("b", confidence=0.5)) == ("archive", "done", "")


@pytest.mark.parametrize(
    ("tier", "autonomy", "where", "needed"),
    [
        ("single", "draft_approve", ("qa", "waiting", "approval"), 1),
        ("dual", "draft_approve", ("qa", "waiting", "approval"), 2),
        ("dual", "full_auto", ("qa", "waiting", "approval"), 2),
        ("none", "draft_approve", ("qa", "waiting", "approval"), 1),
        ("single", "report_only", ("archive", "done", ""), None),
    ],
)
def test_a_proposal_asks_for_the_decisions_that_tier_and_autonomy_demand(
    tier: str, autonomy: str, where: tuple[str, str, str], needed: int | None, gate: Gate
) -> None:
    gate.put_in_force(tier=tier, autonomy=autonomy)
    assert place(gate.take(**{"is": "proposal"})) == where
    assert look(gate.admin, "SELECT needed FROM clearances") == ([] if needed is None else [needed])
    assert look(gate.admin, "SELECT state FROM proposals") == ["report_only" if needed is None else "open"]


def test_tier_none_of_a_pod_that_may_act_alone_goes_straight_to_apply(gate: Gate) -> None:
    gate.put_in_force(tier="none", autonomy="full_auto")
    does = json.dumps({"is": "proposal"})
    gate.road.take_in([{"id": "a", "revision": "1", "title": "a", "body": "x", "does": does}], flow="gate")
    gate.road.worker(Role.PROPOSE).run()
    item = gate.item()
    assert (item["stage"], item["state"]) == ("apply", "ready")
    assert look(gate.admin, "SELECT state, needed FROM clearances") == [("cleared", 0)]


def test_everything_that_the_gate_leaves_behind_holds(gate: Gate) -> None:
    gate.put_in_force()
    gate.take("b", value={"note": "rework"})
    gate.take(evidence=[QUOTE | {"text": "sayz"}])
    gate.take("c", **{"is": "proposal"})
    with gate.shop.connect(Role.AUDIT) as conn:
        assert [said for one in check_all(conn, gate.shop.store) for said in one.violations] == []
