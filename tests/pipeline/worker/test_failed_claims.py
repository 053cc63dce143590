"""A claim that fails on our side: what it held is counted, isolated, and never comes round for ever."""

from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from contracts.attempts import CEILINGS, Cause
from contracts.lifecycle import Role
from pipeline.stages.context import StageContext
from pipeline.startup.compose import Shop
from pipeline.worker.advance import Mode
from pipeline.worker.fair_share import FairShare, take
from pipeline.worker.process import Worker
from queues import workers
from queues.database import Connection, is_connection_error
from tests.in_process import Clock, Road
from tests.reviews import look
from tests.scripted_cells import put_in_force, rows

CODE = """
from workcells.api import Draft, cell

@cell
def scripted(row, bench):
    return Draft(value={"note": row["id"]}, confidence=1.0)
"""
BEYOND_PYTHON = "timestamptz '10000-01-01 23:58:59Z'"


@pytest.fixture
def worker(shop: Shop, road: Road, tmp_path: Path) -> Worker:
    """A worker that answers rings when the test says so, with a cell that does what it should."""
    road.registry = put_in_force(shop, tmp_path / "cells", CODE)
    made = Worker(shop, Role.PROPOSE, ["route", "cell.scripted", "artifact", "qa", "archive"], road.registry)
    with shop.connect(Role.PROPOSE) as conn:
        workers.register(conn, made.id, name=made.name, host="here", pid=1, lanes=list(made.lanes), runs=road.registry.hashes)
    return made


def serve(worker: Worker, clock: Clock, times: int) -> None:
    """Ring every lane so often, far enough apart for each backoff to end."""
    for _ in range(times):
        for lane in worker.lanes:
            worker._on_ring(lane)
        clock.advance(seconds=600)
    worker._drop_context()


def test_a_claim_that_cannot_be_loaded_is_counted_and_its_items_end_at_the_ceiling_of_crashes(
    worker: Worker, road: Road, admin: Connection, clock: Clock
) -> None:
    road.take_in(rows(f"poison-{n}" for n in range(5)), flow="scripted")
    admin.execute(f"UPDATE batches SET as_of = {BEYOND_PYTHON}")  # as it once could be taken in
    road.take_in(rows(f"good-{n}" for n in range(5)), flow="scripted")

    serve(worker, clock, 30)

    ends = dict(look(admin, "SELECT o.subject_key, coalesce(q.state, o.state) FROM orders o LEFT JOIN queue q ON q.order_id = o.id"))
    assert {state for key, state in ends.items() if key.startswith("good")} == {"done"}, ends
    assert {state for key, state in ends.items() if key.startswith("poison")} == {"dead"}, ends
    most = max(look(admin, "SELECT count(*) FROM moves GROUP BY item_id"))
    assert most <= 2 + 2 * CEILINGS[Cause.CRASH] + 6
    [reason] = set(look(admin, "SELECT m.reason FROM queue q JOIN moves m ON m.item_id = q.item_id AND m.no = q.move_no"))
    assert reason.startswith("the worker failed outside any step: ")


def test_a_claim_that_fails_for_one_item_spoils_one_round_of_the_others(
    worker: Worker, road: Road, admin: Connection, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    road.take_in(rows(f"k-{n}" for n in range(20)), flow="scripted")
    [poison] = look(admin, "SELECT i.id FROM items i JOIN orders o ON o.id = i.order_id WHERE o.subject_key = 'k-7'")
    whole = StageContext.take_in

    def take_in(self: Any, claim: Any, reading: Any) -> Any:
        if any(item.item_id == poison for item in claim.items):
            raise RuntimeError("cannot be loaded")
        return whole(self, claim, reading)

    monkeypatch.setattr(StageContext, "take_in", take_in)
    serve(worker, clock, 40)

    ends = dict(look(admin, "SELECT o.subject_key, coalesce(q.state, o.state) FROM orders o LEFT JOIN queue q ON q.order_id = o.id"))
    assert ends.pop("k-7") == "dead"
    assert set(ends.values()) == {"done"}
    innocent = look(admin, "SELECT DISTINCT count(*) FROM moves m JOIN legal_moves l ON l.number = m.legal WHERE l.move = 'retry' AND m.item_id <> %s GROUP BY m.item_id", poison)  # fmt: skip
    assert innocent == [1]


@pytest.mark.parametrize(
    ("error", "is_outage"),
    [
        (psycopg.OperationalError("server closed the connection unexpectedly"), True),
        (psycopg.InterfaceError("the connection is closed"), True),
        (psycopg.errors.AdminShutdown(), True),
        (psycopg.errors.DiskFull(), True),
        (psycopg.errors.DeadlockDetected(), True),
        (psycopg.errors.ProgramLimitExceeded(), False),
        (psycopg.errors.QueryCanceled(), False),
        (psycopg.errors.NumericValueOutOfRange(), False),
        (psycopg.errors.PipelineAborted(), False),
        (psycopg.DataError("timestamp too large (after year 10K)"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_outage_is_told_apart_from_a_statement_that_failed(error: Exception, is_outage: bool) -> None:
    assert is_connection_error(error) is is_outage


@pytest.mark.parametrize("limit", ["crash", "transient"])
def test_the_contracts_own_ceiling_holds_wherever_an_attempt_fails(
    limit: str, shop: Shop, road: Road, admin: Connection, clock: Clock, tmp_path: Path, workspace: UUID
) -> None:
    code = CODE.replace("    return Draft", "    raise ValueError(row['id'])\n    return Draft") if limit == "transient" else CODE
    road.registry = put_in_force(shop, tmp_path / "cells", code, limits=f", attempts: {{{limit}: 1}}")
    road.mode = Mode.STRICT
    road.take_in(rows(["a"]), flow="scripted")
    inline = road.worker()
    inline.lanes = ["route"]
    inline.run()
    if limit == "transient":
        inline.lanes = ["cell.scripted"]
        inline.run()
    else:
        taken = take(inline.context, FairShare(), inline.id, inline.name, "cell.scripted", batch=10, seconds=30)
        assert len(taken.claim.items) == 1
        clock.advance(seconds=31)
        road.sweep()

    assert look(admin, "SELECT state FROM queue") == ["dead"]
    [ceiling] = look(admin, "SELECT DISTINCT ceiling FROM inspect.attempts WHERE cause = %s", limit)
    assert ceiling == 1
