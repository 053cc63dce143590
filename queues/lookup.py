"""Finding items: by what people type (an id, its beginning, a subject key), and by filters, a page at a time."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import Cursor
from psycopg.rows import dict_row, scalar_row
from contracts.errors import BadInput, NotFound, ShopfloorError
from contracts.excerpts import printable
from contracts.lifecycle import ARCHIVED, CLAIMABLE_STAGES, Reason, Stage, State, Wait
from queues.database import Connection, one_value
from queues.floors import newest_floors

_ID = re.compile(r"[0-9a-f-]+", re.IGNORECASE)
_LEAST_PREFIX = 8
_SPREAD = 20
"""Candidates that an ambiguous prefix is looked up for."""


class Found(NamedTuple):
    """An item and its order."""

    item_id: UUID
    order_id: UUID
    subject_key: str


# Three ways for each name, each the descent of one index, so that thousands of names are one statement.
_FIND = """
SELECT w.n, f.* FROM unnest(%s::uuid[], %s::uuid[], %s::text[]) WITH ORDINALITY AS w (low, high, key, n)
 CROSS JOIN LATERAL (
   (SELECT 'item' AS way, i.id, i.order_id, o.subject_key, o.flow, o.state = 'open' AS is_open
      FROM items i JOIN orders o ON o.id = i.order_id
     WHERE i.id BETWEEN w.low AND w.high ORDER BY i.id LIMIT %s)
    UNION ALL
   (SELECT 'order', i.id, i.order_id, o.subject_key, o.flow, o.state = 'open'
      FROM orders o JOIN items i ON i.order_id = o.id
     WHERE o.id BETWEEN w.low AND w.high ORDER BY o.id, i.id LIMIT %s)
    UNION ALL
   (SELECT 'subject', i.id, i.order_id, o.subject_key, o.flow, o.state = 'open'
      FROM orders o JOIN items i ON i.order_id = o.id
     WHERE o.subject_key = w.key AND o.workspace_id = ANY (workspaces_in_use())
     ORDER BY (o.state = 'open') DESC, (o.withdrawn_at IS NULL) DESC, o.created_at DESC, o.id DESC, i.id DESC
     LIMIT 2)) f
