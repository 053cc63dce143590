"""Cells that a storm brings along, and workers that have their code."""

import sys
from pathlib import Path

from contracts.floor import parse_floor
from contracts.lifecycle import Role
from pipeline.floors.publish import publish_cell, publish_floor
from pipeline.startup.setup import load_registry
from tests.chaos.plant import Plant
from workcells.registry import Registry

_WORKER = """
import sys
from pathlib import Path
from contracts.lifecycle import Role
from pipeline.startup import logs
from pipeline.startup.compose import open_shop
from pipeline.startup.setup import load_registry
from pipeline.worker.process import Worker
shop = open_shop(start=False)
logs.configure("info")
raise SystemExit(Worker(shop, Role.PROPOSE, sys.argv[2].split(","), load_registry(Path(sys.argv[1]))).run())
"""


def contract_of(name: str, summary: str, takes: str) -> str:
    """Return the contract of a cell that takes rows of these JSON properties, as YAML, and gives the number of each."""
    return f"""
contract: {name}
version: 1.0.0
summary: {summary}
takes:
  name: {name}_row@1
  schema: {{type: object, required: [id], properties: {{{takes}, revision: {{type: integer}}}}}}
gives:
  name: number@1
  schema: {{type: object, additionalProperties: false, required: [item], properties: {{item: {{type: integer}}}}}}
evidence: {{required: false, sources: [item]}}
tools: {{allow: [], deny: []}}
limits: {{seconds: 30, bytes: 65536}}
uncertainty: {{below: 0.5, then: refuse}}
qa:
  - {{check: schema}}
"""


def put_in_force(plant: Plant, folder: Path, name: str, code: str, contract: str, floor: str) -> Registry:
    """Write a cell below `folder`, publish it and a floor that routes to it, and return the registry that has its code."""
    home = folder / name
    home.mkdir(parents=True)
    (home / "cell.py").write_text(code)
    (home / "contract.yaml").write_text(contract)
    (home / "soul.md").write_text(f"# {name}\n\nI live in a storm.\n")
    (folder / "serve.py").write_text(_WORKER)
    registry = load_registry(folder)
    with plant.shop.connect(Role.OPERATE) as conn:
        publish_cell(conn, registry.by_name[name], by="chaos")
        publish_floor(conn, plant.shop.workspace_id(conn), parse_floor(floor, name), registry, by="chaos")
    return registry


def serving(folder: Path, lanes: str) -> list[str]:
    """Return the command line of a worker with the cells below `folder`."""
    return [sys.executable, "-P", str(folder / "serve.py"), str(folder), lanes]
