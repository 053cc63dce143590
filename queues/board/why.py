"""Why an item is not moving: who or what holds it, since when, what happens next, and what to type.

One sentence for each reason of the lifecycle, from the same rows and predicates that claiming reads.
"""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row
from contracts.attempts import CEILINGS
from contracts.lifecycle import Reason, State
from queues.board.endings import Explanation, explain_archived, explain_dead, format_duration, one_row
from queues.board.forecast import explain_ready
from queues.board.stalls import serve_command
from queues.board.waits import explain_approval, explain_dependency, explain_human, explain_unknown
from queues.database import Connection
from queues.floors import lanes_in_force
from queues.lookup import Found
from queues.mover import COUNTERS
from queues.pauses import Pause, pauses_covering
from queues.predicates import ALIVE, AT_LIMIT


@dataclass(frozen=True, slots=True)
class Why:
    """The answer to `why ITEM`."""

    item_id: UUID
    order_id: UUID
    subject: str
    lane: str
    stage: str
    state: str
    reason: str | None
    """None for what has ended, dead letters included."""
    since: datetime
    since_seconds: float
    words: str
    """Who or what holds it, or how it ended; a sentence."""
    next: str
    """What happens next, without anybody's doing or by whose."""
    next_at: datetime | None
    type: tuple[str, ...]
    """Commands that look closer or move it on."""

    def as_dict(self) -> dict[str, Any]:
        """Return the answer for JSON."""
        return asdict(self)


_POSITION = """
SELECT q.item_id, q.workspace_id, q.order_id, q.pod_id, q.lane, q.stage, q.state, q.fence, q.flow, q.priority, q.due_at,
       q.move_no, q.crashes, q.transients, q.throttles, q.contract_breaks, q.qa_rejects, q.drifts, q.rounds,
       s.reason, s.since, s.waiting_on, s.next_at, s.beat_at, clock() AS now, m.reason AS note, m.actor,
       (convert_from(k.body, 'UTF8')::json #> '{limits,attempts}') AS ceilings
  FROM queue q JOIN item_reasons s ON s.item_id = q.item_id
  LEFT JOIN moves m ON m.item_id = q.item_id AND m.no = q.move_no
  LEFT JOIN contracts k ON k.id = q.contract_id
 WHERE q.item_id = %s
"""


def why(conn: Connection, found: Found) -> Why:
    """Return why an item is not moving, or how it ended. Call inside a transaction over the workspace."""
    with conn.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(_POSITION, [found.item_id]).fetchone()
    if row is None:
        row, said = explain_archived(conn, found.item_id)
    elif row["state"] == State.DEAD:
        said = explain_dead(conn, row)
    else:
        said = SENTENCES[Reason(row["reason"])](conn, row)
        if row["state"] == State.WAITING:
            said = _with_pauses(conn, row, said)
    return Why(
        item_id=found.item_id, order_id=found.order_id, subject=found.subject_key, lane=row["lane"], stage=row["stage"],
        state=row["state"], reason=row.get("reason"), since=row["since"],
        since_seconds=(row["now"] - row["since"]).total_seconds(), words=said.words, next=said.next,
        next_at=said.next_at, type=said.type,
    )  # fmt: skip


def _leased(_conn: Connection, row: dict[str, Any]) -> Explanation:
    beat, left = _since(row, "beat_at"), -_since(row, "next_at")
    return Explanation(
        f"leased by {row['waiting_on']}, fence {row['fence']}: heartbeat {format_duration(beat)} ago",
        f"the worker finishes it, or its lease ends in {format_duration(left)} and it goes to another",
        row["next_at"],
        (f"shopfloor history {row['item_id']}",),
    )


def _silent(_conn: Connection, row: dict[str, Any]) -> Explanation:
    beat, left = _since(row, "beat_at"), -_since(row, "next_at")
    ends = f"its lease ends in {format_duration(left)}" if left > 0 else f"its lease ended {format_duration(-left)} ago"
    return Explanation(
        f"leased by {row['waiting_on']}, fence {row['fence']}, which has sent no heartbeat for {format_duration(beat)}",
        f"{ends}: then the sweeper counts a crash and gives it to another worker",
        row["next_at"],
        ("shopfloor status", "shopfloor sweeper --once"),
    )


def _paused(conn: Connection, row: dict[str, Any]) -> Explanation:
    holding = pauses_covering(conn, row["item_id"])
    ends = [pause.until for pause in holding]
    last = None if None in ends else max((end for end in ends if end), default=None)
    return Explanation(
        f"paused: {_list_pauses(row, holding) or 'by a pause that is being lifted'}",
        f"it ends by itself in {format_duration((last - row['now']).total_seconds())}" if last else "it stays until somebody resumes it",
        last,
        _resumes(holding),
    )


def _with_pauses(conn: Connection, row: dict[str, Any], waits: Explanation) -> Explanation:
    """Add to what an item waits for the pauses that hold it afterwards."""
    holding = pauses_covering(conn, row["item_id"])
    if not holding:
        return waits
    words = f"{waits.words}; also paused: {_list_pauses(row, holding)}"
    return waits._replace(words=words, next=f"{waits.next}; then the pause holds it", type=(*waits.type, *_resumes(holding)))


