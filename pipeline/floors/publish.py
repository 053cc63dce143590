"""Publishing: contracts, cells and floors become immutable rows; what is published under a name and version never changes."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from psycopg.rows import class_row, scalar_row
from contracts.compatibility import breaking_changes, predecessor
from contracts.errors import BadContract, BadFloor, NotFound
from contracts.floor import Floor, parse_floor
from contracts.identity import new_id
from contracts.language import Contract, parse_contract
from pipeline.floors.check import check_floor
from queues.audit import record_audit
from queues.database import Connection, now, transaction
from queues.floors import FloorRow, newest_floors
from workcells.registry import Cell, Registry

BUILT_IN_FLOOR = Path(__file__).with_name("built_in.yaml")


@dataclass(frozen=True, slots=True)
class PublishedFloor:
    """A floor in force, with the id of its row."""

    id: UUID
    floor: Floor


class _PublishedContract(NamedTuple):
    id: int
    sha256: bytes
    source_sha256: bytes | None
    """Of the code and soul; None for a contract without a cell."""


_LOCK_CONTRACTS = "SELECT pg_advisory_xact_lock(hashtext('shopfloor.contracts'))"
_FIND_CONTRACT = """
SELECT k.id, k.sha256, c.source_sha256
  FROM contracts k
  LEFT JOIN cells c ON c.contract_id = k.id
 WHERE k.name = %s
   AND k.version = %s
"""
_OTHER_VERSIONS = "SELECT body FROM contracts WHERE name = %s"
_INSERT_CONTRACT = """
INSERT INTO contracts (name, version, sha256, body, published_by)
VALUES (%s, %s, %s, %s, %s)
RETURNING id
"""
_INSERT_CELL = """
INSERT INTO cells (contract_id, source_sha256, soul)
VALUES (%s, %s, %s)
    ON CONFLICT DO NOTHING
"""


def publish_cell(conn: Connection, cell: Cell, *, by: str) -> bool:
    """Store a cell's contract and soul, with the hash of its code; return False when they were there already.

    Raises BadContract when the version was published with other content, or claims to be compatible with one that it breaks.
    """
    contract = cell.contract
    with transaction(conn, None):
        conn.execute(_LOCK_CONTRACTS)
        contract_id = published_id(conn, cell)
        is_new = contract_id is None
        if contract_id is None:
            values = [contract.name, str(contract.version), bytes.fromhex(contract.sha256), contract.body, by]
            with conn.cursor(row_factory=scalar_row) as cursor:
                contract_id = cursor.execute(_INSERT_CONTRACT, values).fetchone()
            record_audit(conn, None, by=by, action="contract.publish", about=contract.key, payload=contract.sha256)
        conn.execute(_INSERT_CELL, [contract_id, bytes.fromhex(cell.source.sha256), cell.source.soul_text])
    return is_new


def published_id(conn: Connection, cell: Cell) -> int | None:
    """Return the id of this very contract, None when its version was never published and may be.

    Raises BadContract when the version was published with another contract, soul or code, or breaks the one before it.
    """
    contract = cell.contract
    with conn.cursor(row_factory=class_row(_PublishedContract)) as cursor:
        row = cursor.execute(_FIND_CONTRACT, [contract.name, str(contract.version)]).fetchone()
    if row is None:
        _refuse_breaking(conn, contract)
        return None
    if row.sha256 != bytes.fromhex(contract.sha256):
        raise _published(contract, "other content")
    if row.source_sha256 not in (None, bytes.fromhex(cell.source.sha256)):
        raise _published(contract, "another soul or other code")
    return row.id


def _published(contract: Contract, other: str) -> BadContract:
    return BadContract(
        f"contract {contract.key} is published with {other}: published versions never change",
        hint=f"raise `version` in {contract.name}/contract.yaml",
        code="contract.published",
    )


def _refuse_breaking(conn: Connection, contract: Contract) -> None:
    """Raise BadContract when a version breaks the newest one that it claims to be compatible with."""
    with conn.cursor(row_factory=scalar_row) as cursor:
        bodies = cursor.execute(_OTHER_VERSIONS, [contract.name]).fetchall()
    others = {other.version: other for other in map(parse_contract, bodies)}
    before = predecessor(contract.version, others)
    if before is None or not (changes := breaking_changes(others[before], contract)):
        return
    next_one = f"{contract.version.major + 1}.0.0" if contract.version.major else f"0.{contract.version.minor + 1}.0"
    raise BadContract(
        f"contract {contract.key} breaks {contract.name}@{before}: {'; '.join(changes)}",
        hint=f"make it `version: {next_one}`, or take the change back",
        code="contract.breaking",
    )


_LOCK_FLOORS = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
_SET_AUTONOMY = """
INSERT INTO pods (id, workspace_id, name, autonomy)
VALUES (%s, %s, %s, %s)
    ON CONFLICT (workspace_id, name) DO UPDATE SET autonomy = excluded.autonomy
