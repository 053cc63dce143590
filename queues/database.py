"""Connections: one login per role, workspaces set per transaction, errors in our words."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import scalar_row
from contracts.errors import BadSetting, Unavailable

Connection = psycopg.Connection

# For each address that a name has. A command that cannot reach its database says so within five seconds.
_CONNECT_SECONDS = 4

# Without statistics PostgreSQL sorts the whole backlog for every claim; workers read by index, always.
_WORKER_PLANS = """
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET plan_cache_mode = force_generic_plan;
SET jit = off
"""


def connect(url: str, *, name: str = "shopfloor", worker: bool = False) -> Connection:
    """Return an autocommit connection, its search path on the schema of shopfloor.

    With `worker`, plans are pinned to index reads. Raises Unavailable within 5 s; no password is ever in the message.
    """
    try:
        conn = psycopg.connect(url, autocommit=True, connect_timeout=_CONNECT_SECONDS, application_name=name, prepare_threshold=2)
    except psycopg.ProgrammingError:
        # What libpq says here repeats the URL, password and all.
        raise BadSetting(
            "a database URL cannot be read: expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE",
            hint="check SHOPFLOOR_DATABASE_URL and the URLs of the roles; a password's special characters are written as %XX",
        ) from None
    except psycopg.OperationalError as error:
        raise Unavailable(
            f"the database at {where(url)} cannot be reached: {first_line(error)}",
            hint="check SHOPFLOOR_DATABASE_URL, or start the embedded services: shopfloor up",
            code="unavailable.database",
        ) from None
    conn.execute("SET search_path = shopfloor")
    if worker:
        pin_plans(conn)
        if conn.info.server_version >= 170000:
            # A process that freezes in the middle of a pipeline does not count as idle, and would keep its rows locked.
            conn.execute("SET transaction_timeout = '30s'")
    return conn


def pin_plans(conn: Connection) -> None:
    """Make this session read by index alone: on a table that was empty a minute ago no statistics say so."""
    conn.execute(_WORKER_PLANS)


# Of what it ignores on its way out of a transaction that failed: the failure itself is raised, and is told once.
logging.getLogger("psycopg").setLevel(logging.ERROR)


def where(url: str) -> str:
    """Return host, port and database of a URL: what may be printed of it."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error:
        return "a malformed URL"
    host = parts.get("host") or "localhost"
    return f"{host}:{parts.get('port') or 5432}/{parts.get('dbname') or ''}"


_SET_WORKSPACE = "SELECT set_config('shopfloor.workspace', %s, true)"
_SET_WORKSPACE_ASYNC = """
SELECT set_config('shopfloor.workspace', %s, true),
       set_config('synchronous_commit', 'off', true)
"""


@contextmanager
def transaction(
    conn: Connection, workspaces: UUID | Iterable[UUID] | None, *, pipelined: bool = False, durable: bool = True
) -> Iterator[Connection]:
    """Open a transaction that sees the rows of `workspaces` and no others; None sees none, or all for sweep and audit.

    `pipelined` sends statements without waiting for the answer of each: a round trip for every fetch instead of for
    every statement. An error then surfaces at the next fetch or at the end. COPY is not possible in it.

    Not `durable` (with workspaces alone), its commit is not waited for on disk: a crash of the server may forget it, and never tears it.
    """
    with conn.pipeline() if pipelined else nullcontext(), conn.transaction():
        if workspaces is not None:
            ids = [workspaces] if isinstance(workspaces, UUID) else workspaces
            conn.execute(_SET_WORKSPACE if durable else _SET_WORKSPACE_ASYNC, [",".join(map(str, ids))])
        yield conn


_OUTAGES = ("08", "40", "53", "55P03", "57P", "58")
"""SQLSTATE classes that say something of the server and nothing of a statement (PostgreSQL, appendix A): connection lost,
rolled back for another's sake, out of disk, memory or connections, lock not granted in time, shut down, I/O error."""


def is_connection_error(error: Exception) -> bool:
    """Return whether an error is the server's or the connection's, so that it says nothing about what was being written.

    psycopg files more under OperationalError: a statement that was cancelled for its length, or a row too large for its
    index. Those are about the work, and come back with it. So does PipelineAborted: an earlier statement of the same
    pipeline was refused.
    """
    if isinstance(error, psycopg.InterfaceError):
        return True
    if not isinstance(error, psycopg.OperationalError) or isinstance(error, psycopg.errors.PipelineAborted):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(_OUTAGES)


def first_line(error: Exception) -> str:
    """Return the first line of an error's message in at most 300 characters, or its type when it has none."""
    message = str(error).strip()
    return message.splitlines()[0][:300] if message else type(error).__name__


def one_value(conn: Connection, statement: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> Any:
    """Return the first column of the first row that a statement gives; None when it gives none."""
    with conn.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute(statement, values).fetchone()


def now(conn: Connection) -> datetime:
    """Return the database's now: that of the transaction, where one is open."""
    at: datetime = one_value(conn, "SELECT clock()")
    return at
