"""One string of bytes for one value, whatever road it takes through the code."""

import enum
from datetime import UTC, datetime
from uuid import uuid4

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from contracts.canonical import MAX_JSON_LEVELS, canonical, digest, is_within_depth, sha256_hex
from contracts.errors import BadInput

EXACT = 2**53 - 1
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-EXACT, EXACT)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.floats(-10, 10).map(lambda number: round(number, 2))
    | st.text()
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=20,
)


@given(values)
def test_the_bytes_are_those_of_the_reference_library(value):
    assert canonical(value) == rfc8785.dumps(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_written_the_same_alone_and_inside(number):
    assert canonical([number]) == b"[" + rfc8785.dumps(number) + b"]"
    assert canonical(number) == rfc8785.dumps(number)


def test_keys_beyond_the_basic_plane_sort_by_utf_16_not_by_utf_8():
    assert canonical({"\ue000": 1, "\U00010000": 2}) == '{"\U00010000":2,"\ue000":1}'.encode()


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (1.0, b"1"),
        (-0.0, b"0"),
        (1e16, b"10000000000000000"),
        (1e21, b"1e+21"),
        (1e-7, b"1e-7"),
        (0.1, b"0.1"),
        (0.0001, b"0.0001"),
        ({"confidence": 1.0}, b'{"confidence":1}'),
        ((1, 2), b"[1,2]"),
        ({"b": 1, "a": {"d": 1, "c": 2}}, b'{"a":{"c":2,"d":1},"b":1}'),
        ('\x00\x1f\x7f\u2028\n"\\', '"\\u0000\\u001f\x7f\u2028\\n\\"\\\\"'.encode()),
        (EXACT, b"9007199254740991"),
    ],
)
def test_known_values_have_known_bytes(value, written):
    assert canonical(value) == written


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (float("nan"), "canonical.number"),
        ([float("inf")], "canonical.number"),
        ({"a": -float("inf")}, "canonical.number"),
        (EXACT + 1, "canonical.number"),
        ({"id": -EXACT - 1}, "canonical.number"),
        pytest.param(10**5000, "canonical.number", id="5000 digits"),
        ("\ud800", "canonical.text"),
        ({"\udfff": 1}, "canonical.text"),
        ({1: 2}, "canonical.type"),
        (b"bytes", "canonical.type"),
        ({"at": datetime(2024, 1, 1, tzinfo=UTC)}, "canonical.type"),
        ([uuid4()], "canonical.type"),
        ({"set": {1}}, "canonical.type"),
    ],
)
def test_what_bytes_cannot_carry_exactly_is_refused(value, code):
    with pytest.raises(BadInput) as refused:
        canonical(value)
    assert refused.value.instance_code == code


def test_a_subclass_of_a_json_type_has_the_bytes_of_its_value():
    class Colour(enum.StrEnum):
        RED = "red"

    assert canonical({"colour": Colour.RED}) == b'{"colour":"red"}'


def nested(levels):
    value = innermost = []
    for _ in range(levels - 1):
        innermost.append([])
        innermost = innermost[0]
    return value


def test_depth_is_limited_and_a_hundred_thousand_levels_end_no_process():
    assert canonical(nested(MAX_JSON_LEVELS)) == b"[" * MAX_JSON_LEVELS + b"]" * MAX_JSON_LEVELS
    for levels in (MAX_JSON_LEVELS + 1, 100_000):
        with pytest.raises(BadInput) as refused:
            canonical(nested(levels))
        assert refused.value.instance_code == "canonical.depth"


def test_depth_counts_objects_and_arrays_but_no_scalars():
    assert is_within_depth("text", 0)
    assert is_within_depth({"a": [1]}, 2)
    assert not is_within_depth({"a": [1]}, 1)


def test_equal_values_have_equal_digests_however_they_are_ordered():
    assert digest({"a": 1, "b": 2.0}) == digest({"b": 2, "a": 1}) == sha256_hex(b'{"a":1,"b":2}')
