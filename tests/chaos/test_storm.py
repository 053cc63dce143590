"""The long runs: every point, every lane, every server, in seeded schedules. `./shopfloor test --chaos`."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from console.benchmarks.reference import write_file
from contracts.lifecycle import Role
from pipeline.doctor.invariants import check_all
from pipeline.operations.steering import requeue
from queues import schema
from queues.embedded import attach_or_start
from tests.chaos.account import violations
from tests.chaos.cells import contract_of, put_in_force, serving
from tests.chaos.plant import FLOOR, Plant, applied_twice, issues_file, seed_tracker
from tests.chaos.proxy import LossyProxy
from tests.chaos.storm import POINTS_OF_APPLY, POINTS_OF_WORKERS, crew_of, is_up, own_plant, schedule, server, skewed
from tests.chaos.test_broker import feed_garbage

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

QUIESCE_SECONDS = 120


def replay_dead(plant: Plant) -> int:
    """Requeue what the storm buried, as an operator would, and return how many there were."""
    dead = [item for (item,) in plant.rows("SELECT item_id FROM queue WHERE state = 'dead'")]
    if dead:
        with plant.shop.connect(Role.OPERATE) as conn:
            done = requeue(conn, plant.shop.workspace_id(conn), dead, by="ada", why="the storm is over")
        assert not [one.error for one in done if one.error]
    return len(dead)


def replayed(plant: Plant) -> int:
    """Return how many items were ever brought back from the dead."""
    return plant.count("SELECT count(*) FROM inspect.moves WHERE move = 'requeue' AND from_state = 'dead'")


def ends_well(plant: Plant, states: dict[str, int]) -> float:
    """Wait until the line is quiet, replay dead letters, and hold the books to every claim; return the seconds until quiet."""
    items = sum(states.values())
    seconds = plant.settle(items, seconds=QUIESCE_SECONDS)
    if replay_dead(plant):
        plant.settle(items, seconds=QUIESCE_SECONDS)
    assert plant.states() == states
    assert violations(plant.admin) == []
    with plant.shop.connect(Role.AUDIT) as conn:
        broken = [line for one in check_all(conn, plant.shop.store, monitor=plant.admin) for line in one.violations]
    assert broken == []
    return seconds


LANES = ("route", "cell.reference", "artifact", "qa", "archive", "apply.sink")
ONLY_ON = {"clearance.opened": ("qa",), "archive.finished": ("archive", "apply.sink"), "workcell.run": ("cell.reference",)}
"""Points that only some lanes pass; every other one lies on the way of each."""


@pytest.mark.parametrize("action", ["kill", "raise"])
def test_every_point_in_every_lane(tmp_path: Path, action: str) -> None:
    """A worker for each lane, every step committed, and each point armed in a life of its own."""
    with own_plant(tmp_path, mode="strict", batch=3) as plant:
        plant.take_in(write_file(tmp_path / "rows.jsonl", 1, 600), "reference")
        plant.hire("sweeper-1", "sweeper", faults=[f"sweep.expired:{action}"] * 3)
        plant.hire("sweeper-2", "sweeper")
        items = 600
        for lane in LANES:
            mine = [point for point in POINTS_OF_WORKERS if lane in ONLY_ON.get(point, (lane,))]
            mine += POINTS_OF_APPLY if lane.startswith("apply.") else []
            kills = [f"{point}:kill:{1 + k % 3}" for k, point in enumerate(mine)]
            raises = [",".join(f"{point}:raise:{2 + k}" for k, point in enumerate(mine))]
            plant.hire(lane, "worker", "--lanes", lane, faults=kills if action == "kill" else raises)
        plant.settle(items, seconds=QUIESCE_SECONDS)
        # Apply closes what it applied: the archive lane sees little. Without deaths, few leases run out for a sweeper.
        while any(post.faults for name, post in plant.posts.items() if name not in ("archive", "sweeper-1")):
            plant.take_in(write_file(tmp_path / "more.jsonl", items + 1, 60), "reference")
            items += 60
            assert items < 3000, plant.describe()
            plant.settle(items, seconds=QUIESCE_SECONDS)
        seconds = ends_well(plant, {"archive/done": items})
        deaths = {name: len(post.deaths) for name, post in plant.posts.items()}
        print(f"{action}: {items} items, deaths {deaths}, {replayed(plant)} replayed, quiet {seconds} s after the last")


SECOND_TRY = '''
"""Breaks its contract until it is told so."""

from workcells.api import Draft, cell


@cell
def work(item, bench):
    """Give a number, or, the first time, a word."""
    return Draft(value={"item": item["id"] if bench.findings else "one"})
'''
SECOND_TRY_CONTRACT = contract_of("second_try", "Breaks its contract until it is told so.", "id: {type: integer}")
SECOND_TRY_FLOW = """
  second-try:
    pod: bench
    takes: {shape: json, subject: id, revision: revision}
    route:
      - {name: all, cell: second_try}
