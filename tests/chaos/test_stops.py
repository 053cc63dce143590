"""Workers that freeze, drain, hang or meet a poison item; a line that is paused."""

import signal
import time
from pathlib import Path

import pytest
from console.benchmarks.reference import write_file
from contracts.lifecycle import Role
from queues.pauses import pause, resume, scope_of
from tests.chaos.account import violations
from tests.chaos.cells import contract_of, put_in_force, serving
from tests.chaos.plant import FLOOR, Plant, applied_twice, issues_file, seed_tracker

LEASED = "SELECT count(*) FROM queue WHERE state = 'leased'"


def test_a_worker_that_thaws_after_its_lease_changes_nothing_and_works_on(plant: Plant, tmp_path: Path) -> None:
    frozen = plant.hire("frozen", "worker", "--lanes", "propose", faults=["step.ran:freeze"])
    plant.take_in(write_file(tmp_path / "rows.jsonl", 1, 40), "reference")
    plant.until(frozen.is_frozen, seconds=30, what="frozen with a batch in hand", tend=False)

    plant.hire("propose", "worker", "--lanes", "propose")
    plant.hire("apply", "worker", "--lanes", "apply")
    plant.hire("sweeper", "sweeper")
    plant.until(lambda: plant.has_settled(40), seconds=30, what="the others did its work", tend=False)
    assert plant.states() == {"archive/done": 40}
    assert violations(plant.admin) == []

    done = plant.rows("SELECT max(at), count(*) FROM moves")
    frozen.signal(signal.SIGCONT)
    plant.until(
        lambda: frozen.log.read_text().count("worker.ready") == 1 and "claim.late" in frozen.log.read_text(),
        seconds=20,
        what="it said that it was late",
    )
    assert plant.rows("SELECT max(at), count(*) FROM moves") == done
    other = plant.posts["propose"]
    other.keep = False
    other.signal(signal.SIGTERM)
    plant.until(other.has_ended, seconds=30, what="only the thawed one serves")
    plant.take_in(write_file(tmp_path / "more.jsonl", 41, 5), "reference")
    plant.settle(45)
    assert plant.states() == {"archive/done": 45}
    assert frozen.deaths == []


def test_an_apply_worker_that_thaws_before_its_call_does_not_call(plant: Plant, tmp_path: Path) -> None:
    seed_tracker(plant.shop.tracker_dir, 3)
    plant.staff(propose=[[]], apply=["apply.intent:freeze"])
    plant.take_in(issues_file(tmp_path, 3), "issue-sweep")
    plant.settle(6)
    assert plant.approve_all() == 3
    frozen = plant.posts["apply"]
    plant.until(frozen.is_frozen, seconds=30, what="frozen after its intents", tend=False)
    plant.hire("apply-2", "worker", "--lanes", "apply")
    plant.until(lambda: plant.states() == {"archive/done": 6}, seconds=30, what="the other one applied", tend=False)
    before = {path: path.read_bytes() for path in plant.shop.tracker_dir.rglob("*.json")}
    moves = plant.count("SELECT count(*) FROM moves")

    frozen.signal(signal.SIGCONT)
    frozen.signal(signal.SIGTERM)
    frozen.keep = False
    plant.until(frozen.has_ended, seconds=30, what="thawed, found its lease lost, and drained")

    assert {path: path.read_bytes() for path in plant.shop.tracker_dir.rglob("*.json")} == before
    assert plant.count("SELECT count(*) FROM moves") == moves
    assert applied_twice(plant.shop.tracker_dir) == []
    assert violations(plant.admin) == []


def test_a_worker_drains_on_sigterm_and_leaves_nothing_leased(plant: Plant, tmp_path: Path) -> None:
    post = plant.hire("propose", "worker", "--lanes", "propose", keep=False, mode="strict")
    plant.take_in(write_file(tmp_path / "rows.jsonl", 1, 300), "reference")
    plant.until(lambda: plant.count("SELECT count(*) FROM moves") > 400, seconds=30, what="in the middle of it")
    post.signal(signal.SIGTERM)
    seconds = plant.until(post.has_ended, seconds=30, what="drained")
    assert post.process is None
    assert post.deaths == [0]
    assert seconds < 10
    assert plant.count(LEASED) == 0
    assert plant.count("SELECT count(*) FROM claims WHERE closed_at IS NULL") == 0
    assert plant.count("SELECT count(*) FROM workers WHERE stopped_at IS NULL") == 0


