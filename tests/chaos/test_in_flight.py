"""Cells that wait for others: many items in flight in one worker, and what happens to them when it is stopped, killed or held up."""

import json
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from contracts.lifecycle import Role
from queues.pauses import pause, resume, scope_of
from tests.chaos.account import violations
from tests.chaos.cells import contract_of, put_in_force, serving
from tests.chaos.plant import Plant, Post
from tests.chaos.slow_server import SlowServer
from workcells.registry import Registry

CODE = """
import os
import urllib.request
from workcells.api import Draft, cell

@cell
def slow(row, bench):
    if row["does"] == "kill":
        os.kill(os.getpid(), 9)
    with urllib.request.urlopen("{url}/" + str(row["id"]), timeout=60) as answer:
        answer.read()
    return Draft(value={{"item": row["id"]}}, confidence=1.0)
"""
FLOOR = """
floor: 1
pods:
  bench: {autonomy: full_auto}
flows:
  slow:
    pod: bench
    takes: {shape: json, subject: id, revision: revision}
    route:
      - {name: all, cell: slow}
"""
LANES = "route,cell.slow,artifact,qa,rework,archive"
DONE = "SELECT count(*) FROM archived_items WHERE state = 'done'"
LEASED = "SELECT count(*) FROM queue WHERE state = 'leased' AND lane = 'cell.slow'"
DEADLINE_SECONDS = 3


@pytest.fixture
def server() -> Iterator[SlowServer]:
    with SlowServer(0.1).serving() as server:
        yield server


class Slow:
    """A flow whose cell asks a slow server, with a worker for it."""

    def __init__(self, plant: Plant, folder: Path, server: SlowServer) -> None:
        self.plant, self.folder, self.cells = plant, folder, folder / "cells"
        contract = contract_of("slow", "Asks a slow server.", "id: {type: integer}, does: {type: string}")
        contract = contract.replace("limits: {seconds: 30", f"waits: true\nlimits: {{seconds: {DEADLINE_SECONDS}")
        self.registry: Registry = put_in_force(plant, self.cells, "slow", CODE.format(url=server.url), contract, FLOOR)

    def take_in(self, numbers: range, *, kill: int = 0) -> None:
        """Take in rows with these numbers; the cell of `kill` kills its process."""
        path = self.folder / f"rows-{numbers.start}.jsonl"
        rows = [{"id": number, "revision": 1, "does": "kill" if number == kill else "ask"} for number in numbers]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.plant.take_in(path, "slow", registry=self.registry)

    def hire(self, name: str = "slow", *, keep: bool = True, **settings: object) -> Post:
        """Start a worker for it."""
        return self.plant.hire(name, argv=serving(self.cells, LANES), keep=keep, **settings)


@pytest.fixture
def slow(plant: Plant, tmp_path: Path, server: SlowServer) -> Slow:
    return Slow(plant, tmp_path, server)


def test_places_are_filled_as_they_come_free_and_no_answer_waits_for_a_slow_neighbour(slow: Slow, plant: Plant, server: SlowServer) -> None:
    server.seconds["1"] = 2.5
    slow.take_in(range(1, 61))
    slow.hire(in_flight=8)
    plant.until(lambda: plant.count(DONE) == 59, seconds=30, what="all but the slow one")
    assert plant.count(LEASED) == 1, "the slow one was claimed first, and is still waited for"
    plant.settle(60)
    assert plant.states() == {"archive/done": 60}
    assert 6 <= server.most_at_once <= 8
    assert Counter(server.asked).most_common(1)[0][1] == 1
    assert plant.count("SELECT count(*) FROM claims WHERE lane = 'cell.slow' AND closed_at IS NULL") == 0
    assert violations(plant.admin) == []


def test_told_to_stop_it_keeps_what_is_answered_and_returns_the_rest(slow: Slow, plant: Plant, server: SlowServer) -> None:
    server.default_seconds = 1.0
    slow.take_in(range(1, 31))
    post = slow.hire(in_flight=10, keep=False)
    plant.until(lambda: len(server.asked) == 10, seconds=30, what="ten in flight")
    post.signal(signal.SIGTERM)
    plant.until(post.has_ended, seconds=20, what="drained")
    assert (post.deaths, len(server.asked)) == ([0], 10)
    assert plant.states() == {"artifact/ready": 10, "workcell/ready": 20}
    slow.hire("other")
    plant.settle(30)
    assert (plant.states(), len(server.asked)) == ({"archive/done": 30}, 30)
    assert violations(plant.admin) == []


