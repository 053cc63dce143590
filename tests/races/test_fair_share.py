"""Fair share: nobody waits behind the backlog of somebody else."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from contracts.lifecycle import Role
from pipeline.floors.publish import floor_in_force, publish_floor
from pipeline.startup.setup import ensure_workspace, load_registry
from pipeline.worker import fair_share as turns
from pipeline.worker.fair_share import FairShare, take
from queues.database import Connection
from tests.in_process import Road, issue
from tests.reviews import look


@pytest.fixture
def other(road: Road, connect: Any, workspace: UUID) -> UUID:
    """A second workspace, on the same floor."""
    conn = connect(Role.OPERATE)
    made = ensure_workspace(conn, "other")
    publish_floor(conn, made, floor_in_force(conn, workspace).floor, load_registry(), by="test")
    return made


def move_half(admin: Connection, workspace: UUID, count: int) -> None:
    """Let that many queued items belong to another workspace's pod, past every guard: claiming asks the queue row alone."""
    admin.execute("SET session_replication_role = replica")
    for table, key in (("queue", "item_id"), ("items", "id")):
        admin.execute(
            f"UPDATE {table} SET workspace_id = %s WHERE {key} IN (SELECT item_id FROM queue ORDER BY item_id LIMIT %s)", [workspace, count]
        )
    admin.execute(
        "UPDATE orders SET workspace_id = %s WHERE id IN (SELECT order_id FROM items WHERE workspace_id = %s)", [workspace, workspace]
    )
    admin.execute("UPDATE queue SET pod_id = (SELECT id FROM pods WHERE workspace_id = %s) WHERE workspace_id = %s", [workspace, workspace])
    admin.execute("SET session_replication_role = origin")


def test_who_comes_new_gets_a_turn_before_the_backlog_of_another_is_done(
    road: Road, admin: Connection, workspace: UUID, other: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_REFRESH_SECONDS", 0.0)
    road.take_in([issue(number) for number in range(1, 61)])
    worker, mine = road.worker(), FairShare()

    def claimed() -> set[UUID]:
        return {item.workspace_id for item in take(worker.context, mine, worker.id, worker.name, "route", batch=10, seconds=30).claim.items}

    assert claimed() == {workspace}
    assert claimed() == {workspace}
    move_half(admin, other, 45)  # of which twenty are claimed already
    assert claimed() == {workspace, other}


def test_a_workspace_with_many_pods_gets_no_more_than_one_with_a_single_one(
    road: Road, admin: Connection, workspace: UUID, other: UUID
) -> None:
    road.take_in([issue(number) for number in range(1, 201)])
    move_half(admin, other, 100)
    admin.execute("SET session_replication_role = replica")
    for _ in range(20):
        pod = uuid4()
        admin.execute("INSERT INTO pods (id, workspace_id, name) VALUES (%s, %s, %s)", [pod, workspace, f"pod-{pod.hex[:8]}"])
        admin.execute(
            "UPDATE queue SET pod_id = %s WHERE item_id IN (SELECT item_id FROM queue q JOIN pods p ON p.id = q.pod_id "
            "WHERE q.workspace_id = %s AND p.name = 'maintainers' LIMIT 4)",
            [pod, workspace],
        )
    admin.execute("SET session_replication_role = origin")
    worker, mine = road.worker(), FairShare()
    counts: dict[UUID, int] = {workspace: 0, other: 0}
    for _ in range(4):
        for item in take(worker.context, mine, worker.id, worker.name, "route", batch=32, seconds=30).claim.items:
            counts[item.workspace_id] += 1
    assert counts[other] >= counts[workspace]
    assert look(admin, "SELECT count(DISTINCT pod_id) > 16 FROM queue WHERE state = 'leased'") == [True]
