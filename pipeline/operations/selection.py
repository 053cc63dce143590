"""Picking: which items an operator means, by name, by what they have in common, or by a rule over their payload."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from artifacts.blobs import BlobStore
from contracts.errors import ShopfloorError
from contracts.expressions import Expression
from pipeline.operations.payloads import ScanStats, matching
from queues.database import Connection, transaction
from queues.lookup import Filter, find_items, list_ids

MOST = 100_000
"""Items that one command may pick by filters."""


@dataclass(slots=True)
class Picked:
    """The items that were meant, and the names that mean none."""

    items: list[UUID]
    unknown: list[tuple[str, ShopfloorError]] = field(default_factory=list)
    looked: ScanStats | None = None
    """How far a rule looked; None when there was no rule."""
    is_cut: bool = False
    """True when more than MOST match; the first of them are picked."""


def picked(conn: Connection, workspace: UUID, wanted: Filter, *, most: int = MOST) -> Picked:
    """Return the items on the line that match a filter, at most `most`."""
    with transaction(conn, workspace):
        found = list_ids(conn, wanted, limit=most + 1)
    return Picked(found[:most], is_cut=len(found) > most)


def picked_by_rule(
    conn: Connection, store: BlobStore, workspace: UUID, wanted: Filter, where: Expression, *,
    most: int = MOST, tell: Callable[[int], None] = lambda _: None,
) -> Picked:  # fmt: skip
    """Return the items on the line that match a filter and a rule over their payload, at most `most`.

    Unlike a list, which may stop and go on by its cursor, this looks at all: half of what was meant is not what was meant.
    What is kept is ids. `tell` is called now and then with the number of payloads looked at.
    """
    looked = ScanStats()
    found = Picked([], looked=looked)
    after = None
    while True:
        part = matching(conn, store, workspace, wanted, where, limit=most + 1 - len(found.items), after=after)
        found.items += [row["id"] for row in part.items]
        looked.add(part.looked)
        after = part.next_cursor
        if after is None or len(found.items) > most:
            found.is_cut = len(found.items) > most
            del found.items[most:]
            return found
        tell(looked.payloads)


def named(conn: Connection, workspace: UUID, names: Sequence[str]) -> Picked:
    """Return the items that names mean, each once however often it is named, and for every other name why it means none."""
    found = Picked([])
    with transaction(conn, workspace):
        meant = find_items(conn, names, exact=True)
    for name, one in zip(names, meant, strict=True):
        if isinstance(one, ShopfloorError):
            found.unknown.append((name, one))
        else:
            found.items.append(one.item_id)
    found.items = list(dict.fromkeys(found.items))
    return found
