"""What becomes of an arriving row: accepted, duplicate, conflict. The identity of work is subject key plus revision."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from contracts.lifecycle import ENTER, HOLD, SHELVE, Move
from queues.database import Connection


@dataclass(slots=True)
class Arrival:
    """One row on its way in; rejected ones have a code from the start."""

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
    order_id: UUID | None = None
    item_id: UUID | None = None
    value: dict[str, Any] | None = None


class Known(NamedTuple):
    """An order that a subject already has."""

    revision: str
    order_id: UUID
    sha256: bytes
    state: str


_KNOWN = """
SELECT subject_key, revision, id, payload_sha256, state FROM orders
 WHERE workspace_id = ANY (workspaces_in_use()) AND flow = %s AND subject_key = ANY(%s)
"""


def known_orders(conn: Connection, flow: str, keys: Iterable[str]) -> dict[str, list[Known]]:
    """Return the orders of each subject in a flow, newest revision first."""
    # Planned anew for each chunk: a plan kept from when the table was empty reads a whole index for every chunk.
    rows = conn.execute(_KNOWN, [flow, sorted(set(keys))], prepare=False, binary=True)
    found: dict[str, list[Known]] = {}
    for key, *rest in rows:
        found.setdefault(key, []).append(Known(*rest))
    for orders in found.values():
        orders.sort(key=lambda order: revision_order(order.revision), reverse=True)
    return found


def revision_order(revision: str) -> tuple[int, str]:
    """Return what revisions compare by: plain numbers as numbers, everything else as text."""
    return (int(revision), "") if revision.isascii() and revision.isdigit() and len(revision) <= 18 else (-1, revision)


def settle(arrivals: Sequence[Arrival], known: dict[str, list[Known]]) -> list[UUID]:
    """Decide each arrival against what is known and return the open orders that newer revisions supersede.

    No subject may be twice among `arrivals`: intake cuts its chunks so.
    """
    superseded = []
    for arrival in arrivals:
        if arrival.code:
            continue
        orders = known.get(arrival.subject_key)
        if not orders:
            continue
        newest = orders[0]
        same = next((order for order in orders if order.revision == arrival.revision), None)
        if same is not None and same.sha256 != arrival.sha256:
            _end(arrival, "rejected", "intake.conflict", same.order_id, f"revision {arrival.revision[:40]} arrived before with other content")
        elif same is not None:
            _end(arrival, "duplicate", "intake.duplicate", same.order_id, "")
        elif revision_order(arrival.revision) < revision_order(newest.revision):
            _end(arrival, "duplicate", "intake.older_revision", newest.order_id, f"revision {newest.revision[:40]} is known")
        else:
            superseded += [order.order_id for order in orders if order.state == "open"]
    return superseded


def _end(arrival: Arrival, outcome: str, code: str, order_id: UUID, message: str) -> None:
    arrival.outcome, arrival.code, arrival.order_id, arrival.message = outcome, code, order_id, message


def first_move(arrival: Arrival, *, holds: bool) -> Move:
    """Return how an accepted row enters: as context, held for its batch, or straight to route."""
    if arrival.is_context:
        return SHELVE
    return HOLD if holds else ENTER
