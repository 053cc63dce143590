"""Selection: which items an operator means, by name, by what they have in common, or by a rule over their payload."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from psycopg.rows import scalar_row
from artifacts.blobs import BlobStore
from contracts.errors import ShopfloorError
from contracts.expressions import Expression
from pipeline.operations.payloads import ScanStats, find_matching
from queues.database import Connection, transaction
from queues.lookup import Filter, find_batch, find_items, list_ids

MAX_SELECTED = 100_000
"""Items that one command may select by filters."""


@dataclass(slots=True)
class Selection:
    """The items that were meant, and the names that mean none."""

    items: list[UUID]
    unknown: list[tuple[str, ShopfloorError]] = field(default_factory=list)
    scan: ScanStats | None = None
    """What a rule has read; None when there was no rule."""
    is_cut: bool = False
    """True when more than the limit match; the first of them are selected."""


def select_by_filter(conn: Connection, workspace: UUID, wanted: Filter, *, limit: int = MAX_SELECTED) -> Selection:
    """Return the items in progress that match a filter, at most `limit`."""
    with transaction(conn, workspace):
        found = list_ids(conn, wanted, limit=limit + 1)
    return Selection(found[:limit], is_cut=len(found) > limit)


def select_by_rule(
    conn: Connection, store: BlobStore, workspace: UUID, wanted: Filter, rule: Expression, *,
    limit: int = MAX_SELECTED, on_progress: Callable[[int], None] = lambda _: None,
) -> Selection:  # fmt: skip
    """Return the items in progress that match a filter and a rule over their payload, at most `limit`.

    Unlike a list, which may stop and go on by its cursor, this reads every payload: an act on half of what was meant is
    another act. Only ids are kept. `on_progress` is called now and then with the number of payloads read.
    """
    scan = ScanStats()
    found = Selection([], scan=scan)
    after = None
    while True:
        part = find_matching(conn, store, workspace, wanted, rule, limit=limit + 1 - len(found.items), after=after)
        found.items += [row["id"] for row in part.items]
        scan.add(part.scan)
        after = part.next_cursor
        if after is None or len(found.items) > limit:
            found.is_cut = len(found.items) > limit
            del found.items[limit:]
            return found
        on_progress(scan.payloads)


_OF_BATCH = """
SELECT i.id
  FROM batch_rows r
  JOIN orders o ON o.id = r.order_id
  JOIN items i ON i.order_id = o.id
 WHERE r.batch_id = %s
   AND r.outcome = 'accepted'
   AND o.withdrawn_at IS NULL
 ORDER BY r.row_no, i.id
 LIMIT %s
"""


def select_by_batch(conn: Connection, workspace: UUID, name: str, *, limit: int = MAX_SELECTED) -> Selection:
    """Return the items of a batch, ended ones too, whose revisions were not withdrawn, at most `limit`."""
    with transaction(conn, workspace):
        batch = find_batch(conn, name)
        found: list[UUID] = conn.cursor(row_factory=scalar_row).execute(_OF_BATCH, [batch, limit + 1]).fetchall()
    return Selection(found[:limit], is_cut=len(found) > limit)


def select_by_name(conn: Connection, workspace: UUID, names: Sequence[str]) -> Selection:
    """Return the items that names mean, without repetition, and for every other name why it means none."""
    selection = Selection([])
    with transaction(conn, workspace):
        found = find_items(conn, names, exact=True)
    for name, one in zip(names, found, strict=True):
        if isinstance(one, ShopfloorError):
            selection.unknown.append((name, one))
        else:
            selection.items.append(one.item_id)
    selection.items = list(dict.fromkeys(selection.items))
    return selection
