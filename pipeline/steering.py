"""Steering: what operators do to items, one or thousands at a time, with a result for each.

Every verb picks its items, locks them in id order, says for each why it may not, and moves the rest in one
statement a group. Nothing here interrupts a call to a target: what is being applied is left alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple
from uuid import UUID

from contracts.errors import Conflict, NotFound, ShopfloorError
from contracts.identity import new_id
from contracts.lifecycle import RETURN, Stage, State, Wait, lane_of, move
from queues import marks
from queues.database import Connection, transaction
from queues.mover import Planned, Route, perform

CHUNK = 1000
"""Items that one transaction moves."""
MOST = 100_000
"""Items that one command may pick by filters."""


@dataclass(frozen=True, slots=True)
class Pick:
    """Which items are meant: by id, or all that match every filter given."""

    ids: tuple[UUID, ...] = ()
    lane: str | None = None
    stage: str | None = None
    state: str | None = None
    reason: str | None = None
    flow: str | None = None
    order: UUID | None = None
    batch: UUID | None = None

    @property
    def is_empty(self) -> bool:
        """True when nothing was said: then nothing is meant, not everything."""
        return not any(getattr(self, part.name) for part in fields(self))


class Standing(NamedTuple):
    """Where an item stands as it is steered; `stage` is empty when it is not on the line."""

    item_id: UUID
    fence: int
    stage: str
    state: str
    lane: str
    wait: str | None
    routed: bool
    crashes: int
    rounds: int
    subject: str
    in_flight: bool
    """True when an apply was begun whose effect is not known."""


@dataclass(frozen=True, slots=True)
class Steered:
    """What became of one item; `error` says why nothing did."""

    item_id: UUID
    subject: str
    outcome: str = ""
    error: ShopfloorError | None = None


_COLUMNS = """
q.item_id, q.fence, q.stage, q.state, q.lane, q.wait, q.contract_id IS NOT NULL, q.crashes, q.rounds, o.subject_key,
EXISTS (SELECT FROM applies a JOIN proposals p ON p.id = a.proposal_id WHERE p.item_id = q.item_id AND a.state IN ('intent', 'unknown'))
"""
_FILTERS = """
SELECT q.item_id FROM queue q
 WHERE (%(lane)s::text IS NULL OR q.lane = %(lane)s) AND (%(stage)s::text IS NULL OR q.stage = %(stage)s)
   AND (%(state)s::text IS NULL OR q.state = %(state)s) AND (%(flow)s::text IS NULL OR q.flow = %(flow)s)
   AND (%(order)s::uuid IS NULL OR q.order_id = %(order)s)
   AND (%(batch)s::uuid IS NULL OR EXISTS (SELECT FROM items i WHERE i.id = q.item_id AND i.batch_id = %(batch)s))
   AND (%(reason)s::text IS NULL OR EXISTS (SELECT FROM standing s WHERE s.item_id = q.item_id AND s.reason = %(reason)s))
 ORDER BY q.item_id LIMIT %(most)s
"""


def picked(conn: Connection, workspace: UUID, pick: Pick, *, most: int = MOST) -> list[UUID]:
    """Return the ids that a pick means, at most `most` when it goes by filters; ids given by name are not looked up here."""
    if pick.ids:
        return list(pick.ids)
    values = {part.name: getattr(pick, part.name) for part in fields(pick) if part.name != "ids"}
    with transaction(conn, workspace):
        return [item for (item,) in conn.execute(_FILTERS, values | {"most": most})]


Plan = Callable[[Standing], Planned]
"""Returns one item's move, or raises why it may not."""


def requeue(
    conn: Connection,
    workspace: UUID,
    items: Sequence[UUID],
    *,
    by: str,
    why: str,
    stagger_seconds: float = 0.0,
    dry_run: bool = False,
) -> list[Steered]:
    """Make items due now, or spread over `stagger_seconds`; dead ones live again with their attempts counted anew."""
    gap = stagger_seconds / max(1, len(items) - 1) if stagger_seconds else 0.0
    place = {item: k for k, item in enumerate(items)}

    def plan(stands: Standing) -> Planned:
        if stands.wait in (Wait.APPROVAL, Wait.SECOND_APPROVAL):
            raise Conflict(
                f"{_name(stands)} waits for a reviewer",
                hint=f"shopfloor review show {stands.item_id}, or shopfloor rework {stands.item_id}",
            )
        return Planned(stands.item_id, stands.fence, _route(stands, "requeue", why), "", gap * place[stands.item_id])

    return _steer(
        conn, workspace, items, plan, by=by, action="requeue", why=why, outcome="due", dry_run=dry_run, forgive=True
    )


