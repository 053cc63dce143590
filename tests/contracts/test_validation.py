"""Values against schemas: findings say what was expected and what was there, and nothing else."""

import time

import pytest
from contracts.validation import MAX_FINDINGS, MAX_MESSAGE_CHARS, Validator

DECISION = {
    "oneOf": [
        {
            "type": "object",
            "properties": {"do": {"const": "close"}, "why": {"type": "string"}},
            "required": ["do", "why"],
            "additionalProperties": False,
        },
        {"type": "object", "properties": {"do": {"const": "keep"}}, "required": ["do"], "additionalProperties": False},
    ]
}
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 2, "maxLength": 5},
        "state": {"enum": ["open", "closed"]},
        "at": {"type": "string", "format": "date-time"},
        "count": {"type": "integer", "minimum": 1, "multipleOf": 2},
        "labels": {"type": "array", "items": {"type": "string"}, "uniqueItems": True, "maxItems": 3},
        "code": {"pattern": "^[a-z]+$"},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "decision": DECISION,
    },
    "additionalProperties": False,
}


def found(value, schema=SCHEMA):
    return [(finding.code, finding.place, finding.message) for finding in Validator(schema).findings(value)]


def test_a_valid_value_has_no_findings():
    value = {
        "name": "abc",
        "state": "open",
        "labels": ["a"],
        "note": None,
        "decision": {"do": "keep"},
        "at": "2024-01-01T00:00:00Z",
    }
    assert Validator(SCHEMA).is_valid(value)
    assert found(value) == []


@pytest.mark.parametrize(
    ("value", "finding"),
    [
        (None, ("schema.type", "", "expected an object, got null")),
        ({"name": 5}, ("schema.type", "/name", "expected a string, got an integer")),
        ({"name": True}, ("schema.type", "/name", "expected a string, got true")),
        ({"labels": ["a", None]}, ("schema.type", "/labels/1", "expected a string, got null")),
        ({"name": 2.5}, ("schema.type", "/name", "expected a string, got a number")),
        ({"name": "x"}, ("schema.value", "/name", "expected at least 2 characters, got 1")),
        ({"name": "x" * 900}, ("schema.value", "/name", "expected at most 5 characters, got 900")),
        ({"count": 0}, ("schema.value", "/count", "expected at least 1, got 0")),
        ({"count": 3}, ("schema.value", "/count", "expected a multiple of 2, got 3")),
        ({"state": "shut"}, ("schema.value", "/state", 'expected one of "open", "closed", got "shut"')),
        ({"at": "yesterday"}, ("schema.value", "/at", 'expected a date-time, got "yesterday"')),
        ({"at": "2024-02-30T00:00:00Z"}, ("schema.value", "/at", 'expected a date-time, got "2024-02-30T00:00:00Z"')),
        ({"code": "A"}, ("schema.value", "/code", 'expected text matching ^[a-z]+$, got "A"')),
        ({"labels": ["a", "a"]}, ("schema.value", "/labels", "expected elements that differ, got one of them twice")),
        ({"nmae": 1}, ("schema.extra", "/nmae", "not allowed here: did you mean name?")),
        ({"note": 5}, ("schema.type", "/note", "expected a string or null, got an integer")),
        ({"decision": {"do": "close"}}, ("schema.required", "/decision/why", "missing")),
        ({"decision": {"do": "clse"}}, ("schema.value", "/decision/do", 'expected one of "close", "keep", got "clse"')),
        ({"decision": {"do": "keep", "why": ""}}, ("schema.extra", "/decision/why", "not allowed here: known are do")),
        ({"decision": 5}, ("schema.type", "/decision", "expected an object, got an integer")),
    ],
)
def test_each_finding_says_what_was_expected_and_what_was_there(value, finding):
    assert not Validator(SCHEMA).is_valid(value)
    assert found(value) == [finding]


