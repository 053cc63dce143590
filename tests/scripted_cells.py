"""Cells that a test writes itself: published, routed to, and run by the code that it gives."""

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from uuid import UUID

from contracts.floor import parse_floor
from contracts.lifecycle import Role
from pipeline.floors.publish import floor_in_force, publish_cell, publish_floor
from pipeline.startup.compose import Shop
from pipeline.startup.setup import load_registry
from pipeline.worker.inline import InlineWorker
from tests.in_process import Road
from workcells.registry import Registry

DRAFTS = """
from workcells.api import Draft, cell

@cell
def scripted(row, bench):
    return Draft(value={"note": "done"}, confidence=1.0)
"""
CONTRACT = """
contract: {name}
version: 1.0.0
summary: Does what the test says.
takes:
  name: {name}_row@1
  schema: {{type: object, required: [id], properties: {{id: {{type: string}}, revision: {{type: string}}, does: {{type: string}}}}}}
gives:
  name: {name}_note@1
  schema: {{type: object, additionalProperties: false, required: [note], properties: {{note: {{type: string}}}}}}
evidence: {{required: false, sources: [item]}}
tools: {{allow: [], deny: []}}
limits: {{seconds: 30, bytes: 65536{limits}}}
uncertainty: {{below: 0.5, then: refuse}}
qa:
  - {{check: schema}}
"""
FLOOR = """
floor: 1
pods:
  default: {{autonomy: draft_approve}}
flows:
  {name}:
    pod: default
    takes: {{shape: json, subject: id, revision: revision}}
    route:
      - {{name: all, cell: {name}}}
"""


def put_in_force(shop: Shop, folder: Path, code: str, *, name: str = "scripted", limits: str = "", flow: str = "") -> Registry:
    """Write a cell under `folder`, publish it with a floor whose flow of the same name routes to it, and return its registry.

    `limits` is added to the limits of its contract, `flow` to its flow.
    """
    home = folder / name
    home.mkdir(parents=True)
    (home / "cell.py").write_text(code, encoding="utf-8")
    (home / "contract.yaml").write_text(CONTRACT.format(name=name, limits=limits), encoding="utf-8")
    (home / "soul.md").write_text(f"# {name}\n\nDoes what a test says.\n", encoding="utf-8")
    registry = load_registry(folder)
    with shop.connect(Role.OPERATE) as conn:
        publish_cell(conn, registry.by_name[name], by="test")
        publish_floor(conn, shop.workspace_id(conn), parse_floor(FLOOR.format(name=name) + flow, "floor.yaml"), registry, by="test")
    return registry


def rows(keys: Iterable[str], **fields: str) -> list[dict[str, str]]:
    """Return rows for the flow of a scripted cell, one a key."""
    return [{"id": key, "revision": "1", **fields} for key in keys]


def strand(road: Road, workspace: UUID, folder: Path) -> None:
    """Bring an item into the lane of a cell, and then put a floor in force that does not use that cell."""
    shop, ours = road.shop, road.registry
    with shop.connect(Role.OPERATE) as conn:
        floor = floor_in_force(conn, workspace).floor
        road.registry = put_in_force(shop, folder / "cells", DRAFTS)
        road.take_in(rows(["a"]), flow="scripted")
        with closing(InlineWorker(shop, Role.PROPOSE, ["route"], road.registry)) as worker:
            assert worker.run() == 1
        road.registry = ours
        publish_floor(conn, workspace, floor, ours, by="test")
