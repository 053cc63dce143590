"""The inspect views answer by id from an index: an auditor asks them for one item after the other."""

import json
from contextlib import closing
from typing import Any

import pytest
from contracts.lifecycle import Role
from pipeline.startup.compose import Shop
from queues.database import Connection
from tests.in_process import Road, issue, merged

BY_ID = [
    ("items", "id"), ("moves", "item_id"), ("leases", "item_id"), ("attempts", "item_id"), ("artifacts", "item_id"),
    ("proposals", "item_id"), ("proposals", "id"), ("clearances", "id"), ("clearances", "proposal_id"), ("decisions", "id"),
    ("decisions", "clearance_id"), ("decisions", "proposal_id"), ("applies", "proposal_id"), ("batches", "id"),
    ("batch_rows", "batch_id"),
]  # fmt: skip
GROWS = {
    "items", "moves", "attempts", "artifacts", "proposals", "clearances", "decisions", "applies", "batches", "batch_rows", "queue",
    "archived_items", "orders",
}  # fmt: skip
"""Tables with a row or more for each item: none of them, nor a partition, may be read whole."""


def scans(plan: dict[str, Any]) -> set[str]:
    """Return the tables that a plan reads whole, whatever it would look for in them."""
    here = {plan["Relation Name"]} if plan["Node Type"] == "Seq Scan" else set()
    return here.union(*(scans(part) for part in plan.get("Plans", ())))


@pytest.fixture
def audit(shop: Shop, road: Road) -> Any:
    road.take_in([issue(1), merged(2, fixes=1)])
    road.run()
    with closing(shop.connect(Role.AUDIT)) as conn:
        # Tables of a test are one page, which is cheapest to read whole: a plan is asked for that reads no page in vain.
        conn.execute("SET enable_seqscan = off")
        yield conn


@pytest.mark.parametrize(("view", "column"), BY_ID, ids=[f"{view} by {column}" for view, column in BY_ID])
def test_a_view_is_read_by_index_when_an_id_is_given(audit: Connection, view: str, column: str) -> None:
    value = "01993c8e-0000-7000-8000-000000000000"
    row = audit.execute(f"EXPLAIN (FORMAT JSON) SELECT * FROM inspect.{view} WHERE {column} = '{value}'").fetchone()
    assert row is not None
    plan = row[0] if isinstance(row[0], list) else json.loads(row[0])
    tables = {"_".join(name.split("_")[:-2]) if name[-2:].isdigit() else name.removesuffix("_other") for name in scans(plan[0]["Plan"])}
    assert tables & GROWS == set()


def test_a_row_of_an_item_that_does_not_exist_is_shown_without_its_id(audit: Connection, admin: Connection) -> None:
    [(before,)] = audit.execute("SELECT count(*) FROM inspect.moves").fetchall()
    admin.execute("SET session_replication_role = replica")
    admin.execute("DELETE FROM shopfloor.items")
    admin.execute("SET session_replication_role = origin")
    assert audit.execute("SELECT count(*), count(item_id) FROM inspect.moves").fetchall() == [(before, 0)]
