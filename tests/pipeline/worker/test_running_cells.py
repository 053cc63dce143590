"""What can be seen of a cell while it runs, and after it raised or killed its worker."""

import threading
from pathlib import Path
from typing import Any

import pytest
from contracts.attempts import CEILINGS, Cause
from contracts.lifecycle import Role
from pipeline.startup.compose import Shop
from queues.database import Connection
from tests.in_process import Clock, Road
from tests.reviews import look
from tests.scripted_cells import put_in_force, rows
from tests.waiting import wait_until

WAITS = """
import time
from pathlib import Path
from workcells.api import Draft, cell

@cell
def scripted(row, bench):
    Path({begun!r}).touch()
    deadline = time.monotonic() + 20
    while not Path({ends!r}).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return Draft(value={{"note": "done"}}, confidence=1.0)
"""
RAISES = """
from workcells.api import cell

def deeper(row):
    token = "shf_abcdefghijklmnop"
    raise ValueError(f"cannot read {row['id']}: password=hunter2 at postgresql://me:s3cret@db/x, token {token}" + "\\0")

@cell
def scripted(row, bench):
    return deeper(row)
"""


def test_while_a_cell_runs_its_item_is_in_the_lane_of_the_cell_in_fused_mode_too(
    shop: Shop, road: Road, admin: Connection, tmp_path: Path
) -> None:
    begun, ends = tmp_path / "begun", tmp_path / "ends"
    road.registry = put_in_force(shop, tmp_path / "cells", WAITS.format(begun=str(begun), ends=str(ends)))
    road.take_in(rows(["a"]), flow="scripted")
    worker = road.worker()
    running = threading.Thread(target=worker.run)
    running.start()
    try:
        wait_until(begun.exists, seconds=20)
        assert look(admin, "SELECT stage, state, lane FROM queue") == [("workcell", "leased", "cell.scripted")]
    finally:
        ends.touch()
        running.join()
    assert road.states() == {"archive/done": 1}


def test_the_dead_letter_of_a_cell_that_kills_its_worker_names_the_cell(
    shop: Shop, road: Road, admin: Connection, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        """Ends the worker in the middle of its cell, as a signal would."""

    road.registry = put_in_force(shop, tmp_path / "cells", WAITS.format(begun=str(tmp_path / "begun"), ends=str(tmp_path)))
    road.take_in(rows(["quick"]), flow="scripted")
    road.run()  # the lane is known to be quick from here on
    code = road.registry.by_name["scripted"].code

    def kill(row: Any, bench: Any) -> Any:
        raise KilledError

    monkeypatch.setattr(type(code), "run", lambda _self, row, bench: kill(row, bench))
    road.take_in(rows(["poison"]), flow="scripted")
    for _ in range(CEILINGS[Cause.CRASH]):
        with pytest.raises(KilledError):
            road.worker().run()
        clock.advance(seconds=600)
        road.sweep()
        clock.advance(seconds=600)

    assert look(admin, "SELECT stage, state, lane FROM queue") == [("workcell", "dead", "cell.scripted")]


def test_a_cell_that_raises_leaves_its_traceback_with_the_attempt_and_no_secret_in_it(
    shop: Shop, road: Road, admin: Connection, tmp_path: Path, cli: Any
) -> None:
    road.registry = put_in_force(shop, tmp_path / "cells", RAISES, limits=", attempts: {transient: 1}")
    road.take_in(rows(["a"]), flow="scripted")
    road.run()

    [kept] = look(admin, "SELECT traceback FROM attempts")
    assert "in deeper" in kept
    assert "cell.py" in kept
    assert "ValueError: cannot read a" in kept
    for secret in ("hunter2", "s3cret", "abcdefghijklmnop", "\0"):
        assert secret not in kept
    [reason] = look(admin, "SELECT m.reason FROM queue q JOIN moves m ON m.item_id = q.item_id AND m.no = q.move_no")
    assert "hunter2" not in reason
    for command in (("show", "a"), ("dead", "show", "a")):
        shown = cli(*command)
        assert shown.exit_code == 0, shown.stderr
        assert "in deeper" in shown.stdout
    assert "in deeper" in cli("dead", "show", "a", "--json").json["dead"]["attempts"][0]["traceback"]


def test_a_stage_that_fails_leaves_its_traceback_too(
    shop: Shop, road: Road, admin: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    road.registry = put_in_force(shop, tmp_path / "cells", WAITS.format(begun=str(tmp_path / "begun"), ends=str(tmp_path)))
    road.take_in(rows(["a", "b"]), flow="scripted")

    def fail(*_: Any) -> Any:
        raise RuntimeError("the gate is broken")

    monkeypatch.setattr("pipeline.stages.qa._judge", fail)
    road.worker(Role.PROPOSE).run()

    kept = look(admin, "SELECT traceback FROM attempts WHERE stage = 'qa'")
    assert len(kept) == 2
    assert all(text.rstrip().endswith("RuntimeError: the gate is broken") for text in kept)
