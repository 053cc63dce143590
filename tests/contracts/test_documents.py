"""Files that people write: what is ambiguous or damaged is refused with its line and a remedy."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from contracts.documents import load_json, load_yaml, read_json_or_yaml, read_yaml
from contracts.errors import BadContract, BadFloor
from contracts.excerpts import printable


def refusal_of(load, text, error=BadContract):
    with pytest.raises(error) as refused:
        load(text, "cell.yaml", error)
    return refused.value.message


def test_plain_yaml_becomes_json_values():
    text = "a: 1\nb: [x, 'y', 1.5, 0x1f]\nc: {d: 2024-01-01, e: null, f: ~, g: true, h: False}\nv: 1.0.0\nt: |\n  one\n"
    assert load_yaml(text, "x") == {
        "a": 1,
        "b": ["x", "y", 1.5, 31],
        "c": {"d": "2024-01-01", "e": None, "f": None, "g": True, "h": False},
        "v": "1.0.0",
        "t": "one\n",
    }


def test_keys_stay_text_whatever_they_look_like():
    assert load_yaml("on: 1\n2: x\nnull: y", "x") == {"on": 1, "2": "x", "null": "y"}


@pytest.mark.parametrize(("word", "plain"), [("no", "false"), ("Off", "false"), ("YES", "true"), ("on", "true")])
def test_a_word_that_may_mean_a_truth_value_is_refused_with_what_to_write(word, plain):
    message = refusal_of(load_yaml, f"a: 1\nheld: {word}")
    assert message.startswith("cell.yaml line 2, column 7")
    assert f"write {plain}, or '{word}' in quotes" in message
    assert load_yaml(f"held: '{word}'", "x") == {"held": word}


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("a: 1\nb: 2\na: 3", 3, "key 'a' is there twice"),
        ("- 1\n- {x: b, x: c}", 2, "key 'x' is there twice"),
        ("a: &x [1]\nb: *x", 1, "anchor &x"),
        ("a: *x", 1, "alias *x"),
        ("a: !!python/object/apply:os.system [ls]", 1, "tag tag:yaml.org"),
        ("a: !mine 1", 1, "tag !mine"),
        ("\na: !!str 1", 2, "tag"),
        ("a: 010", 1, "leading zero"),
        ("a: .nan", 1, "not a number that JSON has"),
        ("a: -.inf", 1, "not a number that JSON has"),
        ("a: 1e999", 1, "too large"),
        ("a: 9007199254740992", 1, "more digits than are exact"),
        ("a: " + "9" * 5000, 1, "more digits than are exact"),
        ("---\na: 1\n---\nb: 2", 3, "second document"),
        ("a: [", 2, "not YAML"),
        ("a: b: c", 1, "not YAML"),
        ("a: x\n\tb: y", 2, "not YAML"),
        ("? [a]\n: b", 1, "keys are plain names"),
        ('a: "\\ud800"', 1, "not YAML"),
    ],
)
def test_bad_yaml_is_refused_with_its_line(text, line, says):
    message = refusal_of(load_yaml, text)
    assert message.startswith(f"cell.yaml line {line}")
    assert says in message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("a: \x01", "character"),
        ("a: \ud800", "character"),
        ('a: "\\0"', "NUL"),
        (b"\xff\xfea\x00", "UTF-16"),
        (b"a: 1\nb: \xff", "line 2, byte 8: not UTF-8"),
        ("a" * 1_100_000, "at most"),
    ],
)
def test_a_damaged_file_is_refused_as_a_whole(text, says):
    assert says in refusal_of(load_yaml, text)


def test_a_byte_order_mark_is_dropped():
    assert load_yaml(b"\xef\xbb\xbfa: 1", "x") == {"a": 1}
    assert load_json("\ufeff[1]", "x") == [1]


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "- " * 101 + "x", "[" * 101 + "]" * 101, '{"a":' * 100_000],
    ids=["open", "lists", "closed", "objects"],
)
def test_deep_nesting_is_refused_without_recursion(text):
    assert "nested deeper" in refusal_of(load_yaml, text)
    if text[0] in "[{":
        assert "nested deeper" in refusal_of(load_json, text)


def test_the_caller_chooses_the_error():
    with pytest.raises(BadFloor) as refused:
        load_yaml("a: no", "floor.yaml", BadFloor)
    assert refused.value.exit_code == 2


def test_a_place_names_the_nearest_line_above_it():
    document = read_yaml("a: 1\nb:\n  - x\n  - y/z: 2\n", "floor.yaml")
    assert document.place("/b/1/y~1z") == "floor.yaml line 4, /b/1/y~1z"
    assert document.place("/b/1/missing") == "floor.yaml line 4, /b/1/missing"
    assert document.place("") == "floor.yaml"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a":1,\n"b":{"c":1,\n"x":[{"c":2}],"c":3}}', "line 3: key 'c' is there twice"),
        ('{"a\\u0062":1,"ab":2}', "line 1: key 'ab' is there twice"),
        ("[1,\n NaN]", "line 2: NaN is not JSON: write null"),
        ('{"a":-Infinity}', "-Infinity is not JSON"),
        ("[1e999]", "too large"),
        ("[9007199254740993]", "more digits"),
        ("[" + "9" * 5000 + "]", "more digits"),
        ('["\\ud800"]', "lone surrogate"),
        ('["\\u0000"]', "NUL"),
        ('{"a":', "line 1, column 6: not JSON"),
        ("", "not JSON"),
        ("{'a': 1}", "not JSON"),
    ],
)
def test_bad_json_is_refused_with_its_place(text, says):
    assert says in refusal_of(load_json, text)


def test_an_escaped_backslash_before_u0000_is_no_nul():
    assert load_json('["\\\\u0000"]', "x") == ["\\u0000"]


def test_json_is_read_as_json_where_yaml_would_change_it():
    value = {"text": "a\u2028b\x7f\x85c", "long" * 400: 1}
    assert read_json_or_yaml(json.dumps(value, ensure_ascii=False), "x").value == value
    assert read_json_or_yaml("{floor: 1, flows: {}}", "x").value == {"floor": 1, "flows": {}}
    assert "is there twice" in refusal_of(read_json_or_yaml, '{"a":1,"a":2}')


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-99, 99) | st.text("abc: #-", max_size=9),
        lambda i: st.lists(i, max_size=3),
    )
)
def test_json_written_by_json_is_read_back(value):
    assert load_json(json.dumps(value), "x") == value


def test_foreign_text_is_shown_short_and_without_control():
    shown = printable("ok\x1b[31m\u202egnp.exe\n\ud800" + "x" * 1_000_000, 60)
    assert shown.startswith("ok\\x1b[31m\\u202egnp.exe\\n\\ud800")
    assert shown.isprintable()
    assert len(shown) == 60