"""


def find_item(conn: Connection, text: str) -> Found:
    """Return the item that a person means: by item id, order id, the unique beginning of either, or subject key.

    A subject means its open order, else its newest that was not withdrawn, else its newest. Call inside a transaction over the workspace.
    Raises NotFound, and BadInput for a beginning that several share.
    """
    [found] = find_items(conn, [text])
    if isinstance(found, ShopfloorError):
        raise found
    return found


def find_items(conn: Connection, names: Sequence[str], *, exact: bool = False) -> list[Found | ShopfloorError]:
    """Return for each name what `find_item` finds, or the error that it raises, by one statement for all.

    With `exact`, a subject that is open in several flows is refused too: what is done to the wrong one stays done.
    """
    wanted = [name.strip() for name in names]
    bounds = [_bounds(name) or (None, None) for name in wanted]
    keys = [name if name and _is_storable(name) else None for name in wanted]
    rows: dict[int, list[_Row]] = {}
    for n, *row in conn.execute(_FIND, [[low for low, _ in bounds], [high for _, high in bounds], keys, _SPREAD, _SPREAD]):
        rows.setdefault(n, []).append(_Row(*row))
    return [_meant(name, rows.get(n, ()), exact=exact) for n, name in enumerate(wanted, 1)]


class _Row(NamedTuple):
    way: str
    item_id: UUID
    order_id: UUID
    subject_key: str
    flow: str
    is_open: bool

    @property
    def found(self) -> Found:
        """The item and its order."""
        return Found(self.item_id, self.order_id, self.subject_key)


def _meant(name: str, rows: Sequence[_Row], *, exact: bool) -> Found | ShopfloorError:
    for way in ("item", "order"):
        found = [row for row in rows if row.way == way]
        if len({row.order_id for row in found}) > 1:
            many = f"{len(found)} or more" if len(found) == _SPREAD else str(len(found))
            return BadInput(
                f"{many} items start with {printable(name)!r}: expected one",
                hint="type more of its id: shopfloor items",
                code="id.ambiguous",
            )
        if found:
            return found[-1].found
    found = [row for row in rows if row.way == "subject"]
    if not found:
        return NotFound(
            f"no item, order or subject {printable(name)!r} in this workspace",
            hint="shopfloor items   ·   what has ended: shopfloor items --archived",
        )
    several = [row for row in found if row.is_open]
    if exact and len(several) > 1:
        flows = " and ".join(f"{row.flow} (item {row.item_id})" for row in several)
        return BadInput(f"{printable(name)!r} is open in more than one flow, such as {flows}: expected one", hint="name it by item id")
    return found[0].found


def _is_storable(text: str) -> bool:
    """Return whether the database can hold a text: a word of the command line may have bytes that are no UTF-8."""
    return not any(char == "\0" or "\ud800" <= char <= "\udfff" for char in text)


def _bounds(text: str) -> tuple[UUID, UUID] | None:
    """Return the first and last id that start with `text`; None when it cannot be the beginning of an id."""
    digits = text.replace("-", "").lower()
    if not _ID.fullmatch(text) or not _LEAST_PREFIX <= len(digits) <= 32:
        return None
    return UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))


@dataclass(frozen=True, slots=True)
class Filter:
    """Which items are wanted; what is empty does not narrow."""

    lane: str = ""
    stage: str = ""
    state: str = ""
    reason: str = ""
    flow: str = ""
    order: UUID | None = None
    batch: UUID | None = None
    archived: bool = False


def filter_of(conn: Connection, said: Mapping[str, Any]) -> Filter:
    """Return the filter that a person's words make: an order by what `find_item` takes, a batch by what `find_batch` takes.

    What is not said is left out, and a state in which items have ended looks there. Call inside a transaction over the workspace.
    Raises BadInput for an empty word: it would mean everything, and is a variable that was never set.
    Raises NotFound for a lane or flow that never was.
    """
    for name, value in said.items():
        if value == "":
            raise BadInput(f"--{name} is empty: expected a value, or no --{name} at all", code="input.empty")
    wanted = {name: value for name, value in said.items() if value}
    if "lane" in wanted and not _holds(conn, _LANE_KNOWN, {"lane": wanted["lane"], "plain": [stage.value for stage in CLAIMABLE_STAGES]}):
        raise NotFound(f"no lane {printable(wanted['lane'])!r}: no worker ever served it and nothing is in it", hint="shopfloor status")
    if "flow" in wanted and not _holds(conn, _FLOW_HAS_BATCHES, wanted) and not is_flow(conn, wanted["flow"]):
        raise NotFound(f"no flow {printable(wanted['flow'])!r} in this workspace", hint="shopfloor floor show")
    if "order" in wanted:
        wanted["order"] = find_item(conn, wanted["order"]).order_id
    if "batch" in wanted:
        wanted["batch"] = find_batch(conn, wanted["batch"])
    if "state" in wanted and is_archived_state(wanted["state"]):
        wanted["archived"] = True
    return Filter(**wanted)


_FLOORS = 50
"""Floors that are searched for a flow, the newest first: items of one that was dropped may still be in progress."""


def is_flow(conn: Connection, name: str) -> bool:
    """Return whether one of the newest floors has a flow of this name. Call inside a transaction over the workspace."""
    # Not at the top: YAML costs every command that reads no floor a tenth of a second.
    from contracts.documents import load_yaml

    return any(name in load_yaml(row.body, f"floor {row.id}").get("flows", {}) for row in newest_floors(conn, each=_FLOORS))


_LANE_KNOWN = """
SELECT %(lane)s = ANY (%(plain)s)
    OR EXISTS (SELECT FROM workers WHERE %(lane)s = ANY (lanes))
    OR EXISTS (SELECT FROM queue WHERE lane = %(lane)s)
"""
_FLOW_HAS_BATCHES = "SELECT EXISTS (SELECT FROM batches WHERE flow = %(flow)s)"


def _holds(conn: Connection, question: str, values: Mapping[str, Any]) -> bool:
    return bool(one_value(conn, question, values))


# OFFSET 0: the view is asked row by row as the page is walked in order of ids, never for the whole queue at once.
_FROM_QUEUE = """
SELECT q.item_id AS id, o.subject_key AS subject, q.flow, coalesce(k.name, '') AS cell, q.lane, q.stage, q.state,
       s.reason, s.since, s.waiting_on, CASE WHEN q.state = 'ready' THEN q.due_at END AS due_at, i.batch_id,
       i.payload_sha256
  FROM queue q {reasons}
  JOIN items i ON i.id = q.item_id JOIN orders o ON o.id = q.order_id LEFT JOIN contracts k ON k.id = q.contract_id
 WHERE {where} ORDER BY q.item_id LIMIT %(limit)s
"""
_IDS_FROM_QUEUE = """
SELECT q.item_id FROM queue q JOIN items i ON i.id = q.item_id
  {reasons} WHERE {where} ORDER BY q.item_id LIMIT %(limit)s
