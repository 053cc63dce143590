"""One problem per row, in words, with its place."""

from typing import Any

import pytest
from contracts.errors import ROW_CODES, BadContract
from pipeline.intake.sources.validation import RowValidator

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["id", "labels"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "integer", "minimum": 1, "maximum": 10},
        "labels": {"type": "array", "maxItems": 3, "items": {"type": "string", "maxLength": 3}},
        "state": {"enum": ["open", "closed"]},
        "kind": {"const": "issue"},
        "at": {"type": "string", "format": "date-time"},
        "sha": {"type": "string", "pattern": "^[0-9a-f]+$"},
        "by": {"type": ["string", "null"]},
        "user": {
            "anyOf": [{"type": "string"}, {"type": "object", "properties": {"a/b": {"type": "integer"}}}],
        },
        "never": False,
        "by_day": {"type": "array", "uniqueItems": True},
    },
}


@pytest.mark.parametrize(
    ("change", "code", "field", "message"),
    [
        ({"labels": ["a", "b", None]}, "intake.type", "/labels/2", "expected a string, got null"),
        ({"id": "7"}, "intake.type", "/id", "expected an integer, got a string"),
        ({"id": 1.5}, "intake.type", "/id", "expected an integer, got 1.5"),
        ({"id": True}, "intake.type", "/id", "expected an integer, got a boolean"),
        ({"id": 11}, "intake.value", "/id", "expected at most 10, got 11"),
        ({"id": 0}, "intake.value", "/id", "expected at least 1, got 0"),
        ({"labels": ["abcd"]}, "intake.value", "/labels/0", "expected at most 3 characters, got 'abcd'"),
        ({"labels": ["a"] * 4}, "intake.value", "/labels", "expected at most 3 items, got an array of 4"),
        ({"state": "ajar"}, "intake.value", "/state", """expected one of ["open", "closed"], got 'ajar'"""),
        ({"kind": "pull"}, "intake.value", "/kind", """expected "issue", got 'pull'"""),
        ({"sha": "xyz"}, "intake.value", "/sha", "expected text that matches ^[0-9a-f]+$, got 'xyz'"),
        ({"user": {"a/b": "x"}}, "intake.type", "/user/a~1b", "expected an integer, got a string"),
        ({"user": 4}, "intake.value", "/user", "not what the contract takes at properties/user/anyOf, got 4"),
        ({"by_day": [1, 1]}, "intake.value", "/by_day", "expected items that differ, got an array of 2"),
        ({"never": 4}, "intake.value", "/never", "not what the contract takes at properties/never, got 4"),
        ({"extra": 1}, "intake.value", "/extra", "not a field that the contract takes"),
        (
            {"at": "2024-02-30T00:00:00Z"},
            "intake.value",
            "/at",
            "expected text of the format date-time, got '2024-02-30T00:00:00Z'",
        ),
    ],
)
def test_a_violation_is_told_with_code_place_and_what_was_needed(change: dict[str, Any], code: str, field: str, message: str) -> None:
    problem = RowValidator(SCHEMA).first_problem({"id": 1, "labels": []} | change)

    assert problem == (code, field, message)
    assert code in ROW_CODES


def test_a_missing_field_is_named_by_the_place_where_it_should_be() -> None:
    assert RowValidator(SCHEMA).first_problem({"id": 1}) == ("intake.required", "/labels", "required and missing")


def test_several_types_are_told_together() -> None:
    problem = RowValidator(SCHEMA).first_problem({"id": 1, "labels": [], "by": 3})

    assert problem is not None
    assert problem[2] in ("expected a string or null, got a number", "expected null or a string, got a number")


def test_a_valid_row_has_no_problem() -> None:
    assert RowValidator(SCHEMA).first_problem({"id": 1, "labels": ["a"], "state": "open"}) is None


def test_long_and_hostile_values_are_cut_and_disarmed() -> None:
    problem = RowValidator(SCHEMA).first_problem({"id": 1, "labels": ["\x1b[31m\u202e" * 1000]})

    assert problem is not None
    assert problem[2].isprintable()
    assert len(problem[2]) < 160
    assert problem[2].endswith("(6000 characters)")


def test_integers_beyond_64_bits_are_compared_exactly() -> None:
    validator = RowValidator({"properties": {"n": {"maximum": 2**70}}})

    assert validator.first_problem({"n": 2**70}) is None
    assert validator.first_problem({"n": 2**70 + 1}) is not None
    assert RowValidator(SCHEMA).first_problem({"id": 10**4000, "labels": []}) is not None


def test_a_pattern_cannot_be_made_to_run_forever() -> None:
    validator = RowValidator({"properties": {"x": {"pattern": "^(a+)+$"}}})

    assert validator.first_problem({"x": "a" * 100_000 + "b"}) is not None


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nope"},
        {"$ref": "https://example.com/x.json"},
        {"$ref": "file:///etc/passwd"},
        {"$ref": "#/nowhere"},
        {"$schema": "urn:unknown"},
        {"pattern": "(?=a)"},
        {"pattern": "("},
    ],
)
def test_a_schema_that_is_wrong_or_reaches_outside_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(BadContract) as refused:
        RowValidator(schema)

    assert refused.value.message.isprintable()
