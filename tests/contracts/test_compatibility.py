"""Versions of a contract: which one a version claims to be compatible with, and what of it breaks that claim."""

from typing import Any

import pytest
from contracts.compatibility import breaking_changes, predecessor
from contracts.contract import Contract, Version, read_contract

TEXT = """
contract: c
version: 1.0.0
summary: s
takes: {name: TAKES, schema: {type: object, additionalProperties: false, required: [IN], properties: {id: {type: string, maxLength: IN_MAX}, EXTRA}}}
gives: {name: GIVES, schema: {type: object, additionalProperties: false, required: [OUT], properties: {note: {type: string, maxLength: OUT_MAX}, MORE}}}
qa: [{check: schema}]
"""
PLAIN = {
    "TAKES": "in@1",
    "GIVES": "out@1",
    "IN_MAX": "9",
    "OUT_MAX": "9",
    "EXTRA": "x: {type: string}",
    "MORE": "y: {type: string}",
    "IN": "id",
    "OUT": "note",
}


def contract(**changed: str) -> Contract:
    """Return a contract with some words changed."""
    text = TEXT
    for word, plain in PLAIN.items():
        text = text.replace(word, changed.get(word, plain))
    return read_contract(text.encode(), "c.yaml")


@pytest.mark.parametrize(
    ("version", "others", "before"),
    [
        ("1.2.0", ["1.1.0", "1.0.9", "0.9.0"], "1.1.0"),
        ("1.2.0", ["1.2.1", "1.10.0", "2.0.0"], None),
        ("1.10.0", ["1.9.0", "1.2.0"], "1.9.0"),
        ("2.0.0", ["1.9.9"], None),
        ("0.2.1", ["0.2.0", "0.1.9"], "0.2.0"),
        ("0.3.0", ["0.2.0"], None),
        ("1.0.0", [], None),
        ("1.0.0", ["1.0.0"], None),
    ],
)
def test_a_version_claims_to_be_compatible_with_the_newest_before_it_in_its_series(
    version: str, others: list[str], before: str | None
) -> None:
    def read(text: str) -> Version:
        return Version(*map(int, text.split(".")))

    assert predecessor(read(version), map(read, others)) == (read(before) if before else None)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, []),
        ({"IN_MAX": "10"}, []),
        ({"OUT_MAX": "8"}, []),
        ({"EXTRA": "x: {type: string}, z: {type: integer}"}, []),
        ({"OUT": "note, y"}, []),
        ({"IN_MAX": "8"}, ["takes: not every value of id fits"]),
        ({"OUT_MAX": "10"}, ["gives: not every value of note fits"]),
        ({"IN": "id, x"}, ["takes: x is required, and may be missing"]),
        ({"IN": "id, x, z", "EXTRA": "x: {type: string}, z: {type: string}"}, ["takes: x, z are required, and may be missing"]),
        ({"EXTRA": "w: {type: string}"}, ["takes: x is not known there"]),
        ({"MORE": "y: {type: string}, z: {type: string}"}, ["gives: z is not known there"]),
        ({"MORE": "y: {type: string}, z: {type: string}, w: {type: string}"}, ["gives: w, z are not known there"]),
        ({"TAKES": "in@2"}, ["it takes in@2 instead of in@1"]),
        ({"GIVES": "out@2"}, ["it gives out@2 instead of out@1"]),
        ({"IN_MAX": "8", "OUT_MAX": "10"}, ["takes: not every value of id fits", "gives: not every value of note fits"]),
    ],
)
def test_what_is_taken_may_grow_and_what_is_given_may_shrink(changed: dict[str, Any], said: list[str]) -> None:
    assert breaking_changes(contract(), contract(**changed)) == said


def test_what_cannot_be_decided_counts_as_breaking() -> None:
    recursive = contract(MORE="y: {type: array, items: {$ref: '#'}}")
    assert breaking_changes(recursive, contract(MORE="y: {type: array, maxItems: 2, items: {$ref: '#'}}")) != []
    assert breaking_changes(recursive, recursive) == []
