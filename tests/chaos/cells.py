"""Cells that a storm brings along, and workers that have their code."""

import sys
from pathlib import Path

from contracts.floor import parse_floor
from contracts.lifecycle import Role
from pipeline.publish import publish_cell, publish_floor
from pipeline.setup import load_registry
from tests.chaos.plant import Plant
from workcells.registry import Registry

_WORKER = """
import sys
from pathlib import Path
from contracts.lifecycle import Role
from pipeline import logs
from pipeline.compose import open_shop
from pipeline.setup import load_registry
from pipeline.worker import Worker
shop = open_shop(start=False)
logs.configure("info")
raise SystemExit(Worker(shop, Role.PROPOSE, sys.argv[2].split(","), load_registry(Path(sys.argv[1]))).run())
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
