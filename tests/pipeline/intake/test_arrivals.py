"""What becomes of an arriving row, decided against the orders that its subject has."""

from datetime import UTC, datetime

import pytest
from contracts.identity import new_id
from contracts.instants import instant
from contracts.lifecycle import ENTER, HOLD, SHELVE
from pipeline.intake.arrivals import (
    ACCEPTED,
    Arrival,
    Decision,
    Decisions,
    Known,
    Older,
    first_move,
    revision_order,
    settle,
    settle_twins,
)


def arrival(revision: str = "2", sha256: bytes = b"a", key: str = "k") -> Arrival:
    return Arrival(1, 1, 0, subject_key=key, revision=revision, sha256=sha256, value={})


def decided(row: Arrival, orders: list[Known] | None = None) -> Decision:
    decisions: Decisions = {}
    settle([row], {"k": orders} if orders else {}, decisions)
    return decisions.get(row.row_no, ACCEPTED)


def known(revision: str = "2", sha256: bytes = b"a", state: str = "open") -> Known:
    return Known(revision, new_id(), sha256, state)


def test_an_unknown_subject_is_accepted() -> None:
    assert decided(arrival()) == ACCEPTED


def test_the_same_revision_and_content_is_a_duplicate_of_its_order_whatever_became_of_it() -> None:
    for state in ("open", "done", "superseded", "cancelled"):
        order = known(state=state)
        assert decided(arrival(), [order]) == Decision("duplicate", "intake.duplicate", order_id=order.order_id)


def test_the_same_revision_with_other_content_is_a_conflict() -> None:
    order = known(sha256=b"b")
    found = decided(arrival(), [order])
    assert (found.outcome, found.code, found.order_id) == ("rejected", "intake.conflict", order.order_id)
    assert "revision 2" in found.message


def test_an_older_revision_belongs_to_the_newest_order() -> None:
    orders = [known("3"), known("2", state="superseded")]
    found = decided(arrival("1", b"x"), orders)
    assert (found.outcome, found.code, found.order_id) == ("duplicate", "intake.older_revision", orders[0].order_id)


def test_a_newer_revision_supersedes_what_is_open_and_nothing_else() -> None:
    row, orders = arrival("9"), [known("3"), known("2", state="done")]
    decisions: Decisions = {}
    assert settle([row], {"k": orders}, decisions) == [Older(orders[0].order_id, row.row_no)]
    assert decisions == {}


def test_a_row_that_was_refused_as_it_was_read_is_never_settled() -> None:
    refusal = Decision("rejected", "intake.type")
    assert decided(arrival()._replace(refusal=refusal), [known("1")]) == refusal


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("9", "10"),
        ("2025-01-02T00:00:00Z", "2025-01-02T00:00:00.500Z"),
        ("2025-01-02T01:30:00+02:00", "2025-01-02T00:00:00Z"),
        ("2025-01-02T00:00:00", "2025-01-02T00:00:01Z"),
        ("v1", "v2"),
        ("v1", "1"),
        ("2025-13-45T00:00:00Z", "2025-01-01T00:00:00Z"),
        ("9" * 30, "2025-01-01T00:00:00Z"),
    ],
)
def test_revisions_compare_as_what_they_are(older: str, newer: str) -> None:
    assert revision_order(older) < revision_order(newer)


def test_a_revision_is_an_instant_when_it_says_date_and_time() -> None:
    assert instant("2025-01-02T00:00:00Z") == datetime(2025, 1, 2, tzinfo=UTC)
    assert instant("2025-01-02T00:00:00+01:00") == datetime(2025, 1, 1, 23, tzinfo=UTC)
    for text in ("", "2025-01-02", "20250102", "x" * 30, "2025-02-30T00:00:00Z"):
        assert instant(text) is None


def test_a_twin_shares_what_becomes_of_its_first() -> None:
    order = new_id()
    first, twin = arrival(), arrival()._replace(row_no=2, twin_of=1)
    decisions: Decisions = {1: Decision("accepted", order_id=order)}
    settle_twins([first, twin], decisions)
    assert decisions[2] == Decision("duplicate", "intake.duplicate", order_id=order)

    decisions = {1: Decision("rejected", "intake.conflict", message="other content", order_id=order)}
    settle_twins([first, twin], decisions)
    assert decisions[2] == decisions[1]


def test_a_row_enters_by_what_it_is_and_by_what_its_flow_waits_for() -> None:
    row = arrival()
    assert first_move(row, holds=False) is ENTER
    assert first_move(row, holds=True) is HOLD
    assert first_move(row._replace(is_context=True), holds=True) is SHELVE
