"""The text of the servers' settings files."""

import os
import shutil
from pathlib import Path

import psutil
from queues.embedded.endpoints import BROKER_SOCKET, Endpoint
from queues.embedded.place import Place

_MIB = 1024 * 1024


def postgres_conf(place: Place, endpoint: Endpoint) -> str:
    """Return postgresql.conf for this machine's memory and disk."""
    memory = memory_mib()
    shared = max(32, min(1024, memory // 4))
    # 4 GiB of write-ahead log keeps checkpoints rare under load; a small disk must not be filled by it.
    log_mib = max(256, min(4096, shutil.disk_usage(place.root).total // _MIB // 8))
    listening = (
        f"listen_addresses = ''\nunix_socket_directories = {_quoted(_listed(endpoint.host))}"
        if endpoint.is_socket
        else f"listen_addresses = '{endpoint.host}'\nunix_socket_directories = ''"
    )
    return f"""\
# Rewritten at each start. Your own settings go into local.conf beside this file.
data_directory = {_quoted(str(place.postgres))}
hba_file = {_quoted(str(place.etc / "pg_hba.conf"))}
ident_file = {_quoted(str(place.etc / "pg_ident.conf"))}
{listening}
port = {endpoint.port}
max_connections = 300
password_encryption = 'scram-sha-256'

shared_buffers = {shared}MB
effective_cache_size = {max(64, memory // 2)}MB
work_mem = 8MB
maintenance_work_mem = {max(16, min(256, memory // 16))}MB
# Hosts that set huge pages aside but forbid them to a container kill the server at its first touch.
huge_pages = off
dynamic_shared_memory_type = '{_shared_memory()}'

fsync = on
synchronous_commit = on
full_page_writes = on
# Nothing replicates from here and backups are logical, so bulk loads and new indexes may skip the log.
wal_level = minimal
max_wal_senders = 0
min_wal_size = {max(64, log_mib // 16)}MB
max_wal_size = {log_mib}MB
checkpoint_timeout = 15min

jit = off
random_page_cost = 1.1
autovacuum = on
# Queues die fast: a minute between looks leaves claims stepping over the dead.
autovacuum_naptime = 15s
autovacuum_vacuum_cost_limit = 2000

timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
log_destination = 'stderr'
log_line_prefix = '%m [%p] %q%u@%d '
log_checkpoints = off
# Statements and the DETAIL of an error hold people's data, and ALTER ROLE holds a password.
log_min_error_statement = panic
log_error_verbosity = terse
log_parameter_max_length_on_error = 0

include {_quoted(str(place.etc / "local.conf"))}
"""


def postgres_hba() -> str:
    """Return pg_hba.conf: a password for everybody, on the socket and on loopback."""
    return "local all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\n"


def valkey_conf(place: Place, endpoint: Endpoint, password: str) -> str:
    """Return the broker's settings. It keeps nothing on disk: it only carries "there is work"."""
    listening = (
        f"port 0\nunixsocket {_escaped(str(place.run / BROKER_SOCKET))}\nunixsocketperm 777"
        if endpoint.is_socket
        else f"port {endpoint.port}"
    )
    return f"""\
{listening}
bind 127.0.0.1
protected-mode yes
requirepass {password}
daemonize no
pidfile {_escaped(str(place.run / "valkey.pid"))}
set-proc-title no
save ""
appendonly no
# It holds a few hundred keys: nothing to look after ten times a second.
hz 1
maxmemory 256mb
maxmemory-policy noeviction
loglevel notice
logfile ""
"""


def memory_mib() -> int:
    """Return the memory that this process may use: the machine's, or the container's limit when that is less."""
    total = psutil.virtual_memory().total
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(path).read_text(encoding="ascii")))
        except (OSError, ValueError):
            continue
    return total // _MIB


def _shared_memory() -> str:
    # Containers get 64 MiB of /dev/shm unless told otherwise: parallel queries would die there.
    try:
        room = os.statvfs("/dev/shm")  # noqa: S108 — asked for its size
    except OSError:
        return "mmap"
    return "posix" if room.f_blocks * room.f_frsize >= 1024 * _MIB else "mmap"


def _quoted(text: str) -> str:
    doubled = text.replace("\\", "\\\\").replace("'", "''")
    return f"'{doubled}'"


def _listed(path: str) -> str:
    doubled = path.replace('"', '""')
    return f'"{doubled}"'


def _escaped(text: str) -> str:
    inside = "".join(chr(byte) if 32 < byte < 127 and byte not in b'"\\' else f"\\x{byte:02x}" for byte in os.fsencode(text))
    return f'"{inside}"'