def _list_pauses(row: dict[str, Any], holding: Sequence[Pause]) -> str:
    return "; ".join(
        f"{p.scope} by {p.actor} for {format_duration((row['now'] - p.created_at).total_seconds())}: {p.why!r}" for p in holding
    )


def _resumes(holding: Sequence[Pause]) -> tuple[str, ...]:
    return tuple(f"shopfloor resume {shlex.quote(scope)}" for scope in dict.fromkeys(pause.scope for pause in holding))


def _backoff(_conn: Connection, row: dict[str, Any]) -> Explanation:
    ceilings = {cause.value: ceiling for cause, ceiling in CEILINGS.items()} | (row["ceilings"] or {})
    had = [f"{cause} {row[name]} of {ceilings[cause]}" for cause, name in COUNTERS.items() if row[name]]
    words = f"waits for its next attempt; so far {', '.join(had)}" if had else "waits until it is due"
    return Explanation(
        f"{words}: {row['note']}" if row["note"] else words,
        f"it is tried again in {format_duration(-_since(row, 'due_at'))}",
        row["due_at"],
        (f"shopfloor requeue {row['item_id']}", f"shopfloor history {row['item_id']}"),
    )


def _budget(_conn: Connection, row: dict[str, Any]) -> Explanation:
    return Explanation(
        f"no money is left in a budget that covers it: {row['waiting_on'] or row['lane']}",
        "it goes on when the budget's period begins anew, or when somebody raises it",
        row["next_at"],
        ("shopfloor status",),
    )


_RATE = """
SELECT l.per_minute, date_trunc('minute', clock()) + interval '1 minute' AS next_at FROM lanes l
 WHERE l.workspace_id = %s AND l.name = %s
"""


def _rate(conn: Connection, row: dict[str, Any]) -> Explanation:
    lane = one_row(conn, _RATE, row["workspace_id"], row["lane"])
    most, at = (lane["per_minute"], lane["next_at"]) if lane else ("its limit", None)
    left = f" in {format_duration((at - row['now']).total_seconds())}" if at else ""
    return Explanation(f"lane {row['lane']} has started its {most} of this minute", f"it may go on{left}", at, ("shopfloor floor show",))


_LANE = f"""
SELECT l.max_active, {AT_LIMIT} AS at_limit
  FROM queue q LEFT JOIN lanes l ON l.workspace_id = q.workspace_id AND l.name = q.lane
 WHERE q.item_id = %s
"""
_LAST_SERVED = f"""
SELECT w.name, extract(epoch FROM clock() - w.beat_at)::float8 AS seconds, k.name || '@' || k.version AS contract,
       ({ALIVE}) AS is_alive
  FROM queue q LEFT JOIN contracts k ON k.id = q.contract_id AND q.stage = 'workcell'
  JOIN workers w ON q.lane = ANY (w.lanes)
 WHERE q.item_id = %s ORDER BY is_alive DESC, w.beat_at DESC LIMIT 1
"""


def _slot(conn: Connection, row: dict[str, Any]) -> Explanation:
    lane = one_row(conn, _LANE, row["item_id"])
    if lane and lane["at_limit"]:
        words = f"lane {row['lane']} is at its limit of {lane['max_active']} items in work"
        return Explanation(words, "it starts when one of them is done", None, (f"shopfloor items --lane {row['lane']} --state leased",))
    last = one_row(conn, _LAST_SERVED, row["item_id"])
    if last and last["contract"] and last["is_alive"]:
        return Explanation(
            f"pinned to contract {last['contract']}, for which no live worker of lane {row['lane']} has the code",
            "nothing, until a worker of the release with that version starts beside the others",
            None,
            (f"shopfloor contract show {last['contract']}", f"shopfloor cancel {row['item_id']}"),
        )
    seen = f"; {last['name']} did, last seen {format_duration(last['seconds'])} ago" if last else ""
    if row["lane"].startswith(("cell.", "apply.")) and row["lane"] not in lanes_in_force(conn):
        return Explanation(
            f"no flow of the floor in force uses lane {row['lane']}, so no worker serves it{seen}",
            "nothing, until a floor with a flow that uses it is applied (shopfloor floor apply FILE), or somebody cancels it",
            None,
            (f"shopfloor cancel {row['item_id']}", "shopfloor floor show"),
        )
    return Explanation(
        f"no live worker serves lane {row['lane']}{seen}", "nothing, until a worker for it starts", None, (serve_command(row["lane"]),)
    )


SENTENCES: dict[Reason, Callable[[Connection, dict[str, Any]], Explanation]] = {
    Reason.SILENT: _silent,
    Reason.LEASED: _leased,
    Reason.UNKNOWN: explain_unknown,
    Reason.HUMAN: explain_human,
    Reason.SECOND_APPROVAL: explain_approval,
    Reason.APPROVAL: explain_approval,
    Reason.DEPENDENCY: explain_dependency,
    Reason.PAUSED: _paused,
    Reason.BACKOFF: _backoff,
    Reason.BUDGET: _budget,
    Reason.RATE: _rate,
    Reason.SLOT: _slot,
    Reason.READY: explain_ready,
}


def _since(row: dict[str, Any], name: str) -> float:
    """Return the seconds from an instant of the row to its now; negative when it lies ahead."""
    at: datetime | None = row[name]
    return (row["now"] - at).total_seconds() if at else 0.0
