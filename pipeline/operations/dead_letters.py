"""Dead letters: why each was buried, and the two ways out: replay, or prune."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.rows import dict_row
from contracts.errors import Conflict, NotFound
from pipeline.operations.steering import CHUNK, Steered, not_dead_error
from queues.audit import record_audit_of_items
from queues.database import Connection, transaction
from queues.lookup import find_item
from queues.marks import file_dead
from queues.predicates import EFFECT_IN_FLIGHT

_VARYING = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|\b[0-9a-f]{32,}\b|\d+(?:\.\d+)?", re.IGNORECASE)


class DeadLetter(NamedTuple):
    """One buried item, with the note of the move that buried it."""

    item_id: UUID
    order_id: UUID
    subject: str
    flow: str
    lane: str
    stage: str
    error: str
    buried_at: datetime
    actor: str

    @property
    def kind(self) -> str:
        """The error without what differs from one item to the next: ids, hashes, numbers."""
        return _VARYING.sub("…", self.error)


@dataclass(slots=True)
class Kind:
    """Dead letters of one lane that died of the same error."""

    lane: str
    error: str
    letters: list[DeadLetter]


_DEAD = """
SELECT q.item_id, q.order_id, o.subject_key, q.flow, q.lane, q.stage, coalesce(m.reason, ''), q.moved_at,
       coalesce(m.actor, '')
  FROM queue q JOIN orders o ON o.id = q.order_id LEFT JOIN moves m ON m.item_id = q.item_id AND m.no = q.move_no
 WHERE q.state = 'dead' AND (%(item)s::uuid IS NULL OR q.item_id = %(item)s)
   AND (%(lane)s::text IS NULL OR q.lane = %(lane)s) AND (%(flow)s::text IS NULL OR q.flow = %(flow)s)
   AND (%(error)s::text IS NULL OR m.reason ILIKE %(error)s)
 ORDER BY q.moved_at DESC, q.item_id LIMIT %(most)s
"""


def dead_letters(
    conn: Connection,
    workspace: UUID,
    *,
    error: str | None = None,
    lane: str | None = None,
    flow: str | None = None,
    most: int,
) -> list[DeadLetter]:
    """Return at most `most` dead letters, the latest first; with `error`, those whose error holds that text, a … in it being anything."""
    wanted = {"item": None, "lane": lane, "flow": flow, "most": most, "error": None if error is None else _holding(error)}
    with transaction(conn, workspace):
        return [DeadLetter(*row) for row in conn.execute(_DEAD, wanted).fetchall()]


def _holding(text: str) -> str:
    """Return the pattern of what holds a text; its … stand for what `DeadLetter.kind` left out."""
    parts = (re.sub(r"([\\%_])", r"\\\1", part) for part in text.split("…"))
    return f"%{'%'.join(parts)}%"


def by_kind(found: Sequence[DeadLetter]) -> list[Kind]:
    """Return dead letters grouped by lane and error, the largest group first."""
    groups: dict[tuple[str, str], Kind] = {}
    for letter in found:
        groups.setdefault((letter.lane, letter.kind), Kind(letter.lane, letter.kind, [])).letters.append(letter)
    return sorted(groups.values(), key=lambda group: (-len(group.letters), group.lane, group.error))


_MOVES = """
SELECT m.no, l.move, l.from_stage AS stage, m.fence, m.actor, m.reason, m.at
  FROM moves m JOIN legal_moves l ON l.number = m.legal
 WHERE m.item_id = %s ORDER BY m.no DESC LIMIT 20
"""
_ATTEMPTS = """
SELECT fence, stage, outcome, cause, started_at, ended_at, message, traceback FROM attempts
 WHERE item_id = %s ORDER BY fence DESC LIMIT 20
"""
_FINDINGS = "SELECT stage, code, message, place, at FROM findings WHERE item_id = %s ORDER BY at DESC, id DESC LIMIT 20"


def dead_letter(conn: Connection, workspace: UUID, name: str) -> dict[str, Any]:
    """Return the dead letter that a person means, with its last moves, attempts and findings.

    Raises NotFound when the item is not dead, and what `find_item` raises.
    """
    with transaction(conn, workspace):
        item = find_item(conn, name).item_id
        row = conn.execute(_DEAD, {"item": item, "lane": None, "flow": None, "most": 1, "error": None}).fetchone()
        if row is None:
            raise NotFound(f"item {item} is no dead letter of this workspace", hint=f"shopfloor dead list, or shopfloor why {item}")
        parts = {name: _rows(conn, query, item) for name, query in (("moves", _MOVES), ("attempts", _ATTEMPTS), ("findings", _FINDINGS))}
    return DeadLetter(*row)._asdict() | parts


def _rows(conn: Connection, query: str, item: UUID) -> list[dict[str, Any]]:
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, [item]).fetchall()


_TAKE = f"""
SELECT q.item_id, o.subject_key, q.state,
       {EFFECT_IN_FLIGHT}
  FROM queue q JOIN orders o ON o.id = q.order_id WHERE q.item_id = ANY(%s) ORDER BY q.item_id FOR UPDATE OF q
"""


def prune(conn: Connection, workspace: UUID, items: Sequence[UUID], *, by: str, why: str, dry_run: bool = False) -> list[Steered]:
    """File dead letters away for good, a chunk to a transaction; their orders end `dead`."""
    results: dict[UUID, Steered] = {}
    for start in range(0, len(items), CHUNK):
        chunk = list(items[start : start + CHUNK])
        with transaction(conn, workspace):
            taken = []
            for item, subject, state, in_flight in conn.execute(_TAKE, [chunk]).fetchall():
                if state != "dead":
                    error = not_dead_error(f"item {item} ({subject[:80]})", state, item)
                    results[item] = Steered(item, subject, error=error)
                elif in_flight:
                    lost = f"item {item} ({subject[:80]}) has an apply of unknown effect: pruned, it would be forgotten"
                    results[item] = Steered(item, subject, error=Conflict(lost, hint=f"shopfloor apply probe {item}", code="apply.unknown"))
                else:
                    taken.append(item)
                    results[item] = Steered(item, subject, "would be pruned" if dry_run else "pruned")
            if taken and not dry_run:
                conn.execute("SELECT void_proposals(%s, 'cancelled')", [taken])
                file_dead(conn, taken)
                record_audit_of_items(conn, workspace, by=by, action="prune", items=taken, why=why)
    for item in items:
        missing = NotFound(f"no dead letter {item} in this workspace", hint="shopfloor dead list")
        results.setdefault(item, Steered(item, "", error=missing))
    return [results[item] for item in items]
