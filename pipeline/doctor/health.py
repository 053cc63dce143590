"""Whether a factory can work at all: services, logins, workers, disk, clocks. What `shopfloor doctor` prints."""

import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Literal, NamedTuple

import psutil
import psycopg
from psycopg.rows import class_row
from contracts.errors import ShopfloorError
from contracts.lifecycle import Role
from pipeline.crew.crew_file import report
from pipeline.floors.publish import floor_in_force
from pipeline.startup.compose import Shop
from pipeline.sweeper.process import NAME as SWEEPER
from pipeline.worker.inline import lanes_of
from queues import schema
from queues.database import Connection, connect, one_value, transaction

OLDEST_POSTGRES = 15
_ALIVE_SECONDS = 30
_SKEW_SECONDS = 2.0
_BYTES_LOW = 2_000_000_000
_BYTES_FEW = 200_000_000

Status = Literal["ok", "notice", "warning", "failure"]


class CheckResult(NamedTuple):
    """One thing that was looked at."""

    name: str
    status: Status
    said: str
    hint: str = ""
    """What to type next; empty when nothing is to be done."""
    exit_code: int = 0
    """What the process should end with for it; 0 unless it is a failure."""


def failed(name: str, error: ShopfloorError) -> CheckResult:
    """Return the sign of an error."""
    return CheckResult(name, "failure", error.message, error.hint, error.exit_code)


def examine(shop: Shop) -> Iterator[CheckResult]:
    """Yield what was found, in the order in which an operator would look. Never raises for what it looks at."""
    yield from _logins(shop)
    try:
        with closing(shop.connect(Role.AUDIT, name="doctor")) as conn:
            yield from _database(conn)
            yield from _lanes(shop, conn)
            yield _sweeper(conn)
            yield _clock(conn)
    except ShopfloorError as error:
        yield failed("database", error)
    except psycopg.Error as error:
        yield CheckResult("database", "failure", f"it stopped answering: {type(error).__name__}", "shopfloor doctor", 6)
    yield _broker(shop)
    crew = report(shop)
    for line in crew.problems:
        hint = "fix what its log says: it is started again by itself" if crew.pid else "shopfloor up"
        yield CheckResult("crew", "failure", line, hint, 1)
    yield _folder("store", shop.store.folder, "bodies over 64 KiB")
    yield _folder("tracker", shop.tracker_dir, "what the applier tracker changes")
    yield CheckResult(
        "cells", "notice", "cells run as trusted code inside the worker: row security guards against mistakes, not against them"
    )


def worst(signs: list[CheckResult]) -> int:
    """Return the exit code for what was found: 6 when something cannot be reached, else that of the first failure."""
    codes = [sign.exit_code for sign in signs if sign.status == "failure"]
    return 6 if 6 in codes else next(iter(codes), 0)


def _logins(shop: Shop) -> Iterator[CheckResult]:
    """Try every role's own login: a wrong password shows in none of the others."""
    refused = []
    for role in Role:
        try:
            connect(shop.url(role), name="doctor").close()
        except ShopfloorError as error:
            refused.append(role.value)
            if len(refused) == 1:
                yield failed(f"login {schema.login(role)}", error)
    if len(refused) > 1:
        yield CheckResult("logins", "failure", f"these roles cannot log in either: {', '.join(refused[1:])}", exit_code=6)
    if not refused:
        yield CheckResult("logins", "ok", f"all {len(Role)} roles log in")


_RIGHTS = """
SELECT rolname
  FROM pg_roles
 WHERE rolname = ANY (%s)
   AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb)
 ORDER BY 1
"""


def _database(conn: Connection) -> Iterator[CheckResult]:
    major = conn.info.server_version // 10_000
    if major < OLDEST_POSTGRES:
        said = f"PostgreSQL {major}: expected {OLDEST_POSTGRES} or newer"
        yield CheckResult("database", "failure", said, "point SHOPFLOOR_DATABASE_URL at a newer server", 1)
    else:
        yield CheckResult("database", "ok", f"PostgreSQL {major}, schema version {schema.version_of(conn)}")
    mighty = [name for (name,) in conn.execute(_RIGHTS, [[schema.login(role) for role in Role]])]
    if mighty:
        said = f"{', '.join(mighty)} may do more than its role: superuser, bypass row security, make roles or databases"
        yield CheckResult("roles", "failure", said, f"ALTER ROLE {mighty[0]} NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOCREATEDB", 1)


