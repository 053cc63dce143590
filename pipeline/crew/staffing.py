"""Staffing: a worker for the lanes that somebody asks for, with the login, cells and appliers that those need."""

import ctypes

from contracts.errors import BadInput
from contracts.floor import Floor
from contracts.lifecycle import CLAIMABLE_STAGES, Role, Stage, stage_of
from pipeline.floors.publish import published_floor
from pipeline.floors.published import as_published
from pipeline.startup.appliers import opened
from pipeline.startup.compose import Shop
from pipeline.startup.setup import load_registry
from pipeline.worker.inline import lanes_of
from pipeline.worker.process import Worker
from queues.database import Connection, transaction
from queues.floors import newest_floors
from workcells.appliers import NAMES as APPLIERS
from workcells.registry import Registry

_PR_SET_DUMPABLE = 4


def staff(shop: Shop, lanes: str) -> Worker:
    """Return a worker for `propose`, `apply`, or lanes separated by commas. Raises BadInput for lanes that no process may mix.

    A worker of apply lanes is made non-dumpable: another process of the same user cannot read its credentials.
    """
    role = Role.APPLY if lanes == "apply" or lanes.startswith("apply.") else Role.PROPOSE
    registry = load_registry()
    with shop.connect(role, name="staffing") as conn:
        floors = floors_in_force(conn)
        runs = as_published(conn, registry)
    named = sorted({lane for floor in floors for lane in lanes_of(floor, role)})
    # A floor may name a cell that is not here any more: its items say so one by one, and the other lanes are served.
    known = [lane for lane in named if stage_of(lane) is not Stage.WORKCELL or lane.removeprefix("cell.") in registry.by_name]
    wanted = known
    if lanes not in ("propose", "apply"):
        wanted = [lane.strip() for lane in lanes.split(",") if lane.strip()]
        if not wanted:
            raise BadInput("no lane to serve was named", hint=f"some of {', '.join(known)}" if known else "shopfloor floor show")
        for lane in wanted:
            _check(lane, role, known, registry)
    if role is Role.APPLY:
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        return Worker(shop, role, wanted, runs, opened(shop, (lane.removeprefix("apply.") for lane in wanted)))
    return Worker(shop, role, wanted, runs)


def _check(lane: str, role: Role, known: list[str], registry: Registry) -> None:
    names = {stage.value for stage in CLAIMABLE_STAGES} | {"cell", "apply"}
    head, _, tail = lane.partition(".")
    is_lane = head in names and (tail in registry.by_name if head == "cell" else tail in APPLIERS if head == "apply" else not tail)
    if not is_lane or (stage_of(lane) is Stage.APPLY and role is not Role.APPLY):
        raise BadInput(f"{lane!r} is not a lane that a {role} worker serves: expected some of {', '.join(known)}")


def floors_in_force(conn: Connection) -> list[Floor]:
    """Return the newest floor of every workspace."""
    workspaces = [workspace for (workspace,) in conn.execute("SELECT id FROM all_workspaces()")]
    with transaction(conn, workspaces):
        return [published_floor(row).floor for row in newest_floors(conn)]
