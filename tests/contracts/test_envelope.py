"""Envelopes: which fields of a target have changed since a decision was made on them."""

from contracts.envelope import changed_fields


def test_a_target_has_drifted_in_the_fields_that_differ_or_are_gone() -> None:
    decided_on = {"title": "Widget", "state": "open", "labels": ["bug"], "assignee": None}
    assert changed_fields(decided_on, decided_on | {"comments": 4}) == []
    assert changed_fields(decided_on, decided_on | {"state": "closed", "labels": []}) == ["labels", "state"]
    assert changed_fields(decided_on, {"state": "open", "labels": ["bug"]}) == ["title"], "a field that is null may be absent"
