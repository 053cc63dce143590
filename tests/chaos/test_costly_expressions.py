"""Rules that one row makes too costly: at every front the row is refused with the reason, and the workers live."""

import json
from pathlib import Path

import pytest
from tests.chaos.account import violations
from tests.chaos.cells import contract_of, put_in_force, serving
from tests.chaos.plant import Plant

COSTLY = "has({0}.tags) && !{0}.tags.all(x, {0}.tags.exists_one(y, y == x))"
LIMIT = "needs more than 5,000,000 steps"
CODE = """
from workcells.api import Draft, cell

@cell
def tagged(item, bench):
    return Draft(value={"item": item["id"]}, confidence=1.0)
"""
CONTRACT = contract_of("tagged", "Looks at tags.", "id: {type: integer}, tags: {type: array, items: {type: string}}")
FLOOR = """
floor: 1
pods:
  bench: {autonomy: full_auto}
flows:
  tagged:
    pod: bench
    takes: {shape: json, subject: id, revision: revision}
    CONTEXT
    route:
      - {name: odd, when: "WHEN", refuse: route.odd}
      - {name: all, cell: tagged}
"""
LANES = "route,cell.tagged,artifact,qa,rework,archive"


def take_in(plant: Plant, folder: Path, *, context: str = "", when: str = "false", rule: str = "true", serves: bool = True) -> None:
    """Put these rules in force, take in a row with 100,000 tags among four others, and serve them."""
    floor = FLOOR.replace("CONTEXT", f'context: "{context}"' if context else "").replace("WHEN", when)
    contract = CONTRACT + f'  - {{check: rule, name: tags, expr: "{rule}", code: tagged.twice, message: a tag is there twice}}\n'
    registry = put_in_force(plant, folder / "cells", "tagged", CODE, contract, floor)
    rows = [{"id": number, "revision": 1, "tags": [f"tag {n}" for n in range(100_000 if number == 3 else 5)]} for number in range(1, 6)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if serves:
        plant.hire("tagged", argv=serving(folder / "cells", LANES), keep=False)
    plant.take_in(folder / "rows.jsonl", "tagged", registry=registry)


def test_a_route_refuses_the_row(plant: Plant, tmp_path: Path) -> None:
    take_in(plant, tmp_path, when=COSTLY.format("row"))
    plant.settle(5)
    assert plant.states() == {"archive/done": 4, "route/refused": 1}
    [(reason,)] = plant.rows("SELECT m.reason FROM moves m JOIN legal_moves l ON l.number = m.legal WHERE l.move = 'refuse'")
    assert LIMIT in reason
    assert plant.posts["tagged"].deaths == []
    assert violations(plant.admin) == []


def test_the_gate_sends_the_row_to_a_person(plant: Plant, tmp_path: Path) -> None:
    take_in(plant, tmp_path, rule="!(" + COSTLY.format("item") + ")")
    plant.settle(5)
    assert plant.states() == {"archive/done": 4, "qa/waiting": 1}
    [(message,)] = plant.rows("SELECT message FROM findings")
    assert message.startswith("the rule has no answer")
    assert LIMIT in message
    assert plant.posts["tagged"].deaths == []


def test_intake_rejects_the_row(plant: Plant, tmp_path: Path) -> None:
    take_in(plant, tmp_path, context=COSTLY.format("row"))
    plant.settle(4)
    [(row_no, code, message)] = plant.rows("SELECT row_no, code, message FROM batch_rows WHERE outcome = 'rejected'")
    assert (row_no, code, LIMIT in message) == (3, "intake.value", True)


@pytest.mark.parametrize("verb", [("items",), ("requeue", "--dry-run"), ("cancel", "--dry-run")])
def test_a_rule_of_a_command_leaves_the_row_out_and_says_so(plant: Plant, tmp_path: Path, verb: tuple[str, ...]) -> None:
    take_in(plant, tmp_path, serves=False)
    told = plant.run(*verb, "--where", "!(" + COSTLY.format("item") + ")", "--jsonl")
    assert told.returncode == 0, told.stderr
    assert len(told.stdout.splitlines()) == 4
    assert "1 of them had no answer and do not match, such as 3" in told.stderr
    assert LIMIT in told.stderr
