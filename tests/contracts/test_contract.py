"""A contract as it is read: every part of the file is a part of it, and what the file leaves out has its default."""

from typing import Any

import pytest
from contracts.attempts import CEILINGS, Cause
from contracts.canonical import sha256_hex
from contracts.contract import DEFAULT_BYTES, DEFAULT_SECONDS, Contract, Uncertainty, Version, parse_contract, read_contract
from contracts.errors import BadContract
from contracts.excerpts import excerpt
from contracts.floor import parse_floor

WHOLE = b"""
contract: whole
version: 2.10.3
summary: Says it all.
takes: {name: in@1, schema: {type: object, additionalProperties: false, required: [id], properties: {id: {type: string}, state: {type: string}}}}
gives: {name: out@2, schema: {type: object, additionalProperties: false, required: [note], properties: {note: {type: string}}}}
evidence: {required: true, sources: [quote]}
tools: {allow: [search_subjects], deny: [fetch]}
waits: true
limits: {seconds: 7, bytes: 900, attempts: {qa: 5, crash: 1}}
uncertainty: {below: 0.25, then: ask}
qa:
  - {check: schema}
  - {check: evidence}
  - {check: rule, name: said, code: whole.silent, message: it says nothing, expr: "output.note != ''", on_fail: person}
  - {check: rule, name: again, code: whole.again, message: once more, expr: "output.note != 'x'"}
proposes:
  close: {depends_on: [state], tier: dual, payload: {type: object, required: [state], properties: {state: {const: closed}}}}
  label: {depends_on: [id], tier: none}
"""
LEAST = b"""
contract: least
version: 0.1.0
summary: Says the least.
takes: {name: in@1, schema: {type: object, properties: {id: {type: string}}}}
gives: {name: out@1, schema: {type: object, required: [note], properties: {note: {type: string}}}}
qa: [{check: schema}]
"""


@pytest.fixture
def whole() -> Contract:
    return read_contract(WHOLE, "whole.yaml")


def test_every_part_of_the_file_is_a_part_of_the_contract(whole: Contract) -> None:
    assert (whole.name, whole.version, whole.key, whole.summary) == ("whole", Version(2, 10, 3), "whole@2.10.3", "Says it all.")
    assert (whole.takes_name, whole.gives_name, whole.waits) == ("in@1", "out@2", True)
    assert whole.sha256 == sha256_hex(whole.body)
    assert (whole.evidence_required, whole.evidence_sources) == (True, ("quote",))
    assert (whole.tools_allow, whole.tools_deny) == (("search_subjects",), ("fetch",))
    assert (whole.max_seconds, whole.max_bytes) == (7, 900)
    assert whole.ceilings == CEILINGS | {Cause.QA: 5, Cause.CRASH: 1}
    assert whole.uncertainty == Uncertainty(0.25, "ask")
    assert [(one.kind, one.name, one.code, one.message, one.on_fail) for one in whole.qa] == [
        ("schema", "schema", "qa.schema", "the schema check failed", "rework"),
        ("evidence", "evidence", "qa.evidence", "the evidence check failed", "rework"),
        ("rule", "said", "whole.silent", "it says nothing", "person"),
        ("rule", "again", "whole.again", "once more", "rework"),
    ]
    assert [(one.action, one.depends_on, one.tier) for one in whole.proposes.values()] == [
        ("close", ("state",), "dual"),
        ("label", ("id",), "none"),
    ]
    assert not whole.proposes["close"].payload.is_valid({})
    assert whole.proposes["label"].payload.is_valid({"anything": 1})


def test_what_the_file_leaves_out_has_its_default() -> None:
    least = read_contract(LEAST, "least.yaml")
    assert (least.max_seconds, least.max_bytes, least.ceilings) == (DEFAULT_SECONDS, DEFAULT_BYTES, CEILINGS)
    assert (least.evidence_required, least.evidence_sources) == (False, ("quote", "item"))
    assert (least.tools_allow, least.tools_deny, least.uncertainty, dict(least.proposes), least.waits) == ((), (), None, {}, False)


def test_two_contracts_are_equal_when_their_bytes_are(whole: Contract) -> None:
    again = parse_contract(whole.body)
    assert (again == whole, hash(again) == hash(whole)) == (True, True)
    other = read_contract(LEAST, "least.yaml")
    assert (whole == other, whole == "whole") == (False, False)
    assert len({whole, again, other}) == 2


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (b"deny: [fetch]", b"deny: [search_subjects]", "whole.yaml line 8, /tools: search_subjects is both allowed and denied"),
        (b"output.note != 'x'", b"output.nope != 'x'", "output.nope is not a field of out@2: note"),
        (b"depends_on: [state]", b"depends_on: [stat]", "/proposes/close/depends_on/0: 'stat' is not a field of in@1: id, state"),
        (b"name: again", b"name: said", "a second check named 'said'"),
        (b"  - {check: evidence}\n", b"", "evidence is required, and no check looks at it"),
    ],
)
def test_a_contradiction_is_refused_at_its_place(before: bytes, after: bytes, said: str) -> None:
    assert before in WHOLE
    with pytest.raises(BadContract) as refused:
        read_contract(WHOLE.replace(before, after), "whole.yaml")
    assert said in refused.value.message


@pytest.mark.parametrize(
    ("raw", "at", "shown"),
    [
        (b"short", 0, "short"),
        (b"a" * 300, 0, "a" * 199 + "…"),
        (b"a" * 300 + b"HERE" + b"b" * 300, 300, "…" + "a" * 66 + "HERE" + "b" * 128 + "…"),
        ("ä".encode() * 300, 301, "…" + "ä" * 183),
    ],
)
def test_an_excerpt_shows_the_byte_that_is_meant(raw: bytes, at: int, shown: str) -> None:
    assert excerpt(raw, at) == shown


def test_two_floors_are_equal_when_their_bytes_are() -> None:
    text = "floor: 1\npods: {p: {autonomy: full_auto}}\nflows:\n  f: {pod: p, takes: {shape: json, subject: a, revision: b}, route: [{name: all, cell: c}]}\n"
    one, again, other = (
        parse_floor(text, "x"),
        parse_floor(text + "# the same\n", "y"),
        parse_floor(text.replace("full_auto", "report_only"), "x"),
    )
    found: list[Any] = [one == again, hash(one) == hash(again), one == other, one == "floor"]
    assert found == [True, True, False, False]
    assert one.sha256 == sha256_hex(one.body)
    assert (dict(one.lanes), one.flows["f"].index) == ({}, {})
