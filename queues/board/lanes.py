"""The board: every lane with what is in it, what moves, what waits and what is stalled. Reads hot tables alone.

Waiting (on a person, a time, a pause, a limit) and stalled (work that could move and does not) are never the
same column. What cannot be known is None, never zero.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from contracts.lifecycle import CLAIMABLE_STAGES, Reason, Stage, State
from queues.board.counts import WINDOW_MINUTES, Counts, Group, read_counts
from queues.board.stalls import Situation, find_stall
from queues.database import Connection, transaction
from queues.floors import lanes_in_force

OVERDUE_SECONDS = 10.0
"""A lease that ended this long ago, and is still open, has no sweeper behind it."""

_WAITING = frozenset({Reason.UNKNOWN, Reason.HUMAN, Reason.SECOND_APPROVAL, Reason.APPROVAL, Reason.DEPENDENCY})


@dataclass(slots=True)
class Lane:
    """One lane. Its ready items are `ready` + `paused` + `backoff` + `limited`."""

    lane: str
    ready: int = 0
    """Due, unpaused and under every limit: a worker may take it now, if there is one."""
    active: int = 0
    silent: int = 0
    waiting: int = 0
    paused: int = 0
    backoff: int = 0
    limited: int = 0
    dead: int = 0
    oldest_ready_seconds: float | None = None
    finished: int = 0
    failed: int = 0
    returned: int = 0
    """Claimed within the window and given back unfinished, counting nothing: each time anew."""
    failed_share: float | None = None
    """Of all attempts that ended in the window; None when none did."""
    net_flow: int | None = None
    """What the window added to the lane; None when it keeps up: everything in it is younger than the window, and
    more than that has left it. Rule: a lane is served oldest first, so that what came and went within the window
    counts nothing."""
    workers: int = 0
    stalled: str = ""
    """Why work that could move does not; empty when it does, or has no work."""
    remedy: str = ""
    """What to type against the stall."""


@dataclass(slots=True)
class Waiting:
    """Items of one reason that no worker may touch."""

    reason: str
    items: int
    oldest_seconds: float


@dataclass(slots=True)
class Board:
    """A factory at one instant."""

    at: datetime
    lanes: list[Lane]
    waiting: list[Waiting]
    dead: int
    oldest_dead_seconds: float | None
    pauses: list[dict[str, Any]]
    workers: list[dict[str, Any]]
    unread: list[dict[str, Any]]
    """Batches whose intake is gone before its last row: id, flow, source, rows read, seconds since then."""
    sweeper: str | None
    """`running`, `late`, or None when it cannot be told."""
    totals: dict[str, int] = field(default_factory=dict)

    @property
    def needs_attention(self) -> bool:
        """True when something is stalled, unserved or dead: what `status --check` exits 1 for."""
        return self.dead > 0 or bool(self.unread) or self.sweeper == "late" or self.is_abandoned or any(lane.stalled for lane in self.lanes)

    @property
    def is_abandoned(self) -> bool:
        """True when there is work in the queue, if only for people, and no worker is alive to go on with it."""
        return not self.workers and self.totals.get("in_queue", 0) > 0

    def as_dict(self) -> dict[str, Any]:
        """Return the board for JSON."""
        return {"ok": not self.needs_attention} | asdict(self)


def read_board(conn: Connection, workspace: UUID) -> Board:
    """Return the board of a workspace in one snapshot. The cost follows the work in the queue, never the archive."""
    seen = read_counts(conn, workspace)

    @cache
    def lanes_of_floor() -> frozenset[str]:
        with transaction(conn, workspace):
            return lanes_in_force(conn)

    overdue = [group.overdue_seconds or 0.0 for group in seen.groups if group.reason in (Reason.LEASED, Reason.SILENT)]
    is_late = max([*overdue, seen.unreleased_seconds]) > OVERDUE_SECONDS
    dead = [group for group in seen.groups if group.reason == State.DEAD]
    in_queue = sum(group.items for group in seen.groups)
    return Board(
        at=seen.at,
        lanes=_lanes(seen, lambda lane: lane in _PLAIN_LANES or lane in lanes_of_floor()),
        waiting=_waiting(seen.groups),
        dead=sum(group.items for group in dead),
        oldest_dead_seconds=max((group.oldest_seconds for group in dead), default=None),
        pauses=[
            {"scope": pause.scope, "why": pause.why, "actor": pause.actor, "since": pause.created_at, "until": pause.until}
            for pause in seen.pauses
        ],
        workers=seen.workers,
        unread=seen.unread,
        sweeper="late" if is_late else "running" if seen.is_sweeper_seen else None,
        totals=seen.totals | {"in_queue": in_queue, "ended": seen.totals["accepted"] - in_queue},
    )


_PLAIN_LANES = frozenset(stage.value for stage in (Stage.INTAKE, *CLAIMABLE_STAGES))


def _lanes(seen: Counts, is_in_floor: Callable[[str], bool]) -> list[Lane]:
    found: dict[str, Lane] = {}
    by_lane: dict[str, list[Group]] = {}
    lately: dict[str, int] = {}
    for group in seen.groups:
        by_lane.setdefault(group.lane, []).append(group)
    for worker in seen.workers:
        for name in worker["lanes"]:
            found.setdefault(name, Lane(name)).workers += 1
    for left in seen.throughput:
        lane = found.setdefault(left.lane, Lane(left.lane))
        lane.finished, lane.failed, lane.returned, lately[lane.lane] = left.finished, left.failed, left.returned, left.lately
        ended = lane.finished + lane.failed
        lane.failed_share = lane.failed / ended if ended else None
    for name, groups in by_lane.items():
        _fill(found.setdefault(name, Lane(name)), groups, lately.get(name, 0), is_in_floor)
    return sorted(found.values(), key=lambda lane: _place(lane.lane))


def _place(lane: str) -> tuple[int, str]:
    """Return a lane's place in the order of the stages."""
    stage = {"cell": Stage.WORKCELL, "apply": Stage.APPLY}.get(lane.partition(".")[0], lane)
    order = [Stage.INTAKE.value, *(known.value for known in CLAIMABLE_STAGES)]
    return (order.index(stage) if stage in order else len(order), lane)