"""


@pytest.mark.parametrize("action", ["kill", "raise"])
def test_every_point_in_the_rework_lane(tmp_path: Path, action: str) -> None:
    with own_plant(tmp_path, mode="strict", batch=3) as plant:
        cells = tmp_path / "cells"
        registry = put_in_force(plant, cells, "second_try", SECOND_TRY, SECOND_TRY_CONTRACT, FLOOR + SECOND_TRY_FLOW)
        mine = [point for point in POINTS_OF_WORKERS if point not in ONLY_ON]
        faults = [f"{point}:{action}:{1 + k % 3}" for k, point in enumerate(mine)]
        plant.hire("rework", argv=serving(cells, "rework"), faults=faults if action == "kill" else [",".join(faults)])
        plant.hire("others", argv=serving(cells, "route,cell.second_try,artifact,qa,archive"))
        plant.hire("sweeper", "sweeper")
        rows = tmp_path / "rows.jsonl"
        rows.write_text("".join(f'{{"id": {k}, "revision": 1}}\n' for k in range(1, 121)))
        plant.take_in(rows, "second-try", registry=registry)
        ends_well(plant, {"archive/done": 120})
        assert not plant.posts["rework"].faults
        assert plant.rows("SELECT DISTINCT rounds FROM archived_items") == [(1,)]
        assert action == "raise" or len(plant.posts["rework"].deaths) == len(mine)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_seeded_storm_over_both_flows(tmp_path: Path, seed: int) -> None:
    with own_plant(tmp_path, batch=10) as plant:
        seed_tracker(plant.shop.tracker_dir, 40)
        plant.hire("propose-1", "worker", "--lanes", "propose", faults=schedule(seed, POINTS_OF_WORKERS, 6), mode="fused")
        plant.hire("propose-2", "worker", "--lanes", "propose", faults=schedule(seed + 100, POINTS_OF_WORKERS, 6), mode="strict")
        plant.hire(
            "apply", "worker", "--lanes", "apply", faults=schedule(seed + 200, (*POINTS_OF_APPLY, "commit.before", "commit.after"), 8)
        )
        plant.hire("sweeper-1", "sweeper", faults=["sweep.expired:kill", "sweep.expired:kill:2"])
        plant.hire("sweeper-2", "sweeper")
        plant.take_in(issues_file(tmp_path, 40), "issue-sweep")
        plant.take_in(write_file(tmp_path / "rows.jsonl", 1, 400), "reference")
        plant.settle(480, seconds=QUIESCE_SECONDS)
        while replay_dead(plant):
            plant.settle(480, seconds=QUIESCE_SECONDS)
        assert plant.approve_all() == 40
        ends_well(plant, {"archive/done": 480})
        assert applied_twice(plant.shop.tracker_dir) == []


def test_a_broker_stopped_for_a_minute_then_frozen_then_fed_with_garbage(tmp_path: Path) -> None:
    with own_plant(tmp_path, mode="strict", batch=5) as plant:
        plant.staff()
        plant.take_in(write_file(tmp_path / "rows.jsonl", 1, 400), "reference")
        plant.until(lambda: plant.states().get("archive/done", 0) > 20, seconds=60, what="under way")
        server(plant, "valkey").kill()
        began = time.monotonic()
        # Intake goes on without a broker.
        plant.take_in(write_file(tmp_path / "more.jsonl", 401, 50), "reference")
        plant.until(lambda: time.monotonic() - began > 60, seconds=70, what="a minute")
        attach_or_start(plant.shop.data_dir)
        plant.until(lambda: plant.states().get("archive/done", 0) > 60, seconds=60, what="going again")

        frozen = server(plant, "valkey")
        frozen.suspend()
        began = time.monotonic()
        plant.until(lambda: time.monotonic() - began > 10, seconds=30, what="ten seconds")
        frozen.resume()

        import redis

        with redis.Redis.from_url(plant.shop.broker_url) as client:
            feed_garbage(client, plant.shop.database)
        assert [post.deaths for post in plant.posts.values()] == [[]] * len(plant.posts)
        seconds = ends_well(plant, {"archive/done": 450})
        print(f"quiet {seconds} s after the last fault")


def test_postgresql_stopped_at_once_in_the_middle_three_times(tmp_path: Path) -> None:
    with own_plant(tmp_path, mode="strict", batch=5, lease_seconds=6) as plant:
        plant.staff()
        plant.take_in(write_file(tmp_path / "rows.jsonl", 1, 500), "reference")
        for number in range(1, 4):
            plant.until(lambda n=number: plant.states().get("archive/done", 0) > 50 * n, seconds=90, what="under way")
            postmaster = server(plant, "postgres")
            postmaster.send_signal(signal.SIGQUIT)
            postmaster.wait(10)  # until then it may still answer, and would be attached to
            attach_or_start(plant.shop.data_dir)
        seconds = ends_well(plant, {"archive/done": 500})
        print(
            f"quiet {seconds} s after the third stop; {plant.count('SELECT count(*) FROM inspect.moves WHERE move = %s', 'expire')} leases ran out"
        )
        # No worker had to be started again, and no item was held to account for the server's fall.
        assert [post.deaths for post in plant.posts.values()] == [[]] * len(plant.posts)


def test_a_commit_whose_answer_is_lost_is_done_once(tmp_path: Path) -> None:
    with own_plant(tmp_path, mode="strict", batch=10) as plant:
        assert plant.shop.services is not None
        seed_tracker(plant.shop.tracker_dir, 30)
        endpoint = plant.shop.services.postgres
        proxy = LossyProxy(tmp_path / "p", Path(endpoint.host) / f".s.PGSQL.{endpoint.port}", share=0.08, seed=1)
        urls = {}
        for role in (Role.PROPOSE, Role.APPLY):
            url = plant.shop.services.database_url(schema.login(role), plant.shop.database)
            head, _, _ = url.partition("?")
            urls[f"database_url_{role}"] = f"{head}?host={proxy.folder}&port={proxy.PORT}"
        outside = urls | {"broker_url": plant.shop.services.broker_url}
        plant.hire("propose", "worker", "--lanes", "propose", **outside)
        plant.hire("apply", "worker", "--lanes", "apply", **outside)
        plant.hire("sweeper", "sweeper")
        plant.take_in(issues_file(tmp_path, 30), "issue-sweep")
        plant.take_in(write_file(tmp_path / "rows.jsonl", 1, 200), "reference")
        plant.settle(260, seconds=QUIESCE_SECONDS)
        assert plant.approve_all() == 30
        plant.settle(260, seconds=QUIESCE_SECONDS)
        proxy.heal()
        ends_well(plant, {"archive/done": 260})
        assert applied_twice(plant.shop.tracker_dir) == []
        assert proxy.lost > 10
        print(f"{proxy.lost} answers lost, {replayed(plant)} items replayed")
        proxy.close()


def test_workers_whose_clocks_are_an_hour_off_either_way(tmp_path: Path) -> None:
    with own_plant(tmp_path, mode="strict", batch=10) as plant:
        seed_tracker(plant.shop.tracker_dir, 10)
        plant.hire("ahead", argv=[*skewed(3600), "worker", "--lanes", "propose"])
        plant.hire("behind", argv=[*skewed(-3600), "worker", "--lanes", "propose"])
        plant.hire("apply", argv=[*skewed(3600), "worker", "--lanes", "apply"])
        plant.hire("sweeper", argv=[*skewed(-3600), "sweeper"])
        plant.take_in(issues_file(tmp_path, 10), "issue-sweep")
        plant.take_in(write_file(tmp_path / "rows.jsonl", 1, 200), "reference")
        plant.settle(220, seconds=QUIESCE_SECONDS)
        assert plant.approve_all() == 10
        ends_well(plant, {"archive/done": 220})
        assert plant.count("SELECT count(*) FROM moves WHERE abs(extract(epoch FROM at - clock())) > 900") == 0
        assert plant.count("SELECT count(*) FROM queue WHERE crashes > 0") == 0


def test_a_worker_frozen_inside_its_transaction_holds_its_rows_no_longer_than_that_may_last(tmp_path: Path) -> None:
    with own_plant(tmp_path) as plant:
        frozen = plant.hire("frozen", "worker", "--lanes", "propose", faults=["commit.before:freeze"])
        plant.take_in(write_file(tmp_path / "rows.jsonl", 1, 40), "reference")
        plant.until(frozen.is_frozen, seconds=30, what="frozen", tend=False)
        for name, lanes in (("propose", "propose"), ("apply", "apply")):
            plant.hire(name, "worker", "--lanes", lanes)
        plant.hire("sweeper", "sweeper")
        # The server ends a worker's transaction after 30 s; then the leases are long gone.
        assert plant.until(lambda: plant.has_settled(40), seconds=60, what="its rows were let go", tend=False) > 5
        frozen.signal(signal.SIGCONT)
        ends_well(plant, {"archive/done": 40})
        assert frozen.deaths == []


def test_everything_killed_three_times_ends_as_an_undisturbed_run(tmp_path: Path) -> None:
    """`up`, then kill -9 of crew, workers and both servers; `up` again, three times."""
    with own_plant(tmp_path, batch=10, mode="strict") as plant:
        seed_tracker(plant.shop.tracker_dir, 30)
        plant.take_in(issues_file(tmp_path, 30), "issue-sweep")
        plant.take_in(write_file(tmp_path / "rows.jsonl", 1, 300), "reference")
        for number in range(1, 4):
            assert plant.run("up").returncode == 0
            plant.until(lambda n=number: plant.states().get("archive/done", 0) > 60 * n, seconds=QUIESCE_SECONDS, what="under way")
            for process in (*crew_of(plant), server(plant, "postgres"), server(plant, "valkey")):
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    continue
            # The postmaster's children end by themselves when it is gone.
        assert plant.run("up").returncode == 0
        seconds = plant.settle(360, seconds=QUIESCE_SECONDS)
        print(f"quiet {seconds} s after the last `up`")
        while replay_dead(plant):
            plant.settle(360, seconds=QUIESCE_SECONDS)
        assert plant.approve_all() == 30
        ends_well(plant, {"archive/done": 360})
        assert applied_twice(plant.shop.tracker_dir) == []
        assert plant.run("down").returncode == 0


def test_a_crew_that_is_killed_takes_its_workers_along_and_one_that_lives_brings_servers_back(tmp_path: Path) -> None:
    with own_plant(tmp_path) as plant:
        assert plant.run("up").returncode == 0
        plant.until(lambda: plant.count("SELECT count(*) FROM workers WHERE stopped_at IS NULL") == 3, seconds=60, what="three workers")
        server(plant, "postgres").kill()
        server(plant, "valkey").kill()
        plant.until(lambda: plant.count("SELECT 1") == 1 and is_up(plant, "valkey"), seconds=30, what="both servers are back")
        plant.take_in(write_file(tmp_path / "rows.jsonl", 1, 50), "reference")
        plant.settle(50, seconds=60)

        crew = next(process for process in crew_of(plant) if "--foreground" in process.cmdline())
        workers = crew.children()
        assert len(workers) == 4
        os.kill(crew.pid, signal.SIGKILL)
        plant.until(
            lambda: not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in workers),
            seconds=40,
            what="all drained",
        )
