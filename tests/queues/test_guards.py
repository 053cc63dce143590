"""Guards of the queue and its history: not even the superuser changes a state without the move that says so."""

from typing import Any

import psycopg
import pytest
from queues.database import Connection, pin_plans
from tests.in_process import Road, issue

CONTINUE = """
INSERT INTO moves (item_id, workspace_id, at, no, fence, legal, actor)
SELECT item_id, workspace_id, clock(), no + %s, fence + %s, %s, 'test' FROM moves WHERE item_id = %s ORDER BY no DESC LIMIT 1
"""
CLAIM_ROUTE, RETRY_ROUTE = 20, 21


@pytest.fixture
def item(road: Road, admin: Connection) -> Any:
    """An item that is ready to be routed."""
    road.take_in([issue(1), issue(2)])
    row = admin.execute("SELECT item_id FROM queue WHERE stage = 'route' AND state = 'ready' LIMIT 1").fetchone()
    assert row is not None
    return row[0]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE queue SET state = 'waiting', wait = 'human', ready_lane = NULL WHERE item_id = %s",
        "UPDATE queue SET stage = 'archive' WHERE item_id = %s",
        "UPDATE queue SET move_no = move_no + 1 WHERE item_id = %s",
        "UPDATE queue SET fence = fence + 1 WHERE item_id = %s",
        "DELETE FROM queue WHERE item_id = %s",
    ],
)
def test_a_queue_row_says_what_its_history_says(change: str, item: Any, admin: Connection) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        admin.execute(change, [item])


@pytest.mark.parametrize(
    ("count", "fence", "legal"),
    [
        (2, 1, CLAIM_ROUTE),  # a number is left out
        (1, 0, CLAIM_ROUTE),  # a lease without a new fence
        (1, 2, CLAIM_ROUTE),  # a fence is left out
        (1, 0, RETRY_ROUTE),  # it is not leased
    ],
)
def test_a_move_continues_the_history_of_its_item(count: int, fence: int, legal: int, item: Any, admin: Connection) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="does not continue its history"):
        admin.execute(CONTINUE, [count, fence, legal, item])


def test_a_row_whose_history_went_on_without_it_cannot_be_touched(item: Any, admin: Connection) -> None:
    admin.execute(CONTINUE, [1, 1, CLAIM_ROUTE, item])
    with pytest.raises(psycopg.errors.CheckViolation, match="would be where its history does not put it"):
        admin.execute("UPDATE queue SET priority = 1 WHERE item_id = %s", [item])


def test_an_item_is_filed_under_its_last_move_alone(item: Any, admin: Connection) -> None:
    filed = (
        "INSERT INTO archived_items (item_id, workspace_id, order_id, pod_id, fence, move_no, stage, state, lane, flow, archived_at) "
        "SELECT item_id, workspace_id, order_id, pod_id, fence, move_no, 'archive', 'done', lane, flow, clock() FROM queue WHERE item_id = %s"
    )
    with pytest.raises(psycopg.errors.CheckViolation, match="left the queue without its final move"), admin.transaction():
        admin.execute(filed, [item])
        admin.execute("DELETE FROM queue WHERE item_id = %s", [item])


def test_a_guard_never_reads_all_of_history(road: Road, admin: Connection) -> None:
    road.take_in([issue(number) for number in range(1, 301)])
    admin.execute(
        "INSERT INTO moves SELECT gen_random_uuid(), workspace_id, NULL, clock(), 1, 0, 1, 'test', '' "
        "FROM moves CROSS JOIN generate_series(1, 50) LIMIT 20000"
    )
    pin_plans(admin)
    with admin.transaction():
        before = returned(admin)
        admin.execute("UPDATE queue SET priority = 1 WHERE stage = 'route'")
        assert returned(admin) - before < 300 * 5


def returned(admin: Connection) -> int:
    """Return how many rows and index entries of `moves` this transaction has read."""
    row = admin.execute(
        "SELECT sum(pg_stat_get_xact_tuples_returned(c.oid)) FROM pg_class c WHERE c.relname LIKE 'moves%' AND c.relkind IN ('r', 'i')"
    ).fetchone()
    assert row is not None
    return int(row[0])
