"""A process that stops responding is ended and replaced; one that is merely cut off from the database is not."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from contracts.floor import parse_floor
from contracts.lifecycle import Role
from pipeline.crew.crew import Crew
from pipeline.crew.ends import EndRecorder
from pipeline.crew.liveness import Liveness
from pipeline.crew.member import MemberState, command
from pipeline.crew.separation import Separation
from pipeline.floors.publish import publish_cell, publish_floor
from pipeline.startup.compose import Shop
from pipeline.startup.setup import load_registry
from queues.database import Connection
from tests.chaos.cells import contract_of
from tests.in_process import Road
from tests.reviews import look
from tests.waiting import wait_until

ROOT = Path(__file__).parents[3]
SERVE = """
import sys
from pathlib import Path
from contracts.lifecycle import Role
from pipeline.crew.liveness import report_liveness
from pipeline.startup.compose import open_shop
from pipeline.startup.setup import load_registry
from pipeline.worker.process import Worker
ready = report_liveness()
lanes = ["route", "cell.spinner", "artifact", "qa", "archive"]
raise SystemExit(Worker(open_shop(start=False), Role.PROPOSE, lanes, load_registry(Path(sys.argv[1]))).run(on_ready=ready))
"""
# A catastrophic regular expression: `re` keeps the interpreter to itself until it is done, which is never.
SPINNER = """
import re
from workcells.api import Draft, cell

@cell
def number(row, bench):
    '''Return the number of the row.'''
    if row["id"] == 3:
        re.match("(a+)+$", "a" * 60 + "b")
    return Draft(value={"item": row["id"]})
"""
KILLER = SPINNER.replace('re.match("(a+)+$", "a" * 60 + "b")', "os.kill(os.getpid(), signal.SIGSEGV)").replace(
    "import re", "import os, signal"
)
BURIED_WITH = """
SELECT m.reason
  FROM queue q
  JOIN moves m ON m.item_id = q.item_id AND m.no = q.move_no
 WHERE q.state = 'dead'
"""
FLOOR = """
floor: 1
pods: {bench: {autonomy: full_auto}}
flows:
  spinning:
    pod: bench
    takes: {shape: json, subject: id, revision: revision}
    route: [{name: all, cell: spinner}]
    applier: sink
"""


@pytest.fixture
def environment(shop: Shop) -> dict[str, str]:
    return {
        "SHOPFLOOR_DATA_DIR": str(shop.data_dir), "SHOPFLOOR_DATABASE": shop.database, "SHOPFLOOR_LEASE_SECONDS": "2",
        "SHOPFLOOR_SWEEP_SECONDS": "0.2", "PYTHONPATH": str(ROOT),
    }  # fmt: skip


@pytest.fixture
def crew_of(shop: Shop, tmp_path: Path, environment: dict[str, str]) -> Iterator[Callable[..., Crew]]:
    crews: list[Crew] = []
    ends, stop = EndRecorder(shop), threading.Event()
    ends.start(stop)

    def start(**argv_by_name: list[str]) -> Crew:
        log_dir = tmp_path / "log"
        crew = Crew(
            {name.replace("_", "-"): argv for name, argv in argv_by_name.items()},
            log_dir=log_dir, separation=Separation(shop.settings), environment=environment, silent_seconds=3, on_end=ends.note,
        )  # fmt: skip
        crews.append(crew)
        crew.start()
        return crew

    yield start
    stop.set()
    for crew in crews:
        for pid in crew.pids():
            os.kill(pid, signal.SIGCONT)
        crew.terminate_again()
        crew.stop()


def _with_cell(shop: Shop, road: Road, folder: Path, code: str) -> Path:
    """Put a cell in force whose code is given, and return the folder that it and its worker's program are in."""
    cells = folder / "cells"
    (cells / "spinner").mkdir(parents=True)
    (cells / "spinner" / "cell.py").write_text(code)
    (cells / "spinner" / "contract.yaml").write_text(contract_of("spinner", "Spins.", "id: {type: integer}"))
    (cells / "spinner" / "soul.md").write_text("# spinner\n\nI spin.\n")
    (cells / "serve.py").write_text(SERVE)
    road.registry = load_registry(cells)
    with shop.connect(Role.OPERATE) as conn:
        publish_cell(conn, road.registry.by_name["spinner"], by="test")
        publish_floor(conn, shop.workspace_id(conn), parse_floor(FLOOR, "test"), road.registry, by="test")
    return cells


