"""Publishing: contracts, cells and floors become immutable rows. What is published under a name and version never changes."""

from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from contracts.errors import BadContract, BadFloor, NotFound
from contracts.floor import Floor, Flow, parse_floor
from contracts.identity import new_id
from contracts.language import Contract
from queues.audit import record_audit
from queues.database import Connection, now, transaction
from queues.floors import FloorRow, newest_floors
from workcells.appliers import NAMES as APPLIERS
from workcells.appliers import applier_class
from workcells.registry import Cell, Registry
from workcells.shapes.catalogue import SHAPES

BUILT_IN_FLOOR = Path(__file__).with_name("built_in.yaml")


@dataclass(frozen=True, slots=True)
class PublishedFloor:
    """A floor in force, with the id of its row."""

    id: UUID
    floor: Floor


def publish_cell(conn: Connection, cell: Cell, *, by: str) -> bool:
    """Store a cell's contract and soul; return False when they were there already.

    Raises BadContract when the version was published with other content: raise its version.
    """
    contract = cell.contract
    sha256 = bytes.fromhex(contract.sha256)
    with transaction(conn, None):
        conn.execute("SELECT pg_advisory_xact_lock(hashtext('shopfloor.contracts'))")
        row = published_row(conn, contract)
        new = row is None
        if row is None:
            row = conn.execute(
                "INSERT INTO contracts (name, version, sha256, body, published_by) VALUES (%s, %s, %s, %s, %s) RETURNING id",
                [contract.name, str(contract.version), sha256, contract.body, by],
            ).fetchone()
            assert row is not None
            record_audit(conn, None, by=by, action="contract.publish", about=contract.key, payload=contract.sha256)
        source = bytes.fromhex(cell.source.sha256)
        conn.execute(
            "INSERT INTO cells (contract_id, source_sha256, soul) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            [row[0], source, cell.source.soul_text],
        )
    return new


def published_row(conn: Connection, contract: Contract) -> tuple[int] | None:
    """Return the row of this very contract, None when its version was never published.

    Raises BadContract when the version was published with other content.
    """
    key = [contract.name, str(contract.version)]
    row = conn.execute("SELECT id, sha256 FROM contracts WHERE name = %s AND version = %s", key).fetchone()
    if row is not None and row[1] != bytes.fromhex(contract.sha256):
        raise BadContract(
            f"contract {contract.key} is published with other content: published versions never change",
            hint=f"raise `version` in {contract.name}/contract.yaml",
            code="contract.published",
        )
    return (row[0],) if row is not None else None


# The row stays, for the pair of who and when; without a number in it, it limits nothing.
_LIFT_LIMITS = """
UPDATE lanes SET max_active = NULL, per_minute = NULL, changed_at = clock(), changed_by = %s
 WHERE workspace_id = %s AND name <> ALL (%s) AND (max_active IS NOT NULL OR per_minute IS NOT NULL)
"""


def publish_floor(conn: Connection, workspace: UUID, floor: Floor, registry: Registry, *, by: str) -> PublishedFloor:
    """Make a floor the one in force, with its pods; publishing the one in force again changes nothing.

    A pod's autonomy and a lane's limits follow the floor. Raises BadFloor when it names a cell or shape that does not exist.
    """
    check_floor(floor, registry)
    with transaction(conn, workspace):
        conn.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"floor {workspace}"])
        if any(row.sha256 == bytes.fromhex(floor.sha256) for row in newest_floors(conn)):
            return floor_in_force(conn, workspace)
        for name, autonomy in floor.pods.items():
            conn.execute(
                "INSERT INTO pods (id, workspace_id, name, autonomy) VALUES (%s, %s, %s, %s) "
                "ON CONFLICT (workspace_id, name) DO UPDATE SET autonomy = excluded.autonomy",
                [new_id(), workspace, name, autonomy],
            )
        for lane, limits in floor.lanes.items():
            conn.execute(
                "INSERT INTO lanes (workspace_id, name, max_active, per_minute, changed_by) VALUES (%s, %s, %s, %s, %s) "
                "ON CONFLICT (workspace_id, name) DO UPDATE SET max_active = excluded.max_active, per_minute = excluded.per_minute, "
                "changed_at = clock(), changed_by = excluded.changed_by",
                [workspace, lane, limits.max_active, limits.per_minute, by],
            )
        conn.execute(_LIFT_LIMITS, [by, workspace, list(floor.lanes)])
        floor_id = new_id(now(conn))
        conn.execute(
            "INSERT INTO floors (id, workspace_id, sha256, body, published_by) VALUES (%s, %s, %s, %s, %s)",
            [floor_id, workspace, bytes.fromhex(floor.sha256), floor.body, by],
        )
        record_audit(conn, workspace, by=by, action="floor.publish", about=str(floor_id), payload=floor.sha256)
    return PublishedFloor(floor_id, floor)