"""
_REASONS = "CROSS JOIN LATERAL (SELECT * FROM item_reasons t WHERE t.item_id = q.item_id OFFSET 0) s"
_FROM_ARCHIVE = """
SELECT q.item_id AS id, o.subject_key AS subject, q.flow, coalesce(k.name, '') AS cell, q.lane, q.stage, q.state,
       NULL AS reason, q.archived_at AS since, '' AS waiting_on, NULL AS due_at, i.batch_id, i.payload_sha256,
       q.finding
  FROM archived_items q JOIN items i ON i.id = q.item_id JOIN orders o ON o.id = q.order_id
  LEFT JOIN contracts k ON k.id = q.contract_id
 WHERE {where} ORDER BY q.item_id DESC LIMIT %(limit)s
"""
_WAITS = frozenset(wait.value for wait in Wait)
# What a reason implies of the row itself comes before the view is asked: the view costs lookups for each row.
_IMPLIES = {Reason.SILENT: "q.state = 'leased'", Reason.LEASED: "q.state = 'leased'"} | {
    reason: f"q.wait = '{reason}'" if reason.value in _WAITS else "q.state = 'ready'"
    for reason in Reason
    if reason not in (Reason.SILENT, Reason.LEASED)
}


def list_items(conn: Connection, wanted: Filter, *, limit: int, after: UUID | None = None) -> list[dict[str, Any]]:
    """Return up to `limit` items: those in progress oldest first, archived ones newest first.

    `after` is the last id of the page before. Call inside a transaction over the workspace.
    """
    where, values = _narrowed(wanted, after)
    statement = (_FROM_ARCHIVE if wanted.archived else _FROM_QUEUE).format(where=where, reasons=_REASONS)
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement, values | {"limit": limit}).fetchall()


def list_ids(conn: Connection, wanted: Filter, *, limit: int) -> list[UUID]:
    """Return up to `limit` ids of items in progress, oldest first, without asking why each one waits."""
    where, values = _narrowed(wanted)
    statement = _IDS_FROM_QUEUE.format(where=where, reasons=_REASONS if wanted.reason else "")
    return [item for (item,) in conn.execute(statement, values | {"limit": limit})]


def _narrowed(wanted: Filter, after: UUID | None = None) -> tuple[str, dict[str, Any]]:
    """Return a filter as a condition on q, i and s, with its values."""
    values: dict[str, Any] = {"after": after, "order": wanted.order, "batch": wanted.batch}
    where = ["q.workspace_id = ANY (workspaces_in_use())"]
    for name in ("lane", "stage", "state", "flow"):
        if value := getattr(wanted, name):
            values[name] = value
            where.append(f"q.{name} = %({name})s")
    if wanted.reason and wanted.archived:
        raise BadInput("--reason goes with items in progress: what has ended waits for nothing", hint="shopfloor items --archived")
    if wanted.stage and wanted.stage not in (names := [stage.value for stage in Stage if stage is not Stage.NONE]):
        raise BadInput(f"unknown stage {printable(wanted.stage)!r}; one of {', '.join(names)}")
    if wanted.reason:
        reason = reason_named(wanted.reason)
        values["reason"] = reason.value
        where += [_IMPLIES[reason], "s.reason = %(reason)s"]
    if wanted.order is not None:
        where.append("q.order_id = %(order)s")
    if wanted.batch is not None:
        where.append("i.batch_id = %(batch)s")
    if after is not None:
        where.append("q.item_id < %(after)s" if wanted.archived else "q.item_id > %(after)s")
    return " AND ".join(where), values


def reason_named(text: str) -> Reason:
    """Return a reason by its name. Raises BadInput with the names that there are."""
    try:
        return Reason(text)
    except ValueError:
        raise BadInput(f"unknown reason {printable(text)!r}; one of {', '.join(Reason)}") from None


def is_archived_state(state: str) -> bool:
    """Return whether items of a state have left the queue. Raises BadInput for an unknown state."""
    try:
        return State(state) in ARCHIVED
    except ValueError:
        names = ", ".join(state for state in State if state is not State.NONE)
        raise BadInput(f"unknown state {printable(state)!r}; one of {names}") from None


_BATCH = "SELECT id FROM batches WHERE id BETWEEN %s AND %s ORDER BY id LIMIT 2"


def find_batch(conn: Connection, text: str) -> UUID:
    """Return a batch by its id, the unique beginning of it, or `latest`. Raises NotFound or BadInput.

    Call inside a transaction over the workspace.
    """
    cursor: Cursor[UUID] = conn.cursor(row_factory=scalar_row)
    if text == "latest":
        found = cursor.execute("SELECT id FROM batches ORDER BY created_at DESC, id DESC LIMIT 1").fetchall()
    else:
        bounds = _bounds(text.strip())
        found = cursor.execute(_BATCH, bounds).fetchall() if bounds else []
    if len(found) > 1:
        raise BadInput(f"several batches start with {printable(text)!r}: expected one", hint="shopfloor batch list")
    if not found:
        raise NotFound(f"no batch {printable(text)!r} in this workspace", hint="shopfloor batch list")
    return found[0]
