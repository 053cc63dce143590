"""archive: what is finished is closed and filed under what it found."""

from tests.pipeline.stages.conftest import Gate
from tests.reviews import look


def test_an_item_is_filed_under_its_finding_and_its_order_closed(gate: Gate) -> None:
    gate.put_in_force()
    gate.take(value={"note": "x", "finding": "billing"})
    gate.take("b")
    rows = look(gate.admin, "SELECT subject_key, state, finding, closed_at IS NOT NULL FROM orders ORDER BY 1")
    assert rows == [("a", "done", "billing", True), ("b", "done", "", True)]
    assert look(gate.admin, "SELECT count(*) FROM queue") == [0]
    assert look(gate.admin, "SELECT finding FROM archived_items ORDER BY finding") == ["", "billing"]
