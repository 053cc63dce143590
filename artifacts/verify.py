"""Artifacts, found by id or hash and verified: do the bytes still hash to their name?"""

from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.rows import class_row, dict_row, scalar_row
from artifacts.blobs import BlobStore, sha256_of
from contracts.errors import BadInput, NotFound, Unavailable
from contracts.excerpts import printable
from queues.database import Connection, transaction

PAGE_ROWS = 500
_PREFIX_DIGITS = 8
"""The fewest digits of a hash that name an artifact."""
_PREFIX_ROWS = 20
"""Rows of a beginning that are compared for being the same bytes."""


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
SELECT a.id, a.item_id, a.kind, a.sha256, a.size_bytes, a.store, a.fence, a.created_at, a.erased_at,
       k.name AS contract,
       k.version,
       o.subject_key AS subject
  FROM artifacts a
  JOIN items i ON i.id = a.item_id
  JOIN orders o ON o.id = i.order_id
  LEFT JOIN contracts k ON k.id = a.contract_id
 WHERE {where}
 LIMIT {limit}
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
        elif _PREFIX_DIGITS <= len(digits) <= 64:
            values |= {"least": bytes.fromhex(digits.ljust(64, "0")), "most": bytes.fromhex(digits.ljust(64, "f"))}
            where.append("a.sha256 BETWEEN %(least)s AND %(most)s")
        else:
            raise ValueError(text)
    except ValueError:
        raise BadInput(
            f"{printable(text)!r} names no artifact: expected its id, or {_PREFIX_DIGITS} to 64 digits of its SHA-256",
            hint="the artifacts of an item: shopfloor show ITEM",
        ) from None
    # Several items may have left the same bytes; the beginning of a hash may be that of other bytes.
    limit = 1 if len(digits) in (36, 64) else _PREFIX_ROWS
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(_FIND.format(where=" AND ".join(where), limit=limit), values).fetchall()
    if not rows:
        raise NotFound(f"no artifact {printable(text)!r} in this workspace", hint="those of an item: shopfloor show ITEM")
    if len({row["sha256"] for row in rows}) > 1:
        raise BadInput(
            f"several artifacts begin with {printable(text)!r}: expected one",
            hint="type more of its SHA-256: shopfloor show ITEM",
            code="id.ambiguous",
        )
    return rows[0]


_BODY = "SELECT bytes FROM bodies WHERE item_id = %s AND sha256 = %s"


def read_artifact(conn: Connection, store: BlobStore, artifact: dict[str, Any]) -> bytes:
    """Return an artifact's exact bytes.

    Raises NotFound when they were erased, Unavailable when they are missing or damaged.
    """
    if artifact["erased_at"] is not None:
        raise NotFound(f"the bytes of artifact {artifact['id']} were erased on {artifact['erased_at']:%Y-%m-%d}")
    with conn.cursor(row_factory=scalar_row) as cursor:
        in_row: bytes | None = cursor.execute(_BODY, [artifact["item_id"], artifact["sha256"]]).fetchone()
    data = store.get(artifact["sha256"]) if in_row is None else in_row
    if sha256_of(data) != artifact["sha256"]:
        raise Unavailable(
            f"artifact {artifact['id']} does not match its name {artifact['sha256'].hex()}: its row was changed",
            hint="restore it from a backup, and run: shopfloor doctor --strict",
            code="unavailable.body",
        )
    return data


class _Stored(NamedTuple):
    """One artifact with where its bytes are."""

    item_id: UUID
    id: UUID
    kind: str
    sha256: bytes
    is_erased: bool
    in_row: bool
    matches: bool | None
    """Whether bytes in the database hash to the name; None for others."""


# The database hashes the bytes that it holds: they need not travel.
_PAGE = """
SELECT a.item_id,
       a.id,
       a.kind,
       a.sha256,
       a.erased_at IS NOT NULL AS is_erased,
       b.sha256 IS NOT NULL AS in_row,
       sha256(b.bytes) = a.sha256 AS matches
  FROM artifacts a
  LEFT JOIN bodies b ON b.item_id = a.item_id AND b.sha256 = a.sha256
 WHERE (%(item)s::uuid IS NULL OR a.item_id = %(item)s)
   AND (a.item_id, a.id) > (%(after_item)s, %(after)s)
 ORDER BY a.item_id, a.id
 LIMIT %(limit)s
"""


def verify(conn: Connection, store: BlobStore, workspace: UUID, *, item_id: UUID | None = None) -> Iterator[Checked]:
    """Yield every artifact of an item, or of the workspace, with what is wrong with its bytes; a page in memory at a time."""
    after_item, after = UUID(int=0), UUID(int=0)
    while True:
        values = {"item": item_id, "after_item": after_item, "after": after, "limit": PAGE_ROWS}
        with transaction(conn, workspace), conn.cursor(row_factory=class_row(_Stored)) as cursor:
            page = cursor.execute(_PAGE, values).fetchall()
        for one in page:
            yield Checked(one.item_id, one.id, one.kind, one.sha256, _problem(store, one), one.is_erased)
        if len(page) < PAGE_ROWS:
            return
        after_item, after = page[-1].item_id, page[-1].id


def _problem(store: BlobStore, stored: _Stored) -> str:
    if stored.is_erased:
        return ""
    if stored.in_row:
        return "" if stored.matches else "its bytes in the database do not match its name"
    if not store.path(stored.sha256).exists():
        return "its bytes are in neither the database nor the store"
    try:
        store.get(stored.sha256)
    except Unavailable as error:
        return error.message
    return ""
