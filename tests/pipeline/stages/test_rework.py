"""rework: another attempt with the findings, bounded by the contract, then a person."""

from contracts.attempts import CEILINGS, Cause
from tests.pipeline.stages.conftest import Gate, place
from tests.reviews import look


def test_rounds_are_counted(gate: Gate) -> None:
    gate.put_in_force()
    gate.take("b", value={"note": "rework"})
    assert gate.item("b")["rework_rounds"] == CEILINGS[Cause.QA] - 1


def test_each_attempt_is_handed_what_was_found_in_those_before_it(gate: Gate) -> None:
    gate.put_in_force()
    item = gate.take(value="findings", evidence=[{"subject": "nowhere", "revision": "1"}])
    assert place(item) == ("rework", "waiting", "human")
    values = look(gate.admin, "SELECT convert_from(bytes, 'UTF8') FROM bodies WHERE convert_from(bytes, 'UTF8') LIKE '{\"note\"%%'")
    assert sorted(values) == ['{"note":"evidence.unknown_source"}', '{"note":"none"}']