def rework(
    conn: Connection, workspace: UUID, items: Sequence[UUID], *, by: str, why: str, dry_run: bool = False
) -> list[Steered]:
    """Send waiting items to rework, with why as a finding for the next attempt; open proposals end as superseded."""

    def plan(stands: Standing) -> Planned:
        _refuse_in_flight(stands)
        if not stands.routed:
            raise Conflict(
                f"{_name(stands)} was never routed to a cell: there is nothing to do again",
                hint=f"shopfloor requeue {stands.item_id}",
            )
        if (stands.stage, stands.state) == (Stage.QA, State.WAITING):
            return Planned(stands.item_id, stands.fence, Route((RETURN,), lane_of(Stage.REWORK), (why[:300],)))
        return Planned(stands.item_id, stands.fence, _route(stands, "send_back", why, Stage.REWORK))

    def before(conn: Connection, stood: Sequence[Standing]) -> None:
        conn.execute("SELECT void_proposals(%s, 'superseded')", [[stands.item_id for stands in stood]])
        conn.execute(
            "INSERT INTO findings (item_id, id, workspace_id, fence, stage, code, message, at) "
            "SELECT t.item_id, t.id, %s, t.fence, t.stage, 'operator.returned', %s, clock() FROM unnest(%s::uuid[], %s::uuid[], %s::int[], %s::text[]) AS t (item_id, id, fence, stage)",
            [
                workspace,
                why,
                [s.item_id for s in stood],
                [new_id() for _ in stood],
                [s.fence for s in stood],
                [s.stage for s in stood],
            ],
        )

    return _steer(
        conn,
        workspace,
        items,
        plan,
        by=by,
        action="rework",
        why=why,
        outcome="in rework",
        dry_run=dry_run,
        before=before,
        forgive=True,
    )


def cancel(
    conn: Connection, workspace: UUID, items: Sequence[UUID], *, by: str, why: str, dry_run: bool = False
) -> list[Steered]:
    """End items wherever no call to a target can be in flight; their open proposals and clearances end with them."""

    def plan(stands: Standing) -> Planned:
        _refuse_in_flight(stands)
        if stands.state == State.DEAD:
            raise Conflict(
                f"{_name(stands)} is a dead letter",
                hint=f"shopfloor dead prune {stands.item_id}, or shopfloor dead replay {stands.item_id}",
            )
        if (stands.stage, stands.state) == (Stage.APPLY, State.LEASED):
            raise Conflict(
                f"{_name(stands)} is being applied right now: its call may be on its way",
                hint=f"shopfloor why {stands.item_id}, then try again",
            )
        return Planned(stands.item_id, stands.fence, _route(stands, "cancel", why))

    def before(conn: Connection, stood: Sequence[Standing]) -> None:
        conn.execute("SELECT void_proposals(%s, 'cancelled')", [[stands.item_id for stands in stood]])

    return _steer(
        conn,
        workspace,
        items,
        plan,
        by=by,
        action="cancel",
        why=why,
        outcome="cancelled",
        dry_run=dry_run,
        before=before,
    )


def _name(stands: Standing) -> str:
    return f"item {stands.item_id} ({stands.subject[:80]})"


def _refuse_in_flight(stands: Standing) -> None:
    if stands.in_flight and stands.state != State.LEASED:
        raise Conflict(
            f"{_name(stands)} has an apply whose effect is not known: ending it now would lose what it did",
            hint=f"shopfloor apply probe {stands.item_id}", code="apply.unknown",
        )  # fmt: skip


def _route(stands: Standing, name: str, why: str, to: Stage | None = None) -> Route:
    try:
        step = move(name, Stage(stands.stage), State(stands.state), to)
    except KeyError:
        raise _cannot(stands, name) from None
    return Route((step,), to.value if to else stands.lane, (why[:300],))


