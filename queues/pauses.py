"""Pauses: switches on a scope, with who, why and until. Claiming reads them, so they hold from the next claim on."""

import re
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from psycopg.rows import class_row
from contracts.errors import BadInput, Conflict, NotFound
from contracts.excerpts import printable
from contracts.identity import new_id
from contracts.lifecycle import CLAIMABLE_STAGES, Stage
from queues.audit import record_audit
from queues.database import Connection, one_value, transaction
from queues.lookup import Found, find_item, is_flow
from queues.predicates import COVERS

KINDS = {
    "all": "everything, in every workspace",
    "workspace": "this workspace",
    "pod:NAME": "the work of one pod",
    "flow:NAME": "one flow",
    "lane:NAME": "one lane, such as apply.tracker",
    "cell:NAME": "one workcell",
    "order:NAME": "one order: its id, or a subject key",
    "item:NAME": "one item: its id, or a subject key",
}
"""The scopes that can be paused, as people type them."""

_NAMED = ("pod", "flow", "lane", "cell", "order", "item")
_LANE = re.compile(r"[a-z][a-z0-9_.-]{0,80}")


class Scope(NamedTuple):
    """What a pause covers, as its row says it; `workspace_id` is None for everything."""

    kind: str
    value: str
    workspace_id: UUID | None


class Pause(NamedTuple):
    """One pause, with the words that lift it."""

    id: UUID
    scope: str
    why: str
    actor: str
    created_at: datetime
    until: datetime | None


def scope_of(conn: Connection, workspace: UUID, text: str) -> Scope:
    """Return the scope that a person typed.

    Raises BadInput for what is none, NotFound for a pod, flow, order or item that is not there.
    """
    kind, _, name = text.partition(":")
    if text == "all":
        return Scope("all", "all", None)
    if text == "workspace":
        return Scope("workspace", str(workspace), workspace)
    if kind not in _NAMED or not name:
        raise BadInput(f"unknown scope {text[:80]!r}; one of {', '.join(KINDS)}", code="pause.scope")
    if kind in ("lane", "cell"):
        lane = _lane(kind, name)
        cell = lane.removeprefix("cell.")
        if cell != lane and conn.execute("SELECT FROM contracts WHERE name = %s", [cell]).fetchone() is None:
            raise NotFound(f"no cell {cell[:80]!r} was ever published", hint="shopfloor contract list")
        return Scope(kind, lane, workspace)
    return Scope(kind, _known(conn, workspace, kind, name), workspace)


def _lane(kind: str, name: str) -> str:
    lane = f"cell.{name}" if kind == "cell" else name
    head, _, tail = lane.partition(".")
    # Lanes have no rows of their own: a name that no lane can have would be a pause that never holds anything.
    with_names = {"cell", Stage.APPLY.value}
    plain = {stage.value for stage in CLAIMABLE_STAGES} - {Stage.APPLY.value, Stage.WORKCELL.value}
    if not _LANE.fullmatch(lane) or (head in with_names) != bool(tail) or head not in with_names | plain:
        raise BadInput(
            f"unknown {kind} {name[:80]!r}; one of {', '.join(sorted(plain))}, cell.NAME or apply.NAME",
            code="pause.scope",
        )
    return lane


_OPEN = {
    "order": "SELECT FROM orders WHERE id = %s AND state = 'open'",
    "item": "SELECT FROM queue WHERE item_id = %s",
}


def _is_open(conn: Connection, kind: str, found: Found) -> bool:
    return conn.execute(_OPEN[kind], [found.order_id if kind == "order" else found.item_id]).fetchone() is not None


def _known(conn: Connection, workspace: UUID, kind: str, name: str) -> str:
    if kind == "flow":
        return _flow(conn, workspace, name)
    with transaction(conn, workspace):
        if kind in ("order", "item"):
            found = find_item(conn, name)
            if not _is_open(conn, kind, found):
                seen = printable(found.subject_key, 80)
                raise Conflict(
                    f"{kind} {seen} has ended: a pause would hold nothing", hint=f"shopfloor why {found.item_id}", code="item.ended"
                )
            return str(found.order_id if kind == "order" else found.item_id)
        pod: str | None = one_value(conn, "SELECT id::text FROM pods WHERE name = %s", [name])
    if pod is None:
        raise NotFound(f"no pod {name[:80]!r} in this workspace", hint="shopfloor floor show")
    return pod