def check_until(crew: Crew, holds: Callable[[], object], *, seconds: float = 60) -> None:
    def checked() -> object:
        crew.check()
        return holds()

    wait_until(checked, seconds=seconds, what=crew.describe)


def all_ready(crew: Crew) -> bool:
    return all(one["state"] == MemberState.READY for one in crew.describe())


def test_a_step_that_never_returns_to_python_is_ended_and_its_item_is_buried(
    shop: Shop, road: Road, admin: Connection, tmp_path: Path, crew_of: Callable[..., Crew]
) -> None:
    cells = _with_cell(shop, road, tmp_path, SPINNER)
    serve = [sys.executable, "-P", str(cells / "serve.py"), str(cells)]
    crew = crew_of(propose_1=serve, propose_2=serve, sweeper=command("sweeper"))
    first = {member.name: member.current.pid for member in crew.members if member.current}
    check_until(crew, lambda: all_ready(crew))

    road.take_in([{"id": number, "revision": 1} for number in range(1, 7)], flow="spinning")
    check_until(crew, lambda: sorted(row["state"] for row in road.items()) == ["dead", *["done"] * 5])

    check_until(crew, lambda: all_ready(crew) and not crew.problems())
    check_until(crew, lambda: not any(psutil.pid_exists(first[name]) for name in ("propose-1", "propose-2")))
    assert admin.execute("SELECT crashes, lane FROM shopfloor.queue WHERE state = 'dead'").fetchall() == [(3, "cell.spinner")]
    [reason] = look(admin, BURIED_WITH)
    assert reason.startswith("the lease ran out: its worker died or hung")


def test_the_dead_letter_of_a_cell_that_kills_its_process_names_the_signal(
    shop: Shop, road: Road, admin: Connection, tmp_path: Path, crew_of: Callable[..., Crew]
) -> None:
    cells = _with_cell(shop, road, tmp_path, KILLER)
    serve = [sys.executable, "-P", str(cells / "serve.py"), str(cells)]
    crew = crew_of(propose_1=serve, sweeper=command("sweeper"))
    check_until(crew, lambda: all_ready(crew))

    road.take_in([{"id": number, "revision": 1} for number in range(1, 5)], flow="spinning")
    check_until(crew, lambda: sorted(row["state"] for row in road.items()) == ["dead", *["done"] * 3], seconds=90)

    assert look(admin, "SELECT lane FROM queue") == ["cell.spinner"]
    assert look(admin, BURIED_WITH) == ["the lease ran out: its worker died or hung: signal 11 (SIGSEGV)"]


def test_a_frozen_process_does_not_count_as_ready_and_is_replaced(crew_of: Callable[..., Crew]) -> None:
    crew = crew_of(sweeper=command("sweeper"))
    check_until(crew, lambda: all_ready(crew))
    frozen = crew.pids()[0]
    os.kill(frozen, signal.SIGSTOP)

    check_until(crew, lambda: "sweeper does not respond; it is replaced after 3 s" in crew.problems() or crew.pids() != [frozen])
    check_until(crew, lambda: not psutil.pid_exists(frozen) and all_ready(crew))


def test_a_crew_that_stood_still_itself_ends_nobody() -> None:
    liveness = Liveness()
    os.write(liveness.writer, b".r")
    liveness.listen(0.5)
    assert (liveness.is_ready, liveness.silent_seconds) == (True, 0.0)
    liveness.listen(3600.0)  # the machine was suspended for an hour
    assert liveness.silent_seconds == 1.0
    os.write(liveness.writer, b".")
    liveness.listen(0.5)
    assert liveness.silent_seconds == 0.0
    liveness.close_writer()
    liveness.close()
