"""Arriving rows, and what is decided of each: accepted, duplicate, rejected. The identity of work is subject key plus revision."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.rows import class_row
from contracts.excerpts import excerpt
from contracts.instants import BeyondRangeError, instant
from contracts.lifecycle import ENTER, HOLD, SHELVE, Move
from pipeline.intake.sources import BadRow
from queues.database import Connection


class Decision(NamedTuple):
    """What becomes of a row, and which order it belongs to."""

    outcome: str
    """`accepted`, `duplicate` or `rejected`."""
    code: str = ""
    field: str = ""
    message: str = ""
    order_id: UUID | None = None
    item_id: UUID | None = None


ACCEPTED = Decision("accepted")
Decisions = dict[int, Decision]
"""By row number. Made anew for each try at a chunk: what was decided by looking at other orders does not outlive them."""


class Arrival(NamedTuple):
    """One row as it was read. One that cannot be used carries why, and nothing else is asked of it."""

    row_no: int
    line: int
    byte_offset: int
    subject_key: str = ""
    revision: str = ""
    sha256: bytes = b""
    body: bytes = b""
    goal: str = ""
    is_context: bool = False
    value: dict[str, Any] | None = None
    refusal: Decision | None = None
    excerpt: str = ""
    wave: int = 0
    """How many rows of the same subject are before it in its chunk: those are stored first."""
    twin_of: int | None = None
    """Number of the row before it in the chunk that has the same subject, revision and content."""

    def as_reject(self, decision: Decision) -> BadRow:
        """Return it as a rejects file has it."""
        shown = self.excerpt or excerpt(self.body)
        return BadRow(self.row_no, self.line, self.byte_offset, decision.code, decision.field, decision.message, shown)


class Known(NamedTuple):
    """An order that a subject already has."""

    revision: str
    order_id: UUID
    sha256: bytes
    state: str


class Older(NamedTuple):
    """An open order and the number of the row that supersedes it."""

    order_id: UUID
    by: int


class _KnownRow(NamedTuple):
    subject_key: str
    revision: str
    id: UUID
    payload_sha256: bytes
    state: str


# A probe a key, with the workspace left to row security: said twice, or beside a list of keys, it makes the index on
# workspace and id look cheaper to a planner without statistics, and that one is read whole.
_KNOWN = """
SELECT o.*
  FROM unnest(%s::text[]) AS t (key)
 CROSS JOIN LATERAL (
   SELECT subject_key, revision, id, payload_sha256, state
     FROM orders
    WHERE flow = %s
      AND subject_key = t.key
      AND withdrawn_at IS NULL
   OFFSET 0) o
"""


def known_orders(conn: Connection, flow: str, keys: Iterable[str]) -> dict[str, list[Known]]:
    """Return the orders of each subject in a flow that were not withdrawn, newest revision first."""
    # Planned anew for each chunk: a plan kept from when the table was empty reads a whole index for every chunk.
    cursor = conn.cursor(row_factory=class_row(_KnownRow), binary=True)
    found: dict[str, list[Known]] = {}
    for row in cursor.execute(_KNOWN, [sorted(set(keys)), flow], prepare=False):
        known = Known(row.revision, row.id, row.payload_sha256, row.state)
        found.setdefault(row.subject_key, []).append(known)
    for orders in found.values():
        if len(orders) > 1:
            orders.sort(key=lambda order: revision_order(order.revision), reverse=True)
    return found


def revision_order(revision: str) -> tuple[int, float, str]:
    """Return what revisions compare by: instants as instants, plain numbers as numbers, everything else as text."""
    if revision.isascii() and revision.isdigit() and len(revision) <= 15:
        return 1, float(revision), revision
    try:
        at = instant(revision)
    except BeyondRangeError:
        at = None
    return (0, 0.0, revision) if at is None else (2, at.timestamp(), revision)


def settle(arrivals: Sequence[Arrival], known: dict[str, list[Known]], decisions: Decisions) -> list[Older]:
    """Decide each arrival against what is known; return the open orders that newer revisions supersede.

    What is to be accepted gets no decision yet: it has no order. Where rows are stored, `arrivals` are one wave of a chunk: no
    subject is in it twice, but as a twin.
    """
    superseded = []
    for arrival in arrivals:
        if arrival.refusal is not None:
            decisions[arrival.row_no] = arrival.refusal
            continue
        orders = known.get(arrival.subject_key)
        if arrival.twin_of is not None or not orders:
            continue
        same = next((order for order in orders if order.revision == arrival.revision), None)
        if same is not None:
            decisions[arrival.row_no] = _same_revision(arrival, same)
        elif revision_order(arrival.revision) < revision_order(orders[0].revision):
            message = f"revision {orders[0].revision[:40]} is known, from order {orders[0].order_id}"
            decisions[arrival.row_no] = Decision("duplicate", "intake.older_revision", message=message, order_id=orders[0].order_id)
        else:
            superseded += [Older(order.order_id, arrival.row_no) for order in orders if order.state == "open"]
    return superseded


def _same_revision(arrival: Arrival, same: Known) -> Decision:
    if same.sha256 == arrival.sha256:
        return Decision("duplicate", "intake.duplicate", order_id=same.order_id)
    message = f"revision {arrival.revision[:40]} arrived before with other content"
    return Decision("rejected", "intake.conflict", message=message, order_id=same.order_id)


def settle_twins(arrivals: Iterable[Arrival], decisions: Decisions) -> None:
    """Give each twin the answer of its first: a duplicate of it, or what that is itself. The first ones are decided."""
    for arrival in arrivals:
        if arrival.twin_of is None:
            continue
        first = decisions.get(arrival.twin_of, ACCEPTED)
        if first.outcome == "accepted":
            first = Decision("duplicate", "intake.duplicate", order_id=first.order_id)
        decisions[arrival.row_no] = first


def first_move(arrival: Arrival, *, holds: bool) -> Move:
    """Return how an accepted row enters: as context, held for its batch, or straight to route."""
    if arrival.is_context:
        return SHELVE
    return HOLD if holds else ENTER