"""
_SET_LIMITS = """
INSERT INTO lanes (workspace_id, name, max_active, per_minute, changed_by)
VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (workspace_id, name) DO UPDATE
   SET max_active = excluded.max_active,
       per_minute = excluded.per_minute,
       changed_at = clock(),
       changed_by = excluded.changed_by
"""
# The row stays, for who changed it and when; without a number in it, it limits nothing.
_LIFT_LIMITS = """
UPDATE lanes
   SET max_active = NULL, per_minute = NULL, changed_at = clock(), changed_by = %s
 WHERE workspace_id = %s
   AND name <> ALL (%s)
   AND (max_active IS NOT NULL OR per_minute IS NOT NULL)
"""
_INSERT_FLOOR = "INSERT INTO floors (id, workspace_id, sha256, body, published_by) VALUES (%s, %s, %s, %s, %s)"


def publish_floor(conn: Connection, workspace: UUID, floor: Floor, registry: Registry, *, by: str) -> PublishedFloor:
    """Make a floor the one in force, with its pods; publishing the one in force again changes nothing.

    A pod's autonomy and a lane's limits follow the floor. Raises BadFloor for what `check_floor` refuses.
    """
    check_floor(floor, registry)
    sha256 = bytes.fromhex(floor.sha256)
    with transaction(conn, workspace):
        conn.execute(_LOCK_FLOORS, [f"floor {workspace}"])
        if any(row.sha256 == sha256 for row in newest_floors(conn)):
            return floor_in_force(conn, workspace)
        for pod, autonomy in floor.pods.items():
            conn.execute(_SET_AUTONOMY, [new_id(), workspace, pod, autonomy])
        for lane, limits in floor.lanes.items():
            conn.execute(_SET_LIMITS, [workspace, lane, limits.max_active, limits.per_minute, by])
        conn.execute(_LIFT_LIMITS, [by, workspace, list(floor.lanes)])
        floor_id = new_id(now(conn))
        conn.execute(_INSERT_FLOOR, [floor_id, workspace, sha256, floor.body, by])
        record_audit(conn, workspace, by=by, action="floor.publish", about=str(floor_id), payload=floor.sha256)
    return PublishedFloor(floor_id, floor)


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
            raise BadFloor(f"{found} is not a file", hint=_how_to_name(found))
        return parse_floor(found.read_text(encoding="utf-8"), str(found))
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise BadFloor(f"{found} cannot be read: {why}", hint=_how_to_name(found)) from None


def _how_to_name(path: Path) -> str:
    """Return what to do about a floor file that is none: where its name came from, or how to get one to begin with."""
    if os.environ.get("SHOPFLOOR_FLOOR") == str(path):
        return "SHOPFLOOR_FLOOR names it: set it to another file, or unset it"
    return f"looked in {Path.cwd()}; a file to begin with: shopfloor floor show > floor.yaml"
