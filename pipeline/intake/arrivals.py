"""What becomes of an arriving row: accepted, duplicate, conflict. The identity of work is subject key plus revision."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from contracts.excerpts import excerpt
from contracts.lifecycle import ENTER, HOLD, SHELVE, Move
from pipeline.intake.sources import BadRow
from queues.database import Connection


@dataclass(slots=True, eq=False)
class Arrival:
    """One row on its way in; one that cannot be used has a code from the start."""

    row_no: int
    line: int
    byte_offset: int
    subject_key: str = ""
    revision: str = ""
    sha256: bytes = b""
    body: bytes = b""
    goal: str = ""
    is_context: bool = False
    outcome: str = "accepted"
    code: str = ""
    field: str = ""
    message: str = ""
    excerpt: str = ""
    order_id: UUID | None = None
    item_id: UUID | None = None
    value: dict[str, Any] | None = None
    wave: int = 0
    """How many rows of the same subject stand before it in its chunk: those are stored first."""
    twin: "Arrival | None" = None
    """The row of the same subject before it in the chunk, when that has the same revision and content."""

    def reopen(self) -> None:
        """Forget what was decided by looking at other orders: those have changed, decide again."""
        if self.value is not None:
            self.outcome, self.code, self.message, self.order_id = "accepted", "", "", None

    def end(self, outcome: str, code: str, order_id: UUID | None, message: str = "") -> None:
        """Note that this row makes no order, why, and which order it belongs to."""
        self.outcome, self.code, self.order_id, self.message = outcome, code, order_id, message

    def as_reject(self) -> BadRow:
        """Return it as it stands in a rejects file."""
        shown = self.excerpt or excerpt(self.body)
        return BadRow(self.row_no, self.line, self.byte_offset, self.code, self.field, self.message, shown)


class Known(NamedTuple):
    """An order that a subject already has."""

    revision: str
    order_id: UUID
    sha256: bytes
    state: str


class Older(NamedTuple):
    """An open order and the arrival that supersedes it."""

    order_id: UUID
    by: Arrival


# A probe a key, with the workspace left to row security: said twice, or beside a list of keys, it makes the index on
# workspace and id look cheaper to a planner without statistics, and that one is read whole.
_KNOWN = """
SELECT o.* FROM unnest(%s::text[]) AS t (key)
 CROSS JOIN LATERAL (SELECT subject_key, revision, id, payload_sha256, state FROM orders WHERE flow = %s AND subject_key = t.key OFFSET 0) o
"""


def known_orders(conn: Connection, flow: str, keys: Iterable[str]) -> dict[str, list[Known]]:
    """Return the orders of each subject in a flow, newest revision first."""
    # Planned anew for each chunk: a plan kept from when the table was empty reads a whole index for every chunk.
    rows = conn.execute(_KNOWN, [sorted(set(keys)), flow], prepare=False, binary=True)
    found: dict[str, list[Known]] = {}
    for key, *rest in rows:
        found.setdefault(key, []).append(Known(*rest))
    for orders in found.values():
        if len(orders) > 1:
            orders.sort(key=lambda order: revision_order(order.revision), reverse=True)
    return found


def revision_order(revision: str) -> tuple[int, float, str]:
    """Return what revisions compare by: instants as instants, plain numbers as numbers, everything else as text."""
    if revision.isascii() and revision.isdigit() and len(revision) <= 15:
        return 1, int(revision), revision
    at = instant(revision)
    return (0, 0.0, revision) if at is None else (2, at.timestamp(), revision)


def instant(revision: str) -> datetime | None:
    """Return the aware instant that a revision is, UTC when it names no offset; None for any other text."""
    if len(revision) < 19:
        return None
    try:
        at = datetime.fromisoformat(revision)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def settle(arrivals: Sequence[Arrival], known: dict[str, list[Known]]) -> list[Older]:
    """Decide each arrival against what is known and return the open orders that newer revisions supersede.

    Where rows are stored, `arrivals` are one wave of a chunk: no subject is in it twice, but as a twin.
    """
    superseded = []
    for arrival in arrivals:
        if arrival.code or arrival.twin is not None:
            continue
        orders = known.get(arrival.subject_key)
        if not orders:
            continue
        newest = orders[0]
        same = next((order for order in orders if order.revision == arrival.revision), None)
        if same is not None and same.sha256 != arrival.sha256:
            message = f"revision {arrival.revision[:40]} arrived before with other content"
            arrival.end("rejected", "intake.conflict", same.order_id, message)
        elif same is not None:
            arrival.end("duplicate", "intake.duplicate", same.order_id)
        elif revision_order(arrival.revision) < revision_order(newest.revision):
            arrival.end("duplicate", "intake.older_revision", newest.order_id, f"revision {newest.revision[:40]} is known")
        else:
            superseded += [Older(order.order_id, arrival) for order in orders if order.state == "open"]
    return superseded


def settle_twins(arrivals: Iterable[Arrival]) -> None:
    """Give each twin the answer of its first: a duplicate of it, or what that is itself. The first ones have their orders."""
    for arrival in arrivals:
        first = arrival.twin
        if first is None:
            continue
        if first.outcome == "accepted":
            arrival.end("duplicate", "intake.duplicate", first.order_id)
        else:
            arrival.end(first.outcome, first.code, first.order_id, first.message)


def first_move(arrival: Arrival, *, holds: bool) -> Move:
    """Return how an accepted row enters: as context, held for its batch, or straight to route."""
    if arrival.is_context:
        return SHELVE
    return HOLD if holds else ENTER