@pytest.mark.parametrize(
    ("schema", "value", "finding"),
    [
        (
            {"contains": {"type": "integer"}},
            ["a"],
            ("schema.value", "", "expected an element of a certain form, got none"),
        ),
        ({"not": {"const": 5}}, 5, ("schema.value", "", 'is of a form that is not allowed: {"const":5}')),
        (
            {"prefixItems": [True], "unevaluatedItems": False},
            [1, 2],
            ("schema.value", "", "holds elements beyond those"),
        ),
        (
            {"propertyNames": {"maxLength": 2}},
            {"abc": 1},
            ("schema.value", "", "holds a field whose name is not allowed"),
        ),
        ({"properties": {"a": False}}, {"a": 1}, ("schema.extra", "/a", "not allowed here")),
        ({"unevaluatedProperties": False}, {"a": 1}, ("schema.extra", "/a", "not allowed here")),
        ({"minProperties": 2}, {"a": 1}, ("schema.value", "", "expected at least 2 fields, got 1")),
        ({"exclusiveMaximum": 2}, 2, ("schema.value", "", "expected less than 2, got 2")),
        ({"const": {"a": 1}}, [1], ("schema.value", "", 'expected {"a":1}, got [1]')),
        ({"enum": [None, True]}, list(range(50)), ("schema.value", "", "expected one of null, true, got an array")),
        ({"dependentRequired": {"a": ["b"]}}, {"a": 1}, ("schema.required", "/b", "missing")),
        (
            {"anyOf": [{"properties": {"a": {"const": 1}}}, {"type": "array"}]},
            {"a": 2},
            ("schema.value", "", "fits none"),
        ),
        ({"type": "integer"}, 10**400, None),
    ],
)
def test_every_keyword_has_words_of_its_own(schema, value, finding):
    if finding is None:
        assert found(value, schema) == []
        return
    ((code, place, message),) = found(value, schema)
    assert (code, place) == finding[:2]
    assert message.startswith(finding[2])


def test_the_form_that_was_meant_is_told_by_its_fixed_word():
    forms = [
        {"properties": {"check": {"const": "schema"}}, "additionalProperties": False},
        {"properties": {"check": {"const": "rule"}, "then": {"enum": ["a", "b"]}}, "additionalProperties": False},
    ]
    assert found({"check": "rule", "then": "c"}, {"oneOf": forms}) == [("schema.value", "/then", 'expected one of "a", "b", got "c"')]
    assert found({"check": "rul"}, {"anyOf": forms}) == [("schema.value", "/check", 'expected one of "schema", "rule", got "rul"')]
    assert found({}, {"oneOf": [{}, True]}) == [("schema.value", "", "fits more than one of the forms of which exactly one is allowed")]


def test_every_problem_of_a_value_is_found():
    places = {place for _, place, _ in found({"name": 1, "count": "x", "extra": 1, "labels": [1, 2]})}
    assert places == {"/name", "/count", "/extra", "/labels/0", "/labels/1"}


def test_places_are_json_pointers():
    schema = {"properties": {"a/b": {"properties": {"c~d": {"type": "string"}}}}}
    assert found({"a/b": {"c~d": 1}}, schema)[0][1] == "/a~1b/c~0d"


def test_findings_are_bounded_and_show_no_control_characters():
    wild = "\x1b[31m\u202e" + "x" * 100_000
    findings = Validator(SCHEMA).findings({wild + str(n): n for n in range(100)} | {"code": wild})
    assert len(findings) == MAX_FINDINGS
    for finding in findings:
        assert len(finding.message) <= MAX_MESSAGE_CHARS
        assert len(finding.place) <= 100
        assert (finding.message + finding.place).isprintable()


def test_a_long_excerpt_is_cut():
    ((_, _, message),) = found({"code": "A" * 100_000})
    assert len(message) < 140
    assert message.endswith('…"')


@pytest.mark.parametrize("value", [{"name": "\ud800"}, {"\ud800": 1}, {"name": {1: 2}}, {"name": b"x"}, {"name": float("nan")}])
def test_what_is_no_json_is_a_finding_and_no_accident(value):
    validator = Validator(SCHEMA)
    assert not validator.is_valid(value)
    assert len(validator.findings(value)) == 1


@pytest.mark.parametrize("schema", [SCHEMA, {"items": {"$ref": "#"}}, {"uniqueItems": True}, {"const": [[]]}, {"type": "object"}])
def test_a_value_a_hundred_thousand_levels_deep_ends_no_process(schema):
    deep = value = []
    for _ in range(100_000):
        value.append([])
        value = value[0]
    validator = Validator(schema)
    assert not validator.is_valid(deep)
    assert validator.findings(deep)[0].message == "nested deeper than 100 levels"


def test_a_pattern_that_would_backtrack_for_ever_is_matched_at_once():
    validator = Validator({"properties": {"a": {"pattern": "^(a+)+$"}}})
    started = time.monotonic()
    assert not validator.is_valid({"a": "a" * 50_000 + "!"})
    assert time.monotonic() - started < 1
