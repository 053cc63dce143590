"""route: the floor's rules decide which cell does the job, or refuse."""

from tests.pipeline.stages.conftest import Gate, place


def test_the_first_rule_that_matches_decides_and_is_recorded(gate: Gate) -> None:
    gate.put_in_force()
    assert place(gate.take()) == ("archive", "done", "")
    assert place(gate.take("b", body="odd")) == ("route", "refused", "")
    assert gate.item("b")["finding"] == "route.odd"
    assert gate.reason("b") == "rule odd"


def test_a_rule_without_an_answer_refuses_the_item(gate: Gate) -> None:
    gate.put_in_force()
    assert place(gate.take(body="unanswerable")) == ("route", "refused", "")
    assert gate.item()["finding"] == "route.expression"
