"""How items end, in words: done, refused, cancelled, superseded, or kept as a dead letter."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.rows import dict_row
from contracts.errors import NotFound
from contracts.lifecycle import State
from queues.database import Connection
from queues.predicates import EFFECT_IN_FLIGHT


class Explanation(NamedTuple):
    """What holds an item or how it ended, what happens next and when, and what to type."""

    words: str
    next: str
    next_at: datetime | None
    type: tuple[str, ...]


def format_duration(seconds: float) -> str:
    """Return a duration as people say it: `4 s`, `3 min`, `2 h`, `5 days`; never negative."""
    for unit, size in (("days", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def one_row(conn: Connection, statement: str, *values: object) -> dict[str, Any] | None:
    """Return the first row of a statement by column names, None without one."""
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement, values).fetchone()


_IN_FLIGHT = f"SELECT {EFFECT_IN_FLIGHT} FROM queue q WHERE q.item_id = %s"


def explain_dead(conn: Connection, row: dict[str, Any]) -> Explanation:
    """Return why an item is a dead letter, from its queue row and the note of the move that buried it."""
    item = row["item_id"]
    in_flight = conn.execute(_IN_FLIGHT, [item]).fetchone()
    if in_flight and in_flight[0]:
        return Explanation(
            f"dead letter of lane {row['lane']}: {row['note'] or 'its last attempt ended badly'}; its action may have been sent, and nobody knows its effect",
            "it stays until somebody asks the target, then replays it",
            None,
            (f"shopfloor apply probe {item}", f"shopfloor dead show {item}", f"shopfloor dead replay {item}"),
        )
    return Explanation(
        f"dead letter of lane {row['lane']}: {row['note'] or 'its last attempt ended badly'}",
        "it stays until somebody replays or prunes it",
        None,
        (f"shopfloor dead show {item}", f"shopfloor dead replay {item}"),
    )


_ENDED = """
SELECT a.item_id, a.order_id, a.lane, a.stage, a.state, a.finding,
       a.archived_at AS since,
       clock() AS now,
       m.reason AS note,
       m.actor, o.subject_key, o.flow, o.withdrawn_at
  FROM archived_items a
  JOIN orders o ON o.id = a.order_id
  LEFT JOIN moves m ON m.item_id = a.item_id AND m.no = a.move_no
 WHERE a.item_id = %s
"""
_PROPOSED = """
SELECT p.id, p.action, p.target, p.state,
       x.id AS apply_id,
       x.state AS apply_state,
       x.adapter, x.finished_at,
       coalesce((
         SELECT array_agg(concat_ws(': ', w.name || ' ' || d.decision, nullif(d.reason, '')) ORDER BY d.decided_at)
           FROM decisions d
           JOIN actors w ON w.id = d.actor_id
          WHERE d.proposal_id = p.id), '{}') AS decided
  FROM proposals p
  LEFT JOIN applies x ON x.proposal_id = p.id
 WHERE p.item_id = %s
 ORDER BY p.epoch DESC, x.intent_at DESC
 LIMIT 1
"""


def explain_archived(conn: Connection, item_id: UUID) -> tuple[dict[str, Any], Explanation]:
    """Return an ended item's row and how it ended: why, by whose hand, and what was applied.

    Raises NotFound for an item that is neither queued nor archived.
    """
    with conn.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(_ENDED, [item_id]).fetchone()
        if row is None:
            raise NotFound(
                f"item {item_id} is neither queued nor archived",
                hint="shopfloor doctor --strict",
                code="not_found.item",
            )
        proposal = cursor.execute(_PROPOSED, [item_id]).fetchone()
    ended = _ENDINGS[State(row["state"])](conn, row, proposal)
    if row["withdrawn_at"] is not None:
        ended = ended._replace(
            words=f"{ended.words}; its revision was withdrawn {row['withdrawn_at']:%Y-%m-%d %H:%M} UTC", next=_AFTER_WITHDRAWAL
        )
    return row, ended


_AFTER_WITHDRAWAL = "nothing more; the next row of the subject is compared with its other revisions"


def _done(_conn: Connection, row: dict[str, Any], proposal: dict[str, Any] | None) -> Explanation:
    found = f"done, filed under {row['finding']}" if row["finding"] else "done"
    look = (f"shopfloor show {row['item_id']}",)
    if row["finding"] == "context":
        return Explanation("done: a context row, indexed for the others and not worked on", "nothing more", None, look)
    if proposal is None:
        return Explanation(f"{found}; it proposed nothing", "nothing more", None, look)
    act = f"'{proposal['action']} {proposal['target']}'"
    if proposal["apply_state"] == "applied":
        decided = f" ({'; '.join(proposal['decided'])})" if proposal["decided"] else ""
        words = f"{found}; {act} was applied through {proposal['adapter']}{decided}"
        return Explanation(words, "nothing more", None, (f"shopfloor apply show {proposal['apply_id']}", *look))
    if proposal["state"] == "report_only":
        return Explanation(f"{found}; {act} was reported and will not run", "nothing more", None, look)
    return Explanation(f"{found}; {act} is {proposal['state']}", "nothing more", None, look)


def _refused(_conn: Connection, row: dict[str, Any], proposal: dict[str, Any] | None) -> Explanation:
    why = f"{row['finding']}: {row['note']}" if row["finding"] and row["note"] else row["finding"] or row["note"]
    decided = proposal["decided"] if proposal and proposal["state"] == "rejected" else []
    by = f"; {'; '.join(decided)}" if decided else ""
    words = f"refused in stage {row['stage']} by {row['actor']}: {why or 'no reason was recorded'}{by}"
    return Explanation(words, "nothing more; a newer revision of the subject starts anew", None, (f"shopfloor show {row['item_id']}",))


def _cancelled(_conn: Connection, row: dict[str, Any], _proposal: dict[str, Any] | None) -> Explanation:
    why = f": {row['note']}" if row["note"] else ""
    words = f"cancelled in stage {row['stage']} by {row['actor']}{why}"
    return Explanation(words, "nothing more", None, (f"shopfloor history {row['item_id']}",))


_NEWER = """
SELECT id, revision, state FROM orders
 WHERE workspace_id = ANY (workspaces_in_use()) AND flow = %s AND subject_key = %s AND id <> %s
   AND withdrawn_at IS NULL
 ORDER BY created_at DESC, id DESC LIMIT 1
"""


def _superseded(conn: Connection, row: dict[str, Any], _proposal: dict[str, Any] | None) -> Explanation:
    newer = one_row(conn, _NEWER, row["flow"], row["subject_key"], row["order_id"])
    if newer is None:
        return Explanation("superseded by a newer revision of its subject", "nothing more", None, ())
    words = f"superseded by revision {newer['revision']} of {row['subject_key']}, whose order is {newer['state']}"
    return Explanation(words, "the newer order goes on in its place", None, (f"shopfloor show {newer['id']}",))


def _pruned(_conn: Connection, row: dict[str, Any], _proposal: dict[str, Any] | None) -> Explanation:
    words = f"was a dead letter of lane {row['lane']} and was pruned: {row['note'] or 'no reason was recorded'}"
    return Explanation(words, "nothing more; a newer revision of the subject starts anew", None, (f"shopfloor show {row['item_id']}",))


_ENDINGS: dict[State, Callable[[Connection, dict[str, Any], dict[str, Any] | None], Explanation]] = {
    State.DONE: _done,
    State.REFUSED: _refused,
    State.CANCELLED: _cancelled,
    State.SUPERSEDED: _superseded,
    State.DEAD: _pruned,
}
