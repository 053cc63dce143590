"""What becomes of an arriving row, decided against the orders that its subject has."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from contracts.identity import new_id
from contracts.lifecycle import ENTER, HOLD, SHELVE
from pipeline.intake.arrivals import Arrival, Known, first_move, instant, revision_order, settle, settle_twins


def arrival(revision: str = "2", sha256: bytes = b"a", key: str = "k") -> Arrival:
    return Arrival(1, 1, 0, subject_key=key, revision=revision, sha256=sha256, value={})


def known(revision: str = "2", sha256: bytes = b"a", state: str = "open") -> Known:
    return Known(revision, new_id(), sha256, state)


def test_an_unknown_subject_is_accepted() -> None:
    row = arrival()
    assert settle([row], {}) == []
    assert (row.outcome, row.code) == ("accepted", "")


def test_the_same_revision_and_content_is_a_duplicate_of_its_order_whatever_became_of_it() -> None:
    for state in ("open", "done", "superseded", "cancelled"):
        row, order = arrival(), known(state=state)
        assert settle([row], {"k": [order]}) == []
        assert (row.outcome, row.code, row.order_id) == ("duplicate", "intake.duplicate", order.order_id)


def test_the_same_revision_with_other_content_is_a_conflict() -> None:
    row, order = arrival(), known(sha256=b"b")
    assert settle([row], {"k": [order]}) == []
    assert (row.outcome, row.code, row.order_id) == ("rejected", "intake.conflict", order.order_id)
    assert "revision 2" in row.message


def test_an_older_revision_belongs_to_the_newest_order() -> None:
    row, orders = arrival("1", b"x"), [known("3"), known("2", state="superseded")]
    assert settle([row], {"k": orders}) == []
    assert (row.outcome, row.code, row.order_id) == ("duplicate", "intake.older_revision", orders[0].order_id)


def test_a_newer_revision_supersedes_what_is_open_and_nothing_else() -> None:
    row, orders = arrival("9"), [known("3"), known("2", state="done")]
    [older] = settle([row], {"k": orders})
    assert (older.order_id, older.by) == (orders[0].order_id, row)
    assert row.outcome == "accepted"


def test_a_row_that_was_rejected_before_is_never_settled() -> None:
    row = arrival()
    row.outcome, row.code = "rejected", "intake.type"
    assert settle([row], {"k": [known("1")]}) == []
    assert row.code == "intake.type"


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
    found = instant("2025-01-02T00:00:00+01:00")
    assert found is not None
    assert found.utcoffset() == timedelta(hours=1)
    for text in ("", "2025-01-02", "20250102", "x" * 30, "2025-02-30T00:00:00Z"):
        assert instant(text) is None


def test_a_twin_shares_what_becomes_of_its_first() -> None:
    first, order = arrival(), new_id()
    twin = arrival()
    twin.twin = first
    first.order_id = order
    settle_twins([first, twin])
    assert (twin.outcome, twin.code, twin.order_id) == ("duplicate", "intake.duplicate", order)

    first.end("rejected", "intake.conflict", order, "other content")
    settle_twins([first, twin])
    assert (twin.outcome, twin.code, twin.message) == ("rejected", "intake.conflict", "other content")


def test_deciding_again_forgets_the_first_decision_but_not_what_is_wrong_with_the_row_itself() -> None:
    row = arrival()
    row.end("duplicate", "intake.duplicate", UUID(int=1), "m")
    row.reopen()
    assert (row.outcome, row.code, row.order_id, row.message) == ("accepted", "", None, "")
    bad = Arrival(1, 1, 0, outcome="rejected", code="intake.json", message="m")
    bad.reopen()
    assert (bad.outcome, bad.code, bad.message) == ("rejected", "intake.json", "m")


def test_a_row_enters_by_what_it_is_and_by_what_its_flow_waits_for() -> None:
    row = arrival()
    assert first_move(row, holds=False) is ENTER
    assert first_move(row, holds=True) is HOLD
    row.is_context = True
    assert first_move(row, holds=True) is SHELVE