def test_a_worker_that_is_told_to_stop_while_it_starts_leaves_nobody_behind(plant: Plant) -> None:
    for _ in range(3):
        post = plant.hire("propose", "worker", "--lanes", "propose", keep=False)
        plant.until(
            lambda: plant.count("SELECT count(*) FROM workers WHERE stopped_at IS NULL") == 1, seconds=30, what="registered", tend=False
        )
        post.signal(signal.SIGTERM)
        plant.until(post.has_ended, seconds=30, what="ended")
        assert plant.count("SELECT count(*) FROM workers WHERE stopped_at IS NULL") == 0


def test_a_second_sigterm_stops_a_worker_at_once(plant: Plant, tmp_path: Path) -> None:
    post = plant.hire("propose", "worker", "--lanes", "propose", keep=False, faults=["workcell.run:hang:3"])
    plant.take_in(write_file(tmp_path / "rows.jsonl", 1, 5), "reference")
    plant.until(lambda: plant.count(LEASED) == 5, seconds=30, what="hanging")
    post.signal(signal.SIGTERM)
    plant.until(lambda: "worker.draining" in post.log.read_text(), seconds=10, what="draining")
    assert not post.has_ended()
    post.signal(signal.SIGTERM)
    assert plant.until(post.has_ended, seconds=2, what="gone") < 1
    assert post.deaths == [128 + signal.SIGTERM]


def test_a_pause_holds_within_five_seconds_even_for_lanes_that_are_served_in_memory(plant: Plant, tmp_path: Path) -> None:
    plant.staff(propose=[[]])
    plant.take_in(write_file(tmp_path / "rows.jsonl", 1, 20), "reference")
    plant.settle(20)
    with plant.shop.connect(Role.OPERATE) as conn:
        workspace = plant.shop.workspace_id(conn)
        pause(conn, workspace, scope_of(conn, workspace, "cell:reference"), why="test", by="ada")
    asked = time.monotonic()
    plant.take_in(write_file(tmp_path / "more.jsonl", 21, 40), "reference")
    plant.until(lambda: plant.states() == {"archive/done": 20, "workcell/ready": 40}, seconds=30, what="all before the paused lane")
    assert plant.count("SELECT count(*) FROM inspect.items WHERE reason = 'paused'") == 40

    assert time.monotonic() - asked < 30
    with plant.shop.connect(Role.OPERATE) as conn:
        resume(conn, workspace, scope_of(conn, workspace, "cell:reference"), by="ada")
    assert plant.settle(60) < 10
    assert plant.states() == {"archive/done": 60}


POISON = '''"""Dies, forks or grows on some items."""

import os
import signal

from workcells.api import Draft, cell


@cell
def work(item, bench):
    """Take the whole process down, double it, or fill it, when the text says so."""
    if "poison" in item["body"]:
        os.kill(os.getpid(), signal.SIGKILL)
    if "fork" in item["body"] and os.fork() == 0:
        return Draft(value={"item": -1})
    if "hunger" in item["body"]:
        hoard = [b"x" * 2**24 for _ in range(2**20)]
    return Draft(value={"item": item["id"]})
'''
POISON_CONTRACT = contract_of("fragile", "Dies on some items.", "id: {type: integer}, body: {type: string}")
FRAGILE_FLOW = """
  fragile:
    pod: bench
    takes: {shape: json, subject: id, revision: revision}
    route:
      - {name: all, cell: fragile}
"""


def _feed(plant: Plant, folder: Path, bad: str) -> None:
    """Serve thirty rows, of which the seventh is bad."""
    registry = put_in_force(plant, folder / "cells", "fragile", POISON, POISON_CONTRACT, FLOOR + FRAGILE_FLOW)
    for number in (1, 2):
        plant.hire(f"propose-{number}", argv=serving(folder / "cells", "route,cell.fragile,artifact,qa,rework,archive"), memory_mb=512)
    plant.hire("sweeper", "sweeper")
    rows = folder / "rows.jsonl"
    rows.write_text("".join(f'{{"id": {k}, "revision": 1, "body": "{bad if k == 7 else "bread"}"}}\n' for k in range(1, 31)))
    plant.take_in(rows, "fragile", registry=registry)