class _WorkerRow(NamedTuple):
    """A worker that has reported to the database lately."""

    host: str
    pid: int
    started: float
    """Seconds since the epoch, by the database's clock."""
    lanes: list[str]


_WORKERS = """
SELECT host, pid, extract(epoch FROM started_at)::float8 AS started, lanes
  FROM workers
 WHERE stopped_at IS NULL AND beat_at > clock() - make_interval(secs => %s)
"""


def _lanes(shop: Shop, conn: Connection) -> Iterator[CheckResult]:
    try:
        workspace = shop.workspace_id(conn)
        floor = floor_in_force(conn, workspace).floor
    except ShopfloorError as error:
        yield failed("floor", error)
        return
    with transaction(conn, None), conn.cursor(row_factory=class_row(_WorkerRow)) as cursor:
        workers = cursor.execute(_WORKERS, [_ALIVE_SECONDS]).fetchall()
    served = {lane for worker in workers if _is_running(shop, worker) for lane in worker.lanes}
    for role in (Role.PROPOSE, Role.APPLY):
        idle = [lane for lane in lanes_of(floor, role) if lane not in served]
        if idle:
            yield CheckResult(f"{role} lanes", "warning", f"no live worker serves {', '.join(idle)}", "shopfloor up")
        else:
            yield CheckResult(f"{role} lanes", "ok", "each has a live worker")


def _is_running(shop: Shop, worker: _WorkerRow) -> bool:
    """Return whether a worker runs: where its process is on this machine, by the process and not by its last report."""
    if not shop.settings.is_embedded or worker.host != socket.gethostname():
        return True
    try:
        process = psutil.Process(worker.pid)
        is_same = process.create_time() <= worker.started + _SKEW_SECONDS
        return is_same and process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_STOPPED)
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True


# The name of a session is visible to every login; a pooler that hides names makes this a warning for nothing.
_SWEEPERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = %s AND application_name = %s"


def _sweeper(conn: Connection) -> CheckResult:
    if one_value(conn, _SWEEPERS, [schema.login(Role.SWEEP), SWEEPER]):
        return CheckResult("sweeper", "ok", "it is connected")
    return CheckResult("sweeper", "warning", "none is connected: lost leases stay lost and delayed work is not rung", "shopfloor up")


def _clock(conn: Connection) -> CheckResult:
    before = time.time()
    theirs: float = one_value(conn, "SELECT extract(epoch FROM clock_timestamp())::float8")
    after = time.time()
    skew = theirs - (before + after) / 2
    said = f"the database's is {abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} this machine's"
    if abs(skew) <= _SKEW_SECONDS + (after - before):
        return CheckResult("clock", "ok", said)
    return CheckResult(
        "clock", "warning", f"{said}: leases follow the database's, logs follow this one", "check time synchronisation on both"
    )


def _broker(shop: Shop) -> CheckResult:
    try:
        doorbell = shop.doorbell()
        doorbell.check()
        doorbell.echo()
    except ShopfloorError as error:
        return failed("broker", error)
    return CheckResult("broker", "ok", "a ring came back, and it evicts nothing")


def _folder(name: str, folder: Path, holds: str) -> CheckResult:
    """Return whether a folder, or the nearest one above it that exists, can be written and has room."""
    found = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    if not os.access(found, os.W_OK | os.X_OK):
        return CheckResult(
            name, "failure", f"{found} is not writable for this user; it holds {holds}", f"check the owner and mode of {found}", 1
        )
    free = shutil.disk_usage(found).free
    said = f"{free / 1e9:.1f} GB free at {found}"
    if free < _BYTES_FEW:
        return CheckResult(name, "failure", f"{said}; it holds {holds}", "make room", 1)
    return CheckResult(name, "warning" if free < _BYTES_LOW else "ok", said, "make room" if free < _BYTES_LOW else "")
