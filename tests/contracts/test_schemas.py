"""Schemas of contracts: refused when they say less than they seem to."""

import http.server
import threading

import pytest
from contracts.errors import BadContract, BadFloor
from contracts.schemas import DIALECT, MAX_PARTS, Validator, check_schema


def refusal_of(schema, purpose="input"):
    with pytest.raises(BadContract) as refused:
        check_schema(schema, name="takes", purpose=purpose)
    return refused.value.message


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        {"$schema": DIALECT, "$id": "https://example.org/a", "type": "object", "$comment": "x"},
        {"properties": {"minLenght": {"type": "string"}, "$ref": {"type": "string"}}},
        {"enum": [{"minLenght": 1}], "default": {"$ref": "file:///"}, "examples": [{"typ": 1}]},
        {
            "properties": {"child": {"$ref": "#"}, "list": {"items": {"$ref": "#/$defs/n"}}},
            "$defs": {"n": {"$anchor": "n"}},
        },
        {"$ref": "#n", "$defs": {"a/b": {"$anchor": "n", "type": "object"}}},
        {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "object"}}},
        {"properties": {"x": {"pattern": "^(a+)+$"}}},
        {"properties": {"at": {"format": "date-time"}}},
    ],
)
def test_a_sound_schema_passes_as_an_input(schema):
    check_schema(schema, name="takes", purpose="input")


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ([], "expected a JSON Schema, got []"),
        (None, "expected a JSON Schema"),
        ({1: 2}, "not JSON"),
        ({"const": float("nan")}, "NaN"),
        ({"minLenght": 3}, "takes /minLenght: unknown keyword 'minLenght': did you mean minLength?"),
        (
            {"properties": {"a": {"typ": "string"}}},
            "takes /properties/a/typ: unknown keyword 'typ': did you mean type?",
        ),
        ({"$defs": {"n": {"anyOf": [{}, {"requierd": []}]}}}, "takes /$defs/n/anyOf/1/requierd"),
        ({"dependentSchemas": {"a": {"requird": []}}}, "takes /dependentSchemas/a/requird"),
        ({"title": "x", "customer_name": {"type": "string"}}, "fields stand under properties"),
        ({"definitions": {}}, "write $defs"),
        ({"nullable": True}, 'write "type"'),
        ({"$dynamicRef": "#x"}, "write $ref"),
        ({"contentEncoding": "base64"}, "checks nothing"),
        ({"type": "strin"}, "takes /type: expected one of"),
        ({"minimum": "x"}, "takes /minimum: expected a number, got a string"),
        ({"items": [{}]}, "takes /items"),
        ({"properties": []}, "takes /properties: expected an object, got an array"),
        ({"required": "a"}, "takes /required: expected an array, got a string"),
        ({"required": ["a", "a"]}, "elements that differ"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "unknown draft"),
        ({"$schema": "https://example.org/mine"}, "unknown draft"),
        ({"properties": {"a": {"$schema": DIALECT}}}, "at its top only"),
        ({"properties": {"a": {"$id": "b"}}}, "at its top only"),
        ({"properties": {"a": {"format": "datetime"}}}, "did you mean date-time?"),
        ({"format": "colour"}, "or write a pattern"),
        ({"pattern": "(?=a)"}, "takes /pattern: pattern '(?=a)' cannot be matched in linear time"),
        ({"pattern": r"(a)\1"}, "linear time"),
        ({"pattern": "a{1000}{1000}"}, "linear time"),
        ({"pattern": "["}, "no regular expression"),
        ({"patternProperties": {"(?!x)": True}}, "takes /patternProperties/(?!x): pattern '(?!x)'"),
        (False, "no object can ever satisfy"),
        ({"allOf": [{"type": "string"}, {"type": "object"}]}, "no object can ever satisfy"),
        ({"type": "string"}, "no object can ever satisfy"),
        ({"type": "object", "required": ["a"], "additionalProperties": False}, "no object can ever satisfy"),
    ],
)
def test_a_schema_that_misleads_is_refused_with_its_place(schema, says):
    assert says in refusal_of(schema)


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("https://example.org/a.json", "leads out of this schema"),
        ("file:///etc/passwd", "leads out of this schema"),
        ("other.json#/a", "leads out of this schema"),
        ("#/$defs/missing", "names no schema in here (known: #/$defs/n, #word)"),
        ("#missing", "names no schema"),
        ("#/properties", "names no schema"),
        ("#/$defs/n/const", "names no schema"),
    ],
)
def test_a_reference_stays_inside_and_names_a_schema(reference, says):
    schema = {"properties": {"a": {"$ref": reference}}, "$defs": {"n": {"const": {}, "$anchor": "word"}}}
    message = refusal_of(schema)
    assert message.startswith("takes /properties/a/$ref: ")
    assert says in message


def test_checking_a_schema_fetches_nothing():
    asked = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for keyword in ("$ref", "$schema", "$id"):
            address = f"http://127.0.0.1:{server.server_port}/{keyword[1:]}.json"
            try:
                check_schema({keyword: address, "type": "object"}, name="takes", purpose="input")
            except BadContract:
                continue
            Validator({keyword: address, "type": "object"}).is_valid({})
        server.shutdown()
    assert asked == []


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        {"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"anyOf": [{"not": {"$ref": "#"}}]}}},
        {"if": {"$ref": "#me"}, "$anchor": "me"},
    ],
)
def test_a_loop_of_references_without_progress_is_refused(schema):
    assert "leads back to itself" in refusal_of(schema)


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        {"type": "object"},
        {"title": "nothing else"},
        {"type": "object", "properties": {"a": True}},
        {"$ref": "#/$defs/a", "$defs": {"a": {}}},
        {"anyOf": [{"type": "string"}, {}]},
        {"not": False},
        {"minProperties": 0},
    ],
)
def test_an_output_schema_that_checks_nothing_is_refused(schema):
    assert "takes every object" in refusal_of(schema, "output")


@pytest.mark.parametrize(
    "schema",
    [
        {"required": ["a"]},
        {"properties": {"a": {"type": "string"}}},
        {"additionalProperties": False},
        {"maxProperties": 3},
    ],
)
def test_an_output_schema_that_checks_something_passes(schema):
    check_schema(schema, name="gives", purpose="output")


def test_size_and_depth_have_limits_that_no_library_crashes_under():
    chain = {f"a{n}": {"properties": {"x": {"$ref": f"#/$defs/a{n + 1}"}}} for n in range(MAX_PARTS // 2 - 2)}
    last = f"a{len(chain)}"
    check_schema({"$ref": "#/$defs/a0", "$defs": chain | {last: {"required": ["x"]}}}, name="takes", purpose="output")
    assert "schemas inside it" in refusal_of({"$defs": {str(n): True for n in range(MAX_PARTS)}})
    deep = schema = {}
    for _ in range(100_000):
        schema["not"] = {}
        schema = schema["not"]
    assert "nested deeper" in refusal_of(deep)


def test_place_and_error_are_the_callers():
    with pytest.raises(BadFloor, match=r"floor.yaml line 3, /x/typ: unknown keyword"):
        check_schema({"typ": 1}, name="", purpose="input", place=lambda at: f"floor.yaml line 3, /x{at}", error=BadFloor)