def test_an_item_that_kills_its_worker_is_buried_alone_and_its_neighbours_finish(plant: Plant, tmp_path: Path) -> None:
    _feed(plant, tmp_path, "poison")

    plant.settle(30, seconds=60)

    assert plant.states() == {"archive/done": 29, "workcell/dead": 1}
    assert plant.rows("SELECT o.subject_key, q.crashes FROM queue q JOIN orders o ON o.id = q.order_id") == [("7", 3)]
    assert [code for post in plant.posts.values() for code in post.deaths] == [-signal.SIGKILL] * 3
    assert violations(plant.admin) == []


def test_what_an_item_forks_off_its_worker_does_nothing(plant: Plant, tmp_path: Path) -> None:
    _feed(plant, tmp_path, "fork")

    plant.settle(30, seconds=60)

    assert plant.states() == {"archive/done": 30}
    assert plant.count("SELECT count(*) FROM bodies WHERE bytes = %s", b'{"item":-1}') == 0
    assert [code for post in plant.posts.values() for code in post.deaths] == []
    assert "worker.forked" in "".join(post.log.read_text() for post in plant.posts.values())
    assert violations(plant.admin) == []


def test_an_item_that_eats_all_memory_fails_alone(plant: Plant, tmp_path: Path) -> None:
    _feed(plant, tmp_path, "hunger")

    tried = "SELECT count(*) FROM queue WHERE state = 'ready' AND transients >= 2"
    plant.until(lambda: plant.states().get("archive/done") == 29 and plant.count(tried) == 1, seconds=60, what="29 done, one tried twice")

    assert plant.count("SELECT count(*) FROM attempts WHERE cause = 'transient' AND starts_with(message, 'MemoryError')") >= 2
    assert plant.count("SELECT count(*) FROM attempts WHERE cause = 'crash'") == 0
    assert [code for post in plant.posts.values() for code in post.deaths] == []
    plant.until(lambda: plant.run("cancel", "7").returncode == 0, seconds=20, what="cancelled between two attempts")
    assert violations(plant.admin) == []


SLOW = '''"""Takes its time."""

import time

from workcells.api import Draft, cell


@cell
def work(item, bench):
    """Take as long as a model would."""
    time.sleep(0.7)
    return Draft(value={"item": item["id"]})
'''
SLOW_CONTRACT = contract_of("fragile", "Takes its time.", "id: {type: integer}")


def test_a_worker_with_slow_work_drains_in_time_and_returns_what_it_has_not_begun(plant: Plant, tmp_path: Path) -> None:
    registry = put_in_force(plant, tmp_path / "cells", "fragile", SLOW, SLOW_CONTRACT, FLOOR + FRAGILE_FLOW)
    # Time for ten items, and none hangs: a claim of many is no reason to take its worker for stuck.
    post = plant.hire("slow", argv=serving(tmp_path / "cells", "route,cell.fragile,artifact,qa,rework,archive"), keep=False, step_seconds=7)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f'{{"id": {k}, "revision": 1}}\n' for k in range(1, 101)))
    plant.take_in(rows, "fragile", registry=registry)
    plant.until(lambda: plant.states().get("archive/done", 0) >= 12, seconds=40, what="at its own pace, and each group committed")

    post.signal(signal.SIGTERM)
    seconds = plant.until(post.has_ended, seconds=30, what="drained")

    assert seconds < 6
    assert post.deaths == [0]
    assert plant.count(LEASED) == 0
    assert plant.count("SELECT count(*) FROM claims WHERE closed_at IS NULL") == 0
    assert plant.count("SELECT coalesce(sum(crashes + transients), 0) FROM queue") == 0
    assert "worker.hung" not in post.log.read_text()


@pytest.mark.chaos
def test_what_cannot_be_waited_for_is_given_back_before_the_worker_ends(plant: Plant, tmp_path: Path) -> None:
    post = plant.hire("propose", "worker", "--lanes", "propose", keep=False, faults=["workcell.run:hang:3"])
    plant.take_in(write_file(tmp_path / "rows.jsonl", 1, 5), "reference")
    plant.until(lambda: plant.count(LEASED) == 5, seconds=30, what="hanging")
    post.signal(signal.SIGTERM)

    seconds = plant.until(post.has_ended, seconds=40, what="drained")

    assert seconds <= 30
    assert post.deaths == [0]
    assert plant.count(LEASED) == 0
    assert plant.count("SELECT sum(crashes + transients) FROM queue") == 0
