"""Foreign text on somebody's terminal."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st
from contracts.excerpts import excerpt, pointer_part, printable


@given(st.text(st.characters(), max_size=300), st.integers(min_value=2, max_value=300))
def test_every_text_becomes_printable_encodable_and_short(text: str, limit: int) -> None:
    shown = printable(text, limit)

    assert len(shown) <= limit
    assert not any(unicodedata.category(char).startswith("C") for char in shown)
    shown.encode()


@given(st.binary(max_size=400), st.integers(min_value=0, max_value=500))
def test_every_excerpt_is_printable_and_short(raw: bytes, at_byte: int) -> None:
    shown = excerpt(raw, at_byte)

    assert shown.isprintable()
    assert len(shown) <= 200


def test_plain_text_is_shown_as_it_is() -> None:
    assert printable("Größe: 5 €") == "Größe: 5 €"
    assert printable("a\nb\tc\x1b\u202e\U000e0001\ud800") == r"a\nb\tc\x1b\u202e\U000e0001\ud800"
    assert printable("x" * 81) == "x" * 79 + "…"


def test_an_excerpt_does_not_part_a_character() -> None:
    raw = "é".encode() * 200

    assert "\\x" not in excerpt(raw, 201)


def test_a_key_becomes_one_step_of_a_pointer() -> None:
    assert pointer_part("a/b~c") == "/a~1b~0c"