def test_a_pause_and_a_limit_hold_at_every_refill(slow: Slow, plant: Plant, server: SlowServer) -> None:
    server.default_seconds = 0.5
    with plant.shop.connect(Role.OPERATE) as conn:
        workspace = plant.shop.workspace_id(conn)
        conn.execute("SELECT set_config('shopfloor.workspace', %s, false)", [str(workspace)])
        conn.execute(
            "INSERT INTO lanes (workspace_id, name, max_active, changed_at, changed_by) VALUES (%s, 'cell.slow', 3, clock(), 'ops')",
            [workspace],
        )
        slow.take_in(range(1, 13))
        slow.hire(in_flight=8)
        plant.until(lambda: len(server.asked) >= 4, seconds=30, what="some have begun")
        pause(conn, workspace, scope_of(conn, workspace, "lane:cell.slow"), by="ops", why="test")
        plant.until(lambda: plant.count(LEASED) == 0, seconds=10, what="those in flight have landed")
        asked = len(server.asked)
        assert asked < 12
        resume(conn, workspace, scope_of(conn, workspace, "lane:cell.slow"), by="ops")
    plant.hire("sweeper", "sweeper")
    plant.settle(12)
    assert (plant.states(), server.most_at_once) == ({"archive/done": 12}, 3)


def test_an_item_that_gets_no_answer_ends_at_its_own_deadline(slow: Slow, plant: Plant, server: SlowServer) -> None:
    server.seconds["2"] = 60
    slow.take_in(range(1, 6))
    post = slow.hire(in_flight=4, keep=False)
    plant.hire("sweeper", "sweeper")
    plant.until(lambda: plant.count(DONE) == 4, seconds=20, what="its neighbours")
    plant.until(lambda: plant.count("SELECT transients FROM queue") == 1, seconds=20, what="given up")
    assert plant.rows("SELECT cause, message FROM attempts WHERE outcome = 'accident'") == [
        ("transient", f"the cell gave no answer within {DEADLINE_SECONDS} s")
    ]
    server.seconds["2"] = 0
    plant.settle(5)
    assert plant.states() == {"archive/done": 5}
    assert not post.has_ended()
    assert violations(plant.admin) == []


def test_a_killed_worker_costs_nobody_more_than_one_attempt(slow: Slow, plant: Plant, server: SlowServer) -> None:
    server.default_seconds = 0.3
    slow.take_in(range(1, 41))
    post = slow.hire(in_flight=16)
    plant.hire("sweeper", "sweeper")
    plant.until(lambda: len(server.asked) >= 16, seconds=30, what="a full worker")
    post.signal(signal.SIGKILL)
    plant.settle(40)
    assert plant.states() == {"archive/done": 40}
    expired = "SELECT count(*) AS n FROM moves m JOIN legal_moves l ON l.number = m.legal WHERE l.move = 'expire' GROUP BY m.item_id"
    assert plant.count(f"SELECT max(n) FROM ({expired}) s") == 1
    assert violations(plant.admin) == []


def test_an_item_that_kills_its_worker_takes_no_innocent_along(slow: Slow, plant: Plant, server: SlowServer) -> None:
    slow.take_in(range(1, 21), kill=7)
    slow.hire(in_flight=20)
    plant.hire("sweeper", "sweeper")
    plant.settle(20, seconds=90)
    assert plant.states() == {"archive/done": 19, "workcell/dead": 1}
    assert violations(plant.admin) == []


def test_what_is_in_flight_survives_the_loss_of_its_connection(slow: Slow, plant: Plant, server: SlowServer) -> None:
    server.default_seconds = 1.0
    slow.take_in(range(1, 21))
    slow.hire(in_flight=10)
    plant.hire("sweeper", "sweeper")
    plant.until(lambda: len(server.asked) >= 10, seconds=30, what="ten in flight")
    plant.admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename LIKE 'shopfloor_propose%'")
    plant.settle(20)
    assert plant.states() == {"archive/done": 20}
    assert violations(plant.admin) == []
