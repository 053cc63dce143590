"""Artifacts, looked up and checked: do the bytes still have the name that they were filed under?"""

from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.rows import dict_row
from artifacts.blobs import BlobStore, name_of
from contracts.errors import BadInput, NotFound, Unavailable
from contracts.excerpts import printable
from queues.database import Connection, transaction

PAGE_ROWS = 500
_LEAST_PREFIX = 8
_SPREAD = 20
"""Hits of a beginning that are looked at for being the same bytes."""


class Checked(NamedTuple):
    """One artifact and what is wrong with it; `problem` is empty for a sound one."""

    item_id: UUID
    id: UUID
    kind: str
    sha256: bytes
    problem: str
    is_erased: bool


# Hashes and ids of artifacts have no index of their own (each would cost every commit): this reads the table until
# the first hit. `--item` makes it a look-up.
_FIND = """
SELECT a.id, a.item_id, a.kind, a.sha256, a.size_bytes, a.store, a.fence, a.created_at, a.erased_at, k.name AS contract,
       k.version, o.subject_key AS subject
  FROM artifacts a JOIN items i ON i.id = a.item_id JOIN orders o ON o.id = i.order_id
  LEFT JOIN contracts k ON k.id = a.contract_id
 WHERE {where} LIMIT {most}
"""


def find_artifact(conn: Connection, text: str, item_id: UUID | None = None) -> dict[str, Any]:
    """Return an artifact by its id, its SHA-256 or the beginning of that.

    Call inside a transaction over the workspace. Raises NotFound, and BadInput for a beginning that is shared.
    """
    values: dict[str, Any] = {"item": item_id}
    where = ["a.item_id = %(item)s"] if item_id else []
    digits = text.strip().lower()
    try:
        if len(digits) == 36:
            where.append("a.id = %(id)s")
            values["id"] = UUID(digits)
        elif _LEAST_PREFIX <= len(digits) <= 64:
            values |= {"least": bytes.fromhex(digits.ljust(64, "0")), "most": bytes.fromhex(digits.ljust(64, "f"))}
            where.append("a.sha256 BETWEEN %(least)s AND %(most)s")
        else:
            raise ValueError(text)
    except ValueError:
        raise BadInput(
            f"{printable(text)!r} names no artifact: expected its id, or {_LEAST_PREFIX} to 64 digits of its SHA-256",
            hint="shopfloor show ITEM lists the artifacts of an item",
        ) from None
    # Several items may have left the same bytes; the beginning of a hash may be that of other bytes.
    most = 1 if len(digits) in (36, 64) else _SPREAD
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(_FIND.format(where=" AND ".join(where), most=most), values).fetchall()
    if not rows:
        raise NotFound(f"no artifact {printable(text)!r} in this workspace", hint="shopfloor show ITEM lists those of an item")
    if len({row["sha256"] for row in rows}) > 1:
        raise BadInput(
            f"several artifacts begin with {printable(text)!r}: expected one", hint="type more of its SHA-256", code="id.ambiguous"
        )
    return rows[0]


def read_artifact(conn: Connection, store: BlobStore, artifact: dict[str, Any]) -> bytes:
    """Return an artifact's exact bytes.

    Raises NotFound when they were erased, Unavailable when they are missing or damaged.
    """
    if artifact["erased_at"] is not None:
        raise NotFound(f"the bytes of artifact {artifact['id']} were erased on {artifact['erased_at']:%Y-%m-%d}")
    row = conn.execute("SELECT bytes FROM bodies WHERE item_id = %s AND sha256 = %s", [artifact["item_id"], artifact["sha256"]]).fetchone()
    data: bytes = row[0] if row else store.get(artifact["sha256"])
    if name_of(data) != artifact["sha256"]:
        raise Unavailable(
            f"artifact {artifact['id']} does not match its name {artifact['sha256'].hex()}: its row was changed",
            hint="restore it from a backup, and run: shopfloor doctor --strict",
            code="unavailable.body",
        )
    return data


# The database hashes what it holds: the bytes need not travel.
_PAGE = """
SELECT a.item_id, a.id, a.kind, a.sha256, a.erased_at IS NOT NULL, b.sha256 IS NOT NULL, sha256(b.bytes) = a.sha256
  FROM artifacts a LEFT JOIN bodies b ON b.item_id = a.item_id AND b.sha256 = a.sha256
 WHERE (%(item)s::uuid IS NULL OR a.item_id = %(item)s) AND (a.item_id, a.id) > (%(after_item)s, %(after)s)
 ORDER BY a.item_id, a.id LIMIT %(limit)s
"""


def verify(conn: Connection, store: BlobStore, workspace: UUID, *, item_id: UUID | None = None) -> Iterator[Checked]:
    """Yield every artifact of an item, or of the workspace, recomputed against its name; a page in memory at a time."""
    after = (UUID(int=0), UUID(int=0))
    while True:
        values = {"item": item_id, "after_item": after[0], "after": after[1], "limit": PAGE_ROWS}
        with transaction(conn, workspace):
            page = conn.execute(_PAGE, values).fetchall()
        for item, artifact, kind, sha256, is_erased, in_row, matches in page:
            problem = "" if is_erased else _problem(store, sha256, in_row=in_row, matches=matches)
            yield Checked(item, artifact, kind, sha256, problem, is_erased)
        if len(page) < PAGE_ROWS:
            return
        after = (page[-1][0], page[-1][1])


def _problem(store: BlobStore, sha256: bytes, *, in_row: bool, matches: bool) -> str:
    if in_row:
        return "" if matches else "its bytes in the database do not match its name"
    if not store.path(sha256).exists():
        return "its bytes are in neither the database nor the store"
    try:
        store.get(sha256)
    except Unavailable as error:
        return error.message
    return ""
