"""Work grows as its input does: doubled inputs, counted calls. Times would say what else the machine does; calls do not."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from contracts.canonical import canonical
from contracts.contract import read_contract
from contracts.documents import load_json
from contracts.expressions import Expression
from contracts.floor import parse_floor
from contracts.lifecycle import Role
from contracts.schemas import Validator
from pipeline.intake.sources import open_source
from pipeline.operations import steering
from pipeline.operations.selection import select_by_name
from pipeline.startup.compose import Shop
from pipeline.startup.setup import load_registry
from queues.board.why import why
from queues.database import transaction
from queues.lookup import find_item
from tests.in_process import Road, issue, merged
from workcells.shapes.github_issue import normalise
from workcells.shapes.github_references import mentions

MOST = 2.3
"""Calls on a doubled input may be so many times those on the input itself."""
HEAD = "contract: c\nversion: 1.0.0\nsummary: s\n"
TAKES = "takes: {name: a@1, schema: {type: object, properties: {id: {type: string}}}}\n"
NAMES = Validator(
    {"type": "object", "additionalProperties": False, "properties": {"names": {"type": "array", "items": {"type": "string"}}}}
)


def calls(act: Callable[[], object]) -> int:
    """Return how many functions, ours and the interpreter's, an act calls."""
    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(None)
    return count


def floor_of(flows: int) -> str:
    """Return a floor with so many flows, each with a rule."""
    flow = "  f{0}:\n    pod: p\n    takes: {{shape: json, subject: id, revision: revision}}\n    route:\n      - {{name: all, cell: c}}\n"
    return "floor: 1\npods:\n  p: {autonomy: draft_approve}\nflows:\n" + "".join(flow.format(number) for number in range(flows))


def contract_of(fields: int) -> bytes:
    """Return a contract whose output has so many fields."""
    names = ", ".join(f"p{number}: {{type: string}}" for number in range(fields))
    gives = f"gives: {{name: b@1, schema: {{type: object, additionalProperties: false, required: [p0], properties: {{{names}}}}}}}\n"
    return (HEAD + TAKES + gives + "qa:\n  - {check: schema}\n").encode()


class Bench:
    """A bench whose search finds one merged pull request with a given text."""

    as_of, findings = "2026-01-01T00:00:00Z", ()

    def __init__(self, body: str) -> None:
        found = normalise(merged(9, fixes=1, body=body))
        self._found = found | {"revision": found["updated_at"], "matched": 3, "of_terms": 3, "score": 9.0}

    def call(self, tool: str, **_: Any) -> list[dict[str, Any]]:
        return [self._found]


def review(body: str) -> object:
    """Return what the cell that ships makes of an issue and a pull request with this text."""
    return load_registry().by_name["issue_review"].code.run(normalise(issue(1, body=body)), Bench(body))


TEXTS = [
    "#1 ",
    "fixes #1, ",
    "fixes #1 and ",
    "- [ ] #1\n",
    "<",
    "```\n",
    "[",
    "<pre>",
    "<!--",
    "not ",
    "a/",
    "https://github.com/a/b/issues/1 ",
]
CASES: dict[str, tuple[Callable[[Any], object], Callable[[int], Any], int]] = {
    "flows of a floor": (lambda text: parse_floor(text, "floor.yaml"), floor_of, 50),
    "fields of a contract": (lambda text: read_contract(text, "contract.yaml"), contract_of, 150),
    "keys to canonical JSON": (canonical, lambda size: {f"k{n}": n for n in range(size)}, 2000),
    "keys of a JSON document": (
        lambda text: load_json(text, "x"),
        lambda size: json.dumps({f"k{n}": n for n in range(size)}).encode(),
        2000,
    ),
    "wrong elements": (NAMES.findings, lambda size: {"names": [1] * size}, 2000),
    "unknown fields": (NAMES.findings, lambda size: {f"k{n}": 1 for n in range(size)}, 1000),
    "labels of an issue": (lambda labels: normalise(issue(1, labels=labels)), lambda size: [{"name": f"l{n}"} for n in range(size)], 1000),
    "a rule over a list": (
        lambda tags: Expression("row.tags.all(x, x != 'q')", variables=("row",)).is_true({"row": {"tags": tags}}),
        lambda size: [f"t{n}" for n in range(size)],
        2000,
    ),
    **{f"mentions in {text!r}": (lambda body: mentions(normalise(issue(1, body=body))), text.__mul__, 1000) for text in TEXTS},
    **{f"review of {text!r}": (review, text.__mul__, 300) for text in TEXTS},
}


@pytest.mark.parametrize("case", CASES)
def test_what_reads_foreign_text_does_no_more_than_twice_the_work_on_twice_the_input(case: str) -> None:
    act, make, size = CASES[case]
    once, twice = make(size), make(2 * size)
    act(once)  # whatever is loaded or compiled but once
    assert calls(lambda: act(twice)) <= MOST * calls(lambda: act(once))


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("rows.jsonl", '{"id": 1}\n'),
        ("rows.jsonl", "no JSON\n"),
        ("rows.jsonl", '{"a": 1, "a": 2}\n'),
        ("rows.csv", "1,2\n"),
        ("rows.csv", "1\n"),
    ],
)
def test_rows_good_or_bad_are_read_one_after_the_other(tmp_path: Path, name: str, line: str) -> None:
    path = tmp_path / name
    head = "a,b\n" if name.endswith("csv") else ""

    def read(rows: int) -> Callable[[], object]:
        path.write_text(head + line * rows)

        def act() -> None:
            with open_source(str(path)) as source:
                assert len(list(source.rows())) == rows

        return act

    read(10)()
    assert calls(read(2000)) <= MOST * calls(read(1000))


def test_a_wide_table_is_read_as_it_is_wide(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"

    def read(columns: int) -> Callable[[], object]:
        path.write_text(",".join(f"c{n}" for n in range(columns)) + "\n" + ",".join("1" * columns) + "\n")

        def act() -> None:
            with open_source(str(path)) as source:
                list(source.rows())

        return act

    read(10)()
    assert calls(read(4000)) <= MOST * calls(read(2000))


def test_steering_and_looking_grow_as_what_is_named(shop: Shop, road: Road, workspace: UUID) -> None:
    road.take_in([issue(number) for number in range(1, 401)])
    names = [f"acme/widgets#{number}" for number in range(1, 401)]
    with shop.connect(Role.OPERATE) as conn:

        def requeue(count: int) -> None:
            found = select_by_name(conn, workspace, names[:count])
            assert len(found.items) == count
            steering.requeue(conn, workspace, found.items, by="ops", why="", stagger_seconds=60)

        requeue(10)
        requeue(10)
        assert calls(lambda: requeue(400)) <= MOST * calls(lambda: requeue(200))


def test_why_costs_the_same_for_a_long_history(shop: Shop, road: Road, workspace: UUID) -> None:
    road.take_in([issue(1), issue(2)])
    with shop.connect(Role.OPERATE) as conn:
        for name, times in (("acme/widgets#1", 3), ("acme/widgets#2", 100)):
            found = select_by_name(conn, workspace, [name])
            for _ in range(times):
                steering.requeue(conn, workspace, found.items, by="ops", why="again")

        def ask(name: str) -> None:
            with transaction(conn, workspace):
                why(conn, find_item(conn, name))

        ask("acme/widgets#1")
        short = calls(lambda: ask("acme/widgets#1"))
        assert calls(lambda: ask("acme/widgets#2")) <= 1.2 * short
