"""The embedded PostgreSQL: made once, started after any kind of death, stopped."""

import os
import shutil
import signal
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import Unavailable
from queues.embedded import binaries, passwords, processes, settings
from queues.embedded.endpoints import Endpoint, dial, free_port
from queues.embedded.place import Place, cluster_major, sync_directory, write_atomically, write_marker
from queues.embedded.processes import RunAs
from queues.embedded.services import DATABASE, Services

PORT = 5432
_PROGRAM = "postgres"
_NO_SUCH_PROCESS = 2**31 - 2
_STOPPING = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)


@dataclass(frozen=True)
class PidFile:
    """What postmaster.pid says: it may be of a server long dead."""

    pid: int
    endpoint: Endpoint
    is_ready: bool


def answering(place: Place) -> Endpoint | None:
    """Return where PostgreSQL accepts connections now, None when it does not."""
    written = _pid_file(place)
    if written is None or not written.is_ready:
        return None
    if not written.endpoint.is_socket and not processes.is_live(written.pid, _PROGRAM, place.postgres):
        # After a crash somebody else may listen on this port.
        return None
    return written.endpoint if _accepts(written.endpoint) else None


def pid(place: Place) -> int | None:
    """Return the process id of the running server, None when it does not run."""
    written = _pid_file(place)
    return written.pid if written and processes.is_live(written.pid, _PROGRAM, place.postgres) else None


def make(place: Place, run_as: RunAs, found: binaries.Postgres) -> None:
    """Leave a finished, empty database under the data directory, and its marker.

    It is made aside and renamed, so that what bears the name `postgres` is always whole.
    """
    if cluster_major(place) is None:
        # A server of a directory that was deleted under it would write into the new one.
        for number in processes.living(_PROGRAM, place.postgres):
            processes.end(number, _PROGRAM, place.postgres, _STOPPING[1:])
        _initdb(place, run_as, found)
        place.making.joinpath("postgres").rename(place.postgres)
        sync_directory(place.root)
    shutil.rmtree(place.making, ignore_errors=True)
    write_marker(place, cluster_major(place) or found.major)


def start(place: Place, run_as: RunAs, found: binaries.Postgres, deadline: float) -> Endpoint:
    """Return where PostgreSQL answers, having started it unless it runs; Unavailable, with its log, at `deadline`."""
    if (number := pid(place)) and _lost_its_socket(place):
        stop(place)
        number = None
    log = place.log / "postgres.log"
    began = _size(log)
    number = number or _launch(place, run_as, found)
    while True:
        if endpoint := answering(place):
            return endpoint
        if time.monotonic() > deadline:
            raise Unavailable(
                f"PostgreSQL (process {number}) is still recovering or does not answer",
                hint=f"try again; it goes on in the background\n{processes.tail(place, log)}",
                code="unavailable.database",
            )
        if not processes.exists(number):
            said = processes.tail(place, log, since_byte=began)
            again = "shared memory block" in said or (not place.takes_sockets and "could not bind" in said)
            if not again:
                raise Unavailable("PostgreSQL stopped while it started", hint=said, code="unavailable.database")
            # The last server's children notice its death within moments; a port that was free may be taken.
            time.sleep(0.2)
            began = _size(log)
            number = _launch(place, run_as, found)
        time.sleep(0.01)


def ensure_database(services: Services) -> None:
    """Leave a database `shopfloor` in the cluster; its roles and schema are made by those who own them."""
    # Here, not above: attaching to what runs needs no driver, and this one takes 0.1 s to load.
    import psycopg
    from psycopg import sql

    with psycopg.connect(services.superuser_url(), autocommit=True, connect_timeout=10) as conn:
        if conn.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).fetchone() is None:
            conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))


def stop(place: Place) -> None:
    """Leave PostgreSQL stopped: sessions are rolled back; at worst it recovers at the next start."""
    for number in processes.living(_PROGRAM, place.postgres):
        processes.end(number, _PROGRAM, place.postgres, _STOPPING)
    _forget_sockets(place)


