"""kill -9 between the steps of the road: whatever dies, every item ends once and the books add up."""

import signal
from pathlib import Path

from console.benchmarks.reference import lines
from tests.chaos.account import violations
from tests.chaos.plant import Plant, applied_twice, issues_file, seed_tracker

ROWS = 80


def test_killed_between_its_steps_the_road_ends_as_if_undisturbed(plant: Plant, tmp_path: Path) -> None:
    plant.environment["SHOPFLOOR_BATCH"] = "5"
    # A row that comes twice cuts the file into two chunks: the second run goes on behind the first one.
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"".join([*lines(1, 30), *lines(1, 1), *lines(31, ROWS - 30)]))
    for fault in ("intake.chunk_committed:kill", "intake.complete:kill"):
        assert plant.intake(file, "reference", fault=fault).returncode == -signal.SIGKILL
    account = plant.take_in(file, "reference")
    assert (account.rows, account.accepted, account.duplicate, account.resumed_at) == (ROWS + 1, ROWS, 1, ROWS + 1)

    fused = ["claim.committed:kill", "commit.before:kill", "worker.rung:kill"]
    plant.hire("propose-fused", "worker", "--lanes", "propose", faults=fused, mode="fused")
    strict = ["commit.after:kill", "clearance.opened:kill", "doorbell.ring:kill"]
    plant.hire("propose-strict", "worker", "--lanes", "propose", faults=strict, mode="strict")
    applying = ["apply.intent:kill", "apply.sent:kill", "apply.receipt:kill", "archive.finished:kill"]
    plant.hire("apply", "worker", "--lanes", "apply", faults=applying)
    plant.hire("sweeper", "sweeper", faults=["sweep.expired:kill"])
    plant.settle(ROWS, seconds=60)

    assert plant.states() == {"archive/done": ROWS}
    assert violations(plant.admin) == []
    assert [code for post in plant.posts.values() for code in post.deaths] == [-signal.SIGKILL] * 11


def test_an_approved_change_reaches_the_tracker_once_however_often_apply_is_killed(plant: Plant, tmp_path: Path) -> None:
    plant.environment["SHOPFLOOR_BATCH"] = "3"
    seed_tracker(plant.shop.tracker_dir, 12)
    points = ("apply.observed", "apply.intent", "apply.sent", "apply.receipt", "commit.before")
    plant.staff(propose=[[]], apply=[f"{point}:kill" for point in points])
    plant.take_in(issues_file(tmp_path, 12), "issue-sweep")
    plant.settle(24)
    assert plant.approve_all() == 12

    plant.until(lambda: plant.states() == {"archive/done": 24}, seconds=60, what="all closed")

    assert applied_twice(plant.shop.tracker_dir) == []
    assert violations(plant.admin) == []
    assert plant.posts["apply"].deaths == [-signal.SIGKILL] * 5
