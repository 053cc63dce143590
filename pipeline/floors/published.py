"""Published contracts and floors, read for people. Nothing in this module changes anything."""

import shlex
from typing import Any
from uuid import UUID

import structlog
from psycopg.rows import dict_row
from contracts.errors import BadInput, NotFound
from contracts.language import Contract, Version, parse_contract
from queues.database import Connection, transaction
from queues.floors import newest_floors
from workcells.registry import Registry

log = structlog.get_logger()

_CONTRACTS = """
SELECT k.name,
       k.version,
       encode(k.sha256, 'hex') AS sha256,
       k.published_at,
       k.published_by,
       (SELECT count(*) FROM queue q WHERE q.contract_id = k.id) AS in_progress,
       k.body
  FROM contracts k
 WHERE %(name)s::text IS NULL OR k.name = %(name)s
"""
_PREFIX_CHARS = 4


def contracts(conn: Connection, workspace: UUID, name: str | None = None) -> list[dict[str, Any]]:
    """Return the published contracts by name, each name's newest version first.

    Each with how many items in progress in the workspace are pinned to it.
    """
    with transaction(conn, workspace), conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(_CONTRACTS, {"name": name}).fetchall()
    rows.sort(key=lambda row: _order(row["version"]), reverse=True)
    return sorted(rows, key=lambda row: str(row["name"]))


_PUBLISHED_CODE = """
SELECT k.sha256, c.source_sha256
  FROM contracts k
  JOIN cells c ON c.contract_id = k.id
 WHERE k.sha256 = ANY(%s)
"""


def as_published(conn: Connection, registry: Registry) -> Registry:
    """Return the cells without those whose soul or code is not what was published under their version, each said in the log.

    Their items wait for a worker that has the published code.
    """
    published: dict[bytes, bytes] = dict(conn.execute(_PUBLISHED_CODE, [registry.hashes]).fetchall())
    kept = []
    for cell in registry.by_sha256.values():
        source = published.get(bytes.fromhex(cell.contract.sha256))
        if source is None or source == bytes.fromhex(cell.source.sha256):
            kept.append(cell)
            continue
        hint = f"raise `version` in {cell.source.folder / 'contract.yaml'} and publish it, or bring the published code back"
        log.error("cell.other_code", cell=cell.contract.key, hint=hint)
    return Registry(kept)


def contract_named(conn: Connection, workspace: UUID, wanted: str) -> tuple[dict[str, Any], Contract]:
    """Return a published contract by `name`, its newest version, or by `name@1.2.3`. Raises NotFound."""
    name, at, version = wanted.partition("@")
    if at and not version:
        raise BadInput(f"{wanted!r}: expected NAME or NAME@VERSION, such as issue_review@1.0.0")
    rows = contracts(conn, workspace, name)
    if not rows:
        raise NotFound(f"no published contract {name[:60]!r}", hint="shopfloor contract list")
    found = [row for row in rows if not version or row["version"] == version]
    if not found:
        there_are = ", ".join(row["version"] for row in rows)
        raise NotFound(
            f"contract {name} has no version {version[:20]!r}: there are {there_are}",
            hint=f"shopfloor contract show {shlex.quote(name)}",
        )
    return found[0], parse_contract(found[0]["body"])


def _order(version: str) -> Version:
    return Version(*map(int, version.split(".")))


def floors(conn: Connection, workspace: UUID, *, limit: int) -> list[dict[str, Any]]:
    """Return the floors that were put in force in a workspace, the newest first: the one in force."""
    with transaction(conn, workspace):
        rows = newest_floors(conn, each=limit)
    return [
        {
            "id": row.id,
            "sha256": row.sha256.hex(),
            "published_at": row.published_at,
            "published_by": row.published_by,
            "body": row.body,
        }
        for row in rows
    ]


def floor_version(conn: Connection, workspace: UUID, wanted: str | None) -> dict[str, Any]:
    """Return the floor in force, or the one whose id or hash begins with `wanted`. Raises NotFound or BadInput."""
    rows = floors(conn, workspace, limit=1 if wanted is None else 10_000)
    if wanted is None:
        if not rows:
            raise NotFound("this workspace has no floor", hint="shopfloor up")
        return rows[0]
    if len(wanted) < _PREFIX_CHARS:
        raise BadInput(f"{wanted!r} is too short: give {_PREFIX_CHARS} characters or more of a floor's id or hash")
    # The same content may have been in force twice: a hash then means its latest time.
    found = [row for row in rows if str(row["id"]).startswith(wanted.lower())] or [
        row for row in rows if row["sha256"].startswith(wanted.lower())
    ]
    if not found:
        raise NotFound(f"no floor begins with {wanted[:60]!r}", hint="shopfloor floor history")
    if len({row["sha256"] for row in found}) > 1:
        raise BadInput(f"{len(found)} floors begin with {wanted!r}: give more of the id", hint="shopfloor floor history")
    return found[0]