def _initdb(place: Place, run_as: RunAs, found: binaries.Postgres) -> None:
    shutil.rmtree(place.making, ignore_errors=True)
    place.making.mkdir()
    place.making.chmod(0o755)
    cluster, password = place.making / "postgres", place.making / "password"
    cluster.mkdir(mode=0o700)
    write_atomically(password, passwords.read(place, passwords.ADMIN) + "\n", 0o600)
    if run_as.account:
        for path in (cluster, password):
            os.chown(path, run_as.account.uid, run_as.account.gid)
    # Text sorts by code point in every version, which is fast; letters have case beyond ASCII.
    locale = (
        ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if found.major >= 17
        else ["--locale=C", "--lc-ctype=C.UTF-8"]
    )
    always = ["--data-checksums", "--auth=scram-sha-256", "--encoding=UTF8", "--lc-messages=C"]
    made = processes.run(
        run_as,
        [
            str(found.bin / "initdb"),
            "-D",
            str(cluster),
            "-U",
            passwords.ADMIN,
            f"--pwfile={password}",
            *always,
            *locale,
        ],
        cwd=place.making,
    )
    password.unlink()
    if made.returncode != 0:
        said = passwords.redacted(place, "\n".join(made.stdout.strip().splitlines()[-12:]))
        shutil.rmtree(place.making, ignore_errors=True)
        raise Unavailable(f"initdb of PostgreSQL {found.version} made no database", hint=said, code="unavailable.initdb")


def _launch(place: Place, run_as: RunAs, found: binaries.Postgres) -> int:
    _disown(place)
    _forget_sockets(place)
    endpoint = Endpoint(str(place.run), PORT) if place.takes_sockets else Endpoint("127.0.0.1", free_port(place, "postgres"))
    write_atomically(place.etc / "postgresql.conf", settings.postgres_conf(place, endpoint), 0o644)
    write_atomically(place.etc / "pg_hba.conf", settings.postgres_hba(), 0o644)
    write_atomically(place.etc / "pg_ident.conf", "", 0o644)
    if not (place.etc / "local.conf").exists():
        write_atomically(place.etc / "local.conf", "# Settings of PostgreSQL that win over postgresql.conf.\n", 0o644)
    argv = [str(found.bin / "postgres"), "-D", str(place.postgres), f"--config-file={place.etc / 'postgresql.conf'}"]
    return processes.start(place, run_as, argv, log=place.log / "postgres.log")


def _disown(place: Place) -> None:
    """Leave postmaster.pid naming no living process, so that a number given to somebody else does not bar the start.

    Its other lines stay: by them PostgreSQL itself finds children of the dead server that still hold its memory.
    """
    written = _pid_file(place)
    path = place.postgres / "postmaster.pid"
    if written is None:
        path.unlink(missing_ok=True)
        return
    try:
        os.kill(written.pid, 0)
    except ProcessLookupError:
        return
    except PermissionError:
        pass
    lines = _lines(path)
    owner = path.lstat()
    # Unlinked and made anew: root must not write through a link that the servers' user may have put there.
    path.unlink()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        os.fchown(handle, owner.st_uid, owner.st_gid)
        file.write("\n".join([str(_NO_SUCH_PROCESS), *lines[1:]]) + "\n")


def _lost_its_socket(place: Place) -> bool:
    # Something that cleans up old files took it: the server runs and nobody can ever call it again.
    written = _pid_file(place)
    ready_on_socket = written is not None and written.is_ready and written.endpoint.is_socket
    return ready_on_socket and not (place.run / f".s.PGSQL.{PORT}").exists()


def _forget_sockets(place: Place) -> None:
    for path in place.run.glob(".s.PGSQL.*"):
        path.unlink(missing_ok=True)


def _pid_file(place: Place) -> PidFile | None:
    lines = _lines(place.postgres / "postmaster.pid")
    try:
        number, port = int(lines[0]), int(lines[3])
        # Line 5 is the socket's directory, line 6 the address, either may be empty; line 8 comes when it is up.
        endpoint = Endpoint(str(place.run), port) if lines[4].strip() else Endpoint("127.0.0.1", port)
        return PidFile(number, endpoint, len(lines) > 7 and lines[7].strip() == "ready")
    except (IndexError, ValueError):
        return None


def _lines(path: Path) -> list[str]:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return []
    with os.fdopen(handle, encoding="utf-8", errors="replace") as file:
        return file.read(8192).splitlines()


def _accepts(endpoint: Endpoint) -> bool:
    # The shortest question that a server answers before it asks for a password: may we speak TLS?
    try:
        with dial(endpoint, socket_name=f".s.PGSQL.{endpoint.port}") as line:
            line.sendall(_SSL_REQUEST)
            return line.recv(1) in (b"N", b"S")
    except OSError:
        return False


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
