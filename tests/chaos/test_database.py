"""A database that lets nobody in for a while, and one in which somebody keeps an old snapshot open."""

import time
from contextlib import closing
from pathlib import Path

from console.benchmarks.reference import write_file
from queues.database import connect
from tests.chaos.account import violations
from tests.chaos.plant import Plant


def test_a_database_that_is_out_of_connections_costs_seconds_and_no_item(plant: Plant, tmp_path: Path) -> None:
    plant.environment["SHOPFLOOR_MODE"] = "strict"
    plant.staff(propose=[[]])
    plant.take_in(write_file(tmp_path / "rows.jsonl", 1, 200), "reference")
    plant.until(lambda: plant.states().get("archive/done", 0) >= 20, seconds=30, what="under way")
    logins = ("shopfloor_propose", "shopfloor_apply", "shopfloor_sweep")
    try:
        for login in logins:
            plant.admin.execute(f"ALTER ROLE {login} CONNECTION LIMIT 0")
        plant.admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ANY (%s)", [list(logins)])
        began = time.monotonic()
        plant.until(lambda: time.monotonic() - began > 3, seconds=10, what="three seconds without")
    finally:
        for login in logins:
            plant.admin.execute(f"ALTER ROLE {login} CONNECTION LIMIT -1")

    assert plant.settle(200, seconds=60) < 40
    assert plant.states() == {"archive/done": 200}
    assert [post.deaths for post in plant.posts.values()] == [[], [], []]
    assert plant.count("SELECT coalesce(sum(transients), 0) FROM queue") == 0
    assert violations(plant.admin) == []


def test_work_goes_on_beside_a_transaction_that_somebody_left_open(plant: Plant, tmp_path: Path) -> None:
    assert plant.shop.services is not None
    plant.staff(propose=[[]])
    plant.take_in(write_file(tmp_path / "first.jsonl", 1, 20), "reference")
    plant.settle(20)
    with closing(connect(plant.shop.services.superuser_url(plant.shop.database))) as other:
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        seen = other.execute("SELECT count(*) FROM queue").fetchone()
        plant.take_in(write_file(tmp_path / "rows.jsonl", 21, 1_000), "reference")
        assert plant.settle(1_020, seconds=60) < 30
        assert other.execute("SELECT count(*) FROM queue").fetchone() == seen
        other.rollback()
    assert plant.states() == {"archive/done": 1_020}
    assert violations(plant.admin) == []
