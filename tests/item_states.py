"""Items brought by hand to where a test needs them: leased by nobody, waiting for a person, buried, half applied."""

from typing import Any
from uuid import UUID, uuid4

from contracts.attempts import Cause
from contracts.lifecycle import Stage, State, Wait, move
from queues.database import Connection, transaction
from queues.mover import Planned, Route, perform
from tests.in_process import Road, issue
from tests.reviews import item_of, look

_STANDS = "SELECT fence, stage, state, lane FROM queue WHERE item_id = %s"


def push(admin: Connection, item: UUID, name: str, *, note: str = "", **route: Any) -> None:
    """Record one legal move of an item within its stage, as the stage itself would."""
    with transaction(admin, None):
        [(fence, stage, state, lane)] = look(admin, _STANDS, item)
        step = move(name, Stage(stage), State(state))
        moved = perform(admin, [Planned(item, fence, Route((step,), lane, (note,), **route))], by="test")
    assert not moved.refused


def lease(admin: Connection, item: UUID) -> None:
    """Give an item a lease of a worker that does nothing with it."""
    worker, claim = uuid4(), uuid4()
    with transaction(admin, None):
        [(fence, stage, _, lane)] = look(admin, _STANDS, item)
        admin.execute("INSERT INTO workers (id, name, host, pid, lanes) VALUES (%s, 'idle', 'here', 1, '{}')", [worker])
        admin.execute(
            "INSERT INTO claims (id, worker_id, lane, opened_at, beat_at, until) "
            "VALUES (%s, %s, %s, clock(), clock(), clock() + interval '1 hour')",
            [claim, worker, lane],
        )
        route = Route((move("claim", Stage(stage), State.READY),), lane)
        perform(admin, [Planned(item, fence, route)], by="idle", claim_id=claim)


def in_the_cells_lane(road: Road, admin: Connection, count: int) -> list[UUID]:
    """Take in issues that nothing is known about and route them; return their items, ready for the cell."""
    road.take_in([issue(number, title=f"Unheard of {number}") for number in range(1, count + 1)])
    worker = road.worker()
    lanes, worker.lanes = worker.lanes, ["route"]
    worker.run()
    worker.lanes = lanes
    return [item_of(admin, f"acme/widgets#{number}") for number in range(1, count + 1)]


def waiting_for_a_person(road: Road, admin: Connection, count: int = 1) -> list[UUID]:
    """Return items whose cell asked for a person."""
    items = in_the_cells_lane(road, admin, count)
    for item in items:
        lease(admin, item)
        push(admin, item, "escalate", wait=Wait.HUMAN, waiting_on="a person")
    return items


def buried(road: Road, admin: Connection, count: int, *, note: str = "transient: the model at port {k} refused") -> list[UUID]:
    """Return dead letters, each with a note of its own."""
    items = in_the_cells_lane(road, admin, count)
    for k, item in enumerate(items):
        lease(admin, item)
        push(admin, item, "bury", note=note.format(k=5000 + k), cause=Cause.TRANSIENT, finding="dead.transient")
    return items


def intend(admin: Connection, proposal: UUID, state: str = "intent") -> UUID:
    """Record an apply that was begun, as if the worker had died right after, or could not learn what came of it."""
    apply_id = uuid4()
    with transaction(admin, None):
        admin.execute(
            "INSERT INTO applies (id, workspace_id, proposal_id, item_id, action_id, proposal_sha256, adapter, idempotency_class, fence) "
            "SELECT %s, workspace_id, id, item_id, sha256(sha256 || '\\x00'::bytea || convert_to(target, 'UTF8')), sha256, adapter, "
            "'convergent', 1 FROM proposals WHERE id = %s",
            [apply_id, proposal],
        )
        if state != "intent":
            admin.execute("UPDATE applies SET state = %s, finished_at = clock() WHERE id = %s", [state, apply_id])
            admin.execute("UPDATE proposals SET state = %s WHERE id = %s", [state, proposal])
    return apply_id
