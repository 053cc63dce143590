"""Dead letters: which there are, grouped by what they died of, and what one of them left behind."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.rows import class_row, dict_row
from contracts.errors import NotFound
from queues.database import Connection, transaction
from queues.lookup import find_item

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
SELECT q.item_id,
       q.order_id,
       o.subject_key AS subject,
       q.flow,
       q.lane,
       q.stage,
       coalesce(m.reason, '') AS error,
       q.moved_at AS buried_at,
       coalesce(m.actor, '') AS actor
  FROM queue q
  JOIN orders o ON o.id = q.order_id
  LEFT JOIN moves m ON m.item_id = q.item_id AND m.no = q.move_no
 WHERE q.state = 'dead'
   AND (%(item)s::uuid IS NULL OR q.item_id = %(item)s)
   AND (%(lane)s::text IS NULL OR q.lane = %(lane)s)
   AND (%(flow)s::text IS NULL OR q.flow = %(flow)s)
   AND (%(error)s::text IS NULL OR m.reason ILIKE %(error)s)
 ORDER BY q.moved_at DESC, q.item_id
 LIMIT %(limit)s
"""


def dead_letters(
    conn: Connection,
    workspace: UUID,
    *,
    error: str | None = None,
    lane: str | None = None,
    flow: str | None = None,
    limit: int,
) -> list[DeadLetter]:
    """Return up to `limit` dead letters, the latest first.

    With `error` those whose error contains that text, in which … stands for anything.
    """
    pattern = None if error is None else _containing(error)
    with transaction(conn, workspace):
        return _read(conn, item=None, lane=lane, flow=flow, error=pattern, limit=limit)


def _read(conn: Connection, **values: object) -> list[DeadLetter]:
    with conn.cursor(row_factory=class_row(DeadLetter)) as cursor:
        return cursor.execute(_DEAD, values).fetchall()


def _containing(text: str) -> str:
    """Return the pattern for a text anywhere in an error; its … are what `DeadLetter.kind` left out."""
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
  FROM moves m
  JOIN legal_moves l ON l.number = m.legal
 WHERE m.item_id = %s
 ORDER BY m.no DESC
 LIMIT 20
"""
_ATTEMPTS = """
SELECT fence, stage, outcome, cause, started_at, ended_at, message, traceback
  FROM attempts
 WHERE item_id = %s
 ORDER BY fence DESC
 LIMIT 20
"""
_FINDINGS = """
SELECT stage, code, message, place, at
  FROM findings
 WHERE item_id = %s
 ORDER BY at DESC, id DESC
 LIMIT 20
"""


def dead_letter(conn: Connection, workspace: UUID, name: str) -> dict[str, Any]:
    """Return the dead letter that a person means, with its last moves, attempts and findings.

    Raises NotFound when the item is not dead, and what `find_item` raises.
    """
    with transaction(conn, workspace):
        item = find_item(conn, name).item_id
        found = _read(conn, item=item, lane=None, flow=None, error=None, limit=1)
        if not found:
            raise NotFound(f"item {item} is not a dead letter", hint=f"shopfloor dead list, or shopfloor why {item}")
        parts = {"moves": _MOVES, "attempts": _ATTEMPTS, "findings": _FINDINGS}
        return found[0]._asdict() | {part: _rows(conn, query, item) for part, query in parts.items()}


def _rows(conn: Connection, query: str, item: UUID) -> list[dict[str, Any]]:
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, [item]).fetchall()