def check_floor(floor: Floor, registry: Registry) -> None:
    """Return when every shape, cell and applier that the floor names exists, and they fit together. Raises BadFloor."""
    for flow in floor.flows.values():
        if flow.shape not in SHAPES:
            raise BadFloor(f"flow {flow.name} takes shape {flow.shape!r}: expected one of {', '.join(sorted(SHAPES))}")
        if flow.applier and flow.applier not in APPLIERS:
            raise BadFloor(f"flow {flow.name} names applier {flow.applier!r}: expected one of {', '.join(sorted(APPLIERS))}")
        for cell in flow.cells:
            if cell not in registry.by_name:
                raise BadFloor(f"flow {flow.name} routes to cell {cell!r}: expected one of {', '.join(sorted(registry.by_name))}")
            if flow.applier:
                _check_fit(flow, registry.by_name[cell].contract)


def _check_fit(flow: Flow, contract: Contract) -> None:
    """Refuse a cell whose proposals the flow's applier could never compare or carry out: better here than at the first apply."""
    applier = applier_class(flow.applier)
    for clause in contract.proposes.values():
        at = f"flow {flow.name}: cell {contract.name} proposes {clause.action}"
        if applier.actions is not None and clause.action not in applier.actions:
            raise BadFloor(f"{at}, which applier {flow.applier} cannot do: it does {', '.join(sorted(applier.actions))}")
        unseen = sorted(set(clause.depends_on) - applier.fields) if applier.fields is not None else []
        if unseen:
            readable = ", ".join(sorted(applier.fields or ()))
            raise BadFloor(f"{at}, resting on {', '.join(unseen)}, which applier {flow.applier} cannot read: it reads {readable}")


def floor_in_force(conn: Connection, workspace: UUID) -> PublishedFloor:
    """Return the newest published floor of a workspace. Raises NotFound when there is none."""
    with transaction(conn, workspace):
        rows = newest_floors(conn)
    if not rows:
        raise NotFound("this workspace has no floor", hint="shopfloor up")
    return published_floor(rows[0])


def published_floor(row: FloorRow) -> PublishedFloor:
    """Return the floor that a row holds."""
    return PublishedFloor(row.id, parse_floor(row.body.decode(), f"floor {row.id}"))


def floor_file(path: Path | None) -> Path | None:
    """Return the floor file that a command means: the given one, else the nearest floor.yaml upward; None without one."""
    return path or next((up / "floor.yaml" for up in (Path.cwd(), *Path.cwd().parents) if (up / "floor.yaml").is_file()), None)


def read_floor(path: Path | None) -> Floor:
    """Return the floor of a file: the given one, else the nearest floor.yaml upward, else the built-in one."""
    found = floor_file(path) or BUILT_IN_FLOOR
    try:
        # Looked at before it is opened: a named pipe would wait for its writer for ever.
        if found.exists() and not found.is_file():
            raise BadFloor(f"{found} is not a file", hint="check SHOPFLOOR_FLOOR")
        return parse_floor(found.read_text(encoding="utf-8"), str(found))
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise BadFloor(f"{found} cannot be read: {why}", hint="check SHOPFLOOR_FLOOR") from None