def _cannot(stands: Standing, name: str) -> Conflict:
    if stands.state == State.LEASED:
        return Conflict(
            f"{_name(stands)} is being worked on: {name} needs it to stand still",
            hint=f"shopfloor why {stands.item_id}",
        )
    if stands.stage == Stage.INTAKE:
        return Conflict(f"{_name(stands)} waits for its batch to be complete", hint=f"shopfloor why {stands.item_id}")
    return Conflict(
        f"{_name(stands)} is {stands.stage}/{stands.state}: it cannot {name.replace('_', ' ')} from there",
        hint=f"shopfloor why {stands.item_id}",
    )


_LOCK = f"SELECT {_COLUMNS} FROM queue q JOIN orders o ON o.id = q.order_id WHERE q.item_id = ANY(%s) ORDER BY q.item_id FOR NO KEY UPDATE OF q"
_LOOK = (
    f"SELECT {_COLUMNS} FROM queue q JOIN orders o ON o.id = q.order_id WHERE q.item_id = ANY(%s) ORDER BY q.item_id"
)
_GONE = """
SELECT i.id, o.subject_key, a.state FROM items i JOIN orders o ON o.id = i.order_id LEFT JOIN archived_items a ON a.item_id = i.id WHERE i.id = ANY(%s)
"""


def _steer(
    conn: Connection, workspace: UUID, items: Sequence[UUID], plan: Plan, *, by: str, action: str, why: str, outcome: str, dry_run: bool,
    before: Callable[[Connection, Sequence[Standing]], None] | None = None, forgive: bool = False,
) -> list[Steered]:  # fmt: skip
    """Carry a plan out, a chunk to a transaction, and return what became of each item in the order asked for."""
    results: dict[UUID, Steered] = {}
    for start in range(0, len(items), CHUNK):
        chunk = list(items[start : start + CHUNK])
        with transaction(conn, workspace):
            stood = [Standing(*row) for row in conn.execute(_LOOK if dry_run else _LOCK, [chunk]).fetchall()]
            planned = []
            for stands in stood:
                try:
                    planned.append((stands, plan(stands)))
                except ShopfloorError as error:
                    results[stands.item_id] = Steered(stands.item_id, stands.subject, error=error)
            results |= _not_on_line(conn, [item for item in chunk if item not in {stands.item_id for stands in stood}])
            if planned and not dry_run:
                _carry_out(conn, workspace, planned, by=by, action=action, why=why, before=before, forgive=forgive)
            said = f"would be {outcome}" if dry_run else outcome
            results |= {stands.item_id: Steered(stands.item_id, stands.subject, said) for stands, _ in planned}
    return [results[item] for item in items]


def _carry_out(
    conn: Connection, workspace: UUID, planned: Sequence[tuple[Standing, Planned]], *, by: str, action: str, why: str,
    before: Callable[[Connection, Sequence[Standing]], None] | None, forgive: bool,
) -> None:  # fmt: skip
    stood = [stands for stands, _ in planned]
    if before:
        before(conn, stood)
    # The rows are locked: none of these can be late.
    perform(conn, [wish for _, wish in planned], by=by)
    if forgive:
        marks.forgive(conn, [stands.item_id for stands in stood])
    audit(conn, workspace, by, action, [stands.item_id for stands in stood], why)


def _not_on_line(conn: Connection, items: Sequence[UUID]) -> dict[UUID, Steered]:
    """Return for each item that has no queue row whether it ended, and how, or never was."""
    if not items:
        return {}
    found: dict[UUID, Steered] = {}
    for item, subject, state in conn.execute(_GONE, [list(items)]).fetchall():
        error = Conflict(
            f"item {item} ({subject[:80]}) has ended {state or 'meanwhile'}",
            hint=f"shopfloor history {item}",
            code="item.ended",
        )
        found[item] = Steered(item, subject, error=error)
    for item in items:
        found.setdefault(
            item, Steered(item, "", error=NotFound(f"no item {item} in this workspace", hint="shopfloor items"))
        )
    return found


def audit(conn: Connection, workspace: UUID, by: str, action: str, items: Sequence[Any], why: str) -> None:
    """Record one act on many things as one audit row, in the caller's transaction."""
    shown = ",".join(str(item) for item in items)
    conn.execute(
        "SELECT record_audit(%s, %s, %s, %s, %s)",
        [workspace, by, f"steer.{action}", f"{len(items)} items", f"{why}\n{shown}".strip()],
    )
