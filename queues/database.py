"""Connections: one login per role, workspaces set per transaction, errors in our words."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from uuid import UUID

import psycopg
from contracts.errors import Unavailable
from psycopg.conninfo import conninfo_to_dict

Connection = psycopg.Connection

_CONNECT_SECONDS = 5

# Without statistics PostgreSQL sorts the whole backlog for every claim; workers read by index, always.
_WORKER_PLANS = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET plan_cache_mode = force_generic_plan; SET jit = off"


def connect(url: str, *, name: str = "shopfloor", worker: bool = False) -> Connection:
    """Return an autocommit connection, its search path on the schema of shopfloor.

    With `worker`, plans are pinned to index reads. Raises Unavailable within 5 s; no password is ever in the message.
    """
    try:
        conn = psycopg.connect(url, autocommit=True, connect_timeout=_CONNECT_SECONDS, application_name=name, prepare_threshold=2)
    except psycopg.OperationalError as error:
        raise Unavailable(
            f"the database at {where(url)} cannot be reached: {_first_line(error)}",
            hint="check SHOPFLOOR_DATABASE_URL, or start the embedded services: shopfloor up",
            code="unavailable.database",
        ) from None
    conn.execute("SET search_path = shopfloor")
    if worker:
        conn.execute(_WORKER_PLANS)
    return conn


def where(url: str) -> str:
    """Return host, port and database of a URL: what may be printed of it."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error:
        return "a malformed URL"
    host = parts.get("host") or "localhost"
    return f"{host}:{parts.get('port') or 5432}/{parts.get('dbname') or ''}"


@contextmanager
def transaction(conn: Connection, workspaces: UUID | Iterable[UUID] | None) -> Iterator[Connection]:
    """Open a transaction that sees the rows of `workspaces` and no others; None sees none, or all for sweep and audit."""
    with conn.transaction():
        if workspaces is not None:
            ids = [workspaces] if isinstance(workspaces, UUID) else workspaces
            conn.execute("SELECT set_config('shopfloor.workspace', %s, true)", [",".join(map(str, ids))])
        yield conn


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
