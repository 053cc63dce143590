"""artifact: each way in which work can break its contract, and that nothing of it is registered."""

from typing import Any

import pytest
from tests.pipeline.stages.conftest import ROUNDS, Gate, place
from tests.reviews import look

CITES = {"subject": "a", "revision": "1"}
QUOTES = {"subject": "a", "field": "body", "start": 0, "end": 7, "text": "It says"}


@pytest.mark.parametrize(
    ("does", "clauses", "codes"),
    [
        ({"value": {"note": 5}}, {}, ["schema.type"]),
        ({"value": {}}, {}, ["schema.required"]),
        ({"value": {"note": "x", "other": 1}}, {}, ["schema.extra"]),
        ({"value": {"note": "x" * 300}}, {}, ["contract.bytes"]),
        ({}, {"evidence": True}, ["contract.evidence"]),
        ({"evidence": [CITES]}, {"sources": "quote"}, ["contract.evidence_source"]),
        ({"evidence": [QUOTES]}, {"sources": "item"}, ["contract.evidence_source"]),
        ({"is": "proposal", "action": {"name": "delete"}}, {}, ["contract.action"]),
        ({"is": "proposal", "action": {"precondition": {}}}, {}, ["contract.precondition"]),
        ({"is": "proposal", "action": {"payload": {"state": "open"}}}, {}, ["schema.value"]),
        ({"value": {}, "evidence": [CITES]}, {"sources": "quote"}, ["schema.required", "contract.evidence_source"]),
    ],
)
def test_work_that_breaks_its_contract_goes_back_with_the_finding(
    does: dict[str, Any], clauses: dict[str, Any], codes: list[str], gate: Gate
) -> None:
    gate.put_in_force(**clauses)
    item = gate.take(**does)
    (cause, rounds), *_ = ROUNDS.items()
    assert sorted(gate.findings()) == sorted(codes * rounds)
    assert place(item) == ("rework", "waiting", "human")
    assert gate.reason() == f"{cause} {rounds} of {rounds}"
    assert look(gate.admin, "SELECT count(*) FROM artifacts") == [0]


def test_what_holds_is_registered_with_its_evidence(gate: Gate) -> None:
    gate.put_in_force()
    gate.take("b")
    assert place(gate.take(evidence=[QUOTES, CITES | {"subject": "b"}])) == ("archive", "done", "")
    assert look(gate.admin, "SELECT count(*) FROM evidence") == [2]
    assert look(gate.admin, "SELECT subject, revision FROM artifact_inputs") == [("b", "1")]
