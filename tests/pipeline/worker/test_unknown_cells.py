"""A floor that routes to a cell which running workers do not have: its items wait for one that does, and lose no attempt."""

from pathlib import Path
from typing import Any

from pipeline.startup.compose import Shop
from pipeline.startup.setup import load_registry
from queues.database import Connection
from tests.in_process import Road
from tests.reviews import look
from tests.scripted_cells import put_in_force, rows

CODE = """
from workcells.api import Draft, cell

@cell
def scripted(row, bench):
    return Draft(value={"note": row["id"]}, confidence=1.0)
"""


def test_items_of_a_cell_that_no_worker_has_wait_in_its_lane_until_one_does(
    shop: Shop, road: Road, admin: Connection, tmp_path: Path, cli: Any
) -> None:
    old = load_registry()
    registry = put_in_force(shop, tmp_path / "cells", CODE)
    road.registry = registry
    road.take_in(rows(["a"]), flow="scripted")
    road.registry = old
    worker = road.worker()
    worker.lanes = ["route", "cell.issue_review", "artifact", "qa", "archive"]
    worker.run()

    assert look(admin, "SELECT lane, state, transients, crashes FROM queue") == [("cell.scripted", "ready", 0, 0)]
    assert cli("why", "a", "--json").json["reason"] == "slot"

    fresh = Road(shop, tmp_path, road.mode)
    fresh.registry = registry
    fresh.run()
    assert fresh.states() == {"archive/done": 1}
    fresh.close()
