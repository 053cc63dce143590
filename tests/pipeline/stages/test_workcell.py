"""workcell: each of the answers that a cell may give, and what is none."""

import pytest
from contracts.attempts import CEILINGS, Cause
from tests.in_process import Clock
from tests.pipeline.stages.conftest import Gate, place
from tests.reviews import look

ATTEMPT = "SELECT outcome, cause, message FROM attempts ORDER BY fence LIMIT 1"


def test_a_draft_goes_through_the_gate_into_the_archive(gate: Gate) -> None:
    gate.put_in_force()
    assert place(gate.take(value={"note": "fine", "finding": "billing"})) == ("archive", "done", "")
    assert gate.item()["finding"] == "billing"


def test_a_refusal_ends_the_item_under_its_code(gate: Gate) -> None:
    gate.put_in_force()
    item = gate.take(**{"is": "refusal", "code": "gate.not_mine", "message": "somebody else's"})
    assert (place(item), item["finding"]) == (("workcell", "refused", ""), "gate.not_mine")
    assert gate.reason() == "somebody else's"


@pytest.mark.parametrize(
    ("answer", "waiting_on", "said"),
    [
        ({"is": "question", "question": "is this the same as #7?"}, "an answer", "is this the same as #7?"),
        ({"is": "escalation", "message": "too large for me"}, "a person", "too large for me"),
    ],
    ids=["question", "escalation"],
)
def test_a_question_and_an_escalation_wait_for_a_person(answer: dict[str, str], waiting_on: str, said: str, gate: Gate) -> None:
    gate.put_in_force()
    item = gate.take(**answer)
    assert (place(item), item["waiting_on"]) == (("workcell", "waiting", "human"), waiting_on)
    assert gate.reason() == said
    assert look(gate.admin, "SELECT outcome FROM attempts") == ["need_info" if answer["is"] == "question" else "escalation"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"is": "raise", "message": "no such page"}, "ValueError: no such page"),
        ({"is": "nothing"}, "TypeError: expected Draft, Proposal, Refusal, NeedInfo or Escalation, got NoneType"),
    ],
    ids=["raises", "answers nothing"],
)
def test_what_is_no_answer_costs_an_attempt_and_at_the_ceiling_the_item(
    answer: dict[str, str], message: str, gate: Gate, clock: Clock
) -> None:
    gate.put_in_force()
    item = gate.take(**answer)
    assert place(item) == ("workcell", "ready", "backoff")
    assert look(gate.admin, ATTEMPT) == [("accident", "transient", message)]
    for _ in range(CEILINGS[Cause.TRANSIENT]):
        clock.advance(seconds=400)
        gate.road.run()
    assert place(gate.item()) == ("workcell", "dead", "")


def test_a_value_that_is_no_json_counts_against_the_contract(gate: Gate) -> None:
    gate.put_in_force()
    gate.take(value={"note": "half of a surrogate pair: \ud800"})
    assert [cause for _, cause, _ in look(gate.admin, ATTEMPT)] == ["contract"]