def _fill(lane: Lane, groups: Iterable[Group], lately: int, is_in_floor: Callable[[str], bool]) -> None:
    unserved = overdue = 0
    depth = young = 0
    oldest = 0.0
    for group in groups:
        reason, items = group.reason, group.items
        if reason in (Reason.READY, "unserved"):
            lane.ready += items
            lane.oldest_ready_seconds = max(lane.oldest_ready_seconds or 0.0, group.ready_seconds)
            unserved += items if reason == "unserved" else 0
        elif reason in (Reason.LEASED, Reason.SILENT):
            lane.active += items
            lane.silent += items if reason == Reason.SILENT else 0
            overdue += items if (group.overdue_seconds or 0.0) > OVERDUE_SECONDS else 0
        elif reason == State.DEAD:
            lane.dead += items
        elif reason in _WAITING:
            lane.waiting += items
        elif reason == Reason.PAUSED:
            lane.paused += items
        elif reason == Reason.BACKOFF:
            lane.backoff += items
        else:
            lane.limited += items
        if reason != State.DEAD and reason not in _WAITING:
            depth, young, oldest = depth + items, young + group.young, max(oldest, group.oldest_seconds)
    lane.net_flow = young - lane.finished if oldest > WINDOW_MINUTES * 60 else max(0, depth - lane.finished) or None
    now = Situation(
        lane=lane.lane,
        workers=lane.workers,
        ready=lane.ready,
        unserved=unserved,
        silent=lane.silent,
        overdue=overdue,
        depth=depth,
        finished=lane.finished,
        failed=lane.failed,
        returned=lane.returned,
        is_moving=bool(lane.active or lately),
        oldest_ready_seconds=lane.oldest_ready_seconds or 0.0,
    )
    if stall := find_stall(now, is_in_floor):
        lane.stalled, lane.remedy = stall.words, stall.remedy


def _waiting(groups: Iterable[Group]) -> list[Waiting]:
    found: dict[str, Waiting] = {}
    for group in groups:
        if group.reason in _WAITING or group.reason in (Reason.PAUSED, Reason.BACKOFF, Reason.RATE, Reason.SLOT):
            one = found.setdefault(group.reason, Waiting(group.reason, 0, 0.0))
            one.items += group.items
            one.oldest_seconds = max(one.oldest_seconds, group.oldest_seconds)
    order = [reason.value for reason in Reason]
    return sorted(found.values(), key=lambda one: order.index(one.reason))