def _flow(conn: Connection, workspace: UUID, name: str) -> str:
    """Return a flow of any floor that was ever in force: items of one that was dropped may still be in progress."""
    with transaction(conn, workspace):
        is_known = is_flow(conn, name)
    if not is_known:
        raise NotFound(f"no flow {name[:80]!r} in this workspace", hint="shopfloor floor show")
    return name


def pause(conn: Connection, workspace: UUID, scope: Scope, *, why: str, by: str, until: datetime | None = None) -> UUID:
    """Stop the scope from starting work and return the pause; what is running ends and is recorded."""
    if not why.strip():
        raise BadInput("a pause needs a reason for whoever finds it", hint="--why 'release freeze until Monday'")
    made = new_id()
    with transaction(conn, workspace):
        conn.execute(
            "INSERT INTO pauses (id, workspace_id, kind, scope, why, actor, until) VALUES (%s, %s, %s, %s, %s, %s, %s)",
            [made, scope.workspace_id, scope.kind, scope.value, why.strip(), by, until],
        )
        record_audit(conn, scope.workspace_id, by=by, action="pause", about=f"{scope.kind}:{scope.value}", payload=why)
    return made


_LIFT = """
UPDATE pauses
   SET lifted_at = clock(),
       lifted_by = %s
 WHERE kind = %s
   AND scope = %s
   AND workspace_id IS NOT DISTINCT FROM %s
   AND lifted_at IS NULL
   AND (until IS NULL OR until > clock())
RETURNING id
"""


def resume(conn: Connection, workspace: UUID, scope: Scope, *, by: str) -> int:
    """Lift every pause on exactly this scope and return how many there were. Raises NotFound when there was none."""
    with transaction(conn, workspace):
        lifted = conn.execute(
            _LIFT,
            [by, scope.kind, scope.value, scope.workspace_id],
        ).fetchall()
        if not lifted:
            raise NotFound("no active pause has exactly this scope", hint="shopfloor pause list", code="pause.none")
        about, payload = f"{scope.kind}:{scope.value}", f"{len(lifted)} lifted"
        record_audit(conn, scope.workspace_id, by=by, action="resume", about=about, payload=payload)
    return len(lifted)


_PAUSES = """
SELECT p.id,
       CASE p.kind
         WHEN 'all' THEN 'all'
         WHEN 'workspace' THEN 'workspace'
         WHEN 'pod' THEN 'pod:' || coalesce(d.name, p.scope)
         WHEN 'cell' THEN 'cell:' || substr(p.scope, 6)
         ELSE p.kind || ':' || p.scope
       END AS scope,
       p.why, p.actor, p.created_at, p.until
  FROM pauses p
  LEFT JOIN pods d ON d.id::text = p.scope AND p.kind = 'pod'
"""
_ACTIVE = f"""
{_PAUSES}
 WHERE p.lifted_at IS NULL AND (p.until IS NULL OR p.until > clock())
 ORDER BY p.created_at, p.id
"""
# Also those on the lane that an item whose proposal is open goes to when it is approved.
_COVERING = f"""
{_PAUSES}
 WHERE EXISTS (
   SELECT FROM queue i
    CROSS JOIN LATERAL (
      SELECT i.lane
       UNION
      SELECT 'apply.' || o.adapter
        FROM proposals o
       WHERE o.item_id = i.item_id AND o.state IN ('open', 'approved')) AS l (lane)
    CROSS JOIN LATERAL (SELECT i.workspace_id, i.pod_id, i.order_id, i.item_id, i.flow, l.lane) q
    WHERE i.item_id = %s AND {COVERS})
 ORDER BY p.created_at, p.id
"""


def active_pauses(conn: Connection, workspace: UUID) -> list[Pause]:
    """Return the pauses that hold now in a workspace, the oldest first, those on everything included."""
    with transaction(conn, workspace):
        return conn.cursor(row_factory=class_row(Pause)).execute(_ACTIVE).fetchall()


def pauses_covering(conn: Connection, item_id: UUID) -> list[Pause]:
    """Return the active pauses that cover an item where it is, or where its open proposal goes. Call inside a transaction."""
    return conn.cursor(row_factory=class_row(Pause)).execute(_COVERING, [item_id]).fetchall()
