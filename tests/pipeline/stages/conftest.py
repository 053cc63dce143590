"""A flow whose cell answers as its row says, so that each answer can be taken through the stages from the front."""

from pathlib import Path
from typing import Any

import pytest
from contracts.attempts import CEILINGS, Cause
from contracts.floor import parse_floor
from contracts.lifecycle import Role
from pipeline.floors.publish import publish_cell, publish_floor
from pipeline.startup.compose import Shop
from pipeline.startup.setup import load_registry
from queues.database import Connection
from tests.in_process import Road
from tests.reviews import look

CODE = '''
import json
from workcells.api import Action, Citation, Draft, Escalation, Evidence, NeedInfo, Proposal, Quote, Refusal, cell

@cell
def gate(row, bench):
    """Return what the row says, with what the bench says of earlier attempts in place of `{findings}`."""
    does = json.loads(row["does"])
    kind = does.pop("is", "draft")
    if kind == "raise":
        raise ValueError(does["message"])
    if kind == "nothing":
        return None
    if kind in ("refusal", "question", "escalation"):
        return {"refusal": Refusal, "question": NeedInfo, "escalation": Escalation}[kind](**does)
    evidence = tuple(
        Evidence(claim="it says so", confidence=0.9, source=(Quote if "field" in source else Citation)(**source))
        for source in does.get("evidence", ())
    )
    value = does.get("value", {"note": "fine"})
    if value == "findings":
        value = {"note": " ".join(finding.code for finding in bench.findings) or "none"}
    if kind == "proposal":
        action = {"name": "close", "target": row["id"], "payload": {"state": "closed"}, "precondition": {"state": "open"}}
        action |= does.get("action", {})
        return Proposal(value=value, action=Action(**action), evidence=evidence, confidence=does.get("confidence", 0.9))
    return Draft(value=value, evidence=evidence, confidence=does.get("confidence", 0.9))
'''
CONTRACT = """
contract: gate
version: 1.0.0
summary: Answers as its row says.
takes:
  name: gate_row@1
  schema:
    type: object
    required: [id, revision, body, does]
    properties: {id: {type: string}, revision: {type: string}, title: {type: string}, body: {type: string}, does: {type: string}}
gives:
  name: gate_note@1
  schema:
    type: object
    required: [note]
    additionalProperties: false
    properties: {note: {type: string}, finding: {type: string}}
evidence: {required: EVIDENCE, sources: [SOURCES]}
tools: {allow: [], deny: []}
limits: {seconds: 30, bytes: 300}
uncertainty: {below: 0.5, then: UNCERTAIN}
qa:
  - {check: schema}
  - {check: evidence}
  - {check: rule, name: no_rework, expr: "output.note != 'rework'", code: rule.rework, message: do it again, on_fail: rework}
  - {check: rule, name: no_person, expr: "output.note != 'person'", code: rule.person, message: a person looks, on_fail: person}
  - {check: rule, name: no_refuse, expr: "output.note != 'refuse'", code: rule.refuse, message: not this one, on_fail: refuse}
  - {check: rule, name: no_answer, expr: "output.note != 'unanswerable' || item.nothing.there == 1", code: rule.unanswered, message: cannot say, on_fail: rework}
proposes:
  close:
    depends_on: [state]
    tier: TIER
    payload: {type: object, additionalProperties: false, required: [state], properties: {state: {const: closed}}}
"""
FLOOR = """
floor: 1
pods:
  default: {autonomy: AUTONOMY}
flows:
  gate:
    pod: default
    takes: {shape: json, subject: id, revision: revision}
    index: {title: title, body: body}
    route:
      - {name: odd, when: "row.body == 'odd'", refuse: route.odd}
      - {name: unanswerable, when: "row.body == 'unanswerable' && row.nothing.there == 1", refuse: route.odd}
      - {name: all, cell: gate}
    applier: tracker
"""
REASON = """
SELECT m.reason
  FROM moves m
  JOIN items i ON i.id = m.item_id
  JOIN orders o ON o.id = i.order_id
 WHERE o.subject_key = %s
 ORDER BY m.no DESC
 LIMIT 1
"""


class Gate:
    """The flow `gate`, driven row by row."""

    def __init__(self, shop: Shop, road: Road, admin: Connection, folder: Path) -> None:
        self.shop, self.road, self.admin, self._folder = shop, road, admin, folder

    def put_in_force(
        self, *, evidence: bool = False, sources: str = "quote, item", uncertain: str = "refuse", tier: str = "single",
        autonomy: str = "draft_approve",
    ) -> "Gate":  # fmt: skip
        """Publish the cell under a contract and a floor with these clauses."""
        home = self._folder / "gate"
        home.mkdir(parents=True)
        contract = CONTRACT.replace("EVIDENCE", str(evidence).lower()).replace("SOURCES", sources)
        (home / "cell.py").write_text(CODE, encoding="utf-8")
        (home / "contract.yaml").write_text(contract.replace("UNCERTAIN", uncertain).replace("TIER", tier), encoding="utf-8")
        (home / "soul.md").write_text("# gate\n\nAnswers as its row says.\n", encoding="utf-8")
        self.road.registry = load_registry(self._folder)
        with self.shop.connect(Role.OPERATE) as conn:
            publish_cell(conn, self.road.registry.by_name["gate"], by="test")
            floor = parse_floor(FLOOR.replace("AUTONOMY", autonomy), "floor.yaml")
            publish_floor(conn, self.shop.workspace_id(conn), floor, self.road.registry, by="test")
        return self

    def take(self, key: str = "a", *, body: str = "It says so here.", **does: Any) -> dict[str, Any]:
        """Take in one row, work on it until nothing is due, and return its item as `inspect.items` has it."""
        import json

        self.road.take_in([{"id": key, "revision": "1", "title": key, "body": body, "does": json.dumps(does)}], flow="gate")
        self.road.run()
        return self.item(key)

    def item(self, key: str = "a") -> dict[str, Any]:
        """Return the item of a subject."""
        [item_id] = look(self.admin, "SELECT i.id::text FROM items i JOIN orders o ON o.id = i.order_id WHERE o.subject_key = %s", key)
        return self.road.items(id=item_id)[0]

    def findings(self) -> list[str]:
        """Return the codes of all findings, in the order in which they were made."""
        return look(self.admin, "SELECT code FROM findings ORDER BY fence, id")

    def reason(self, key: str = "a") -> str:
        """Return what the last move of a subject's item says."""
        found: str = look(self.admin, REASON, key)[0]
        return found


@pytest.fixture
def gate(shop: Shop, road: Road, admin: Connection, tmp_path: Path) -> Gate:
    """The flow, not yet in force: a test says under which clauses."""
    return Gate(shop, road, admin, tmp_path / "cells")


def place(item: dict[str, Any]) -> tuple[str, str, str]:
    """Return where an item is and what it waits for."""
    return item["stage"], item["state"], item["reason"] or ""


ROUNDS = {cause: CEILINGS[cause] for cause in (Cause.CONTRACT, Cause.QA)}
"""Attempts that end for a cause before a person is asked."""
