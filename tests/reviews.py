"""People and their work, for tests: who may decide, and something to decide on."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from contracts.lifecycle import Role
from pipeline.access.tokens import ensure_actor, issue_token
from pipeline.review.clearances import Ballot
from pipeline.review.inbox import OpenProposal, read_inbox
from pipeline.startup.compose import Shop
from queues.database import Connection
from tests.in_process import Road, issue, merged
from workcells.appliers.tracker_seed import seed
from workcells.shapes.catalogue import SHAPES

LATER = datetime(2025, 6, 1, tzinfo=UTC)
"""An as-of at which the rows of `tests.in_process` are old enough for the gate."""


def person(shop: Shop, name: str, *roles: str, kind: str = "person") -> str:
    """Return a token of somebody with these roles in workspace main."""
    with shop.connect(Role.OPERATE) as conn:
        workspace = shop.workspace_id(conn)
        actor = ensure_actor(conn, workspace, name, kind=kind, roles=roles)
        return issue_token(conn, workspace, actor, label="test", by="test")


def propose(road: Road, count: int, *, submitter: str = "intake") -> list[OpenProposal]:
    """Run `count` issues that a merged pull request fixes up to their clearance, and return the open proposals.

    The tracker holds every issue, so that what is approved can be applied.
    """
    rows: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        rows += [issue(number), merged(1000 + number, fixes=number)]
    fill_tracker(road.shop.tracker_dir, rows)
    road.take_in(rows, as_of=LATER, submitter=submitter)
    road.run()
    found = open_proposals(road.shop)
    assert len(found) == count
    return found


def fill_tracker(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Make the tracker hold the issues of these rows."""
    folder.mkdir(parents=True, exist_ok=True)
    seed(folder, [SHAPES["github_issue"].normalise(row) for row in rows])


def open_proposals(shop: Shop) -> list[OpenProposal]:
    """Return what waits for reviewers."""
    with shop.connect(Role.READ) as conn:
        return read_inbox(conn, shop.store, shop.workspace_id(conn))


def ballot(one: OpenProposal) -> Ballot:
    """Return an answer's address: the proposal and its bytes as they are."""
    return Ballot(one.id, one.sha256)


def look(admin: Connection, query: str, *values: Any) -> list[Any]:
    """Return rows as the superuser sees them; single columns unwrapped."""
    rows = admin.execute(query, values).fetchall()
    return [row[0] if len(row) == 1 else row for row in rows]


def item_of(admin: Connection, subject: str) -> UUID:
    """Return the newest item of a subject."""
    found: UUID = look(
        admin, "SELECT i.id FROM items i JOIN orders o ON o.id = i.order_id WHERE o.subject_key = %s ORDER BY i.id DESC", subject
    )[0]
    return found
