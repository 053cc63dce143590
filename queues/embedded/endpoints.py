"""Where a server listens: in a directory of sockets, or on a loopback port when the path is too long for one."""

import socket
from dataclasses import dataclass

from queues.embedded.place import Place, write_atomically

BROKER_SOCKET = "valkey.sock"


@dataclass(frozen=True)
class Endpoint:
    """A directory that holds the server's socket, or the loopback address; PostgreSQL numbers its sockets too."""

    host: str
    port: int

    @property
    def is_socket(self) -> bool:
        return self.host.startswith("/")


def dial(endpoint: Endpoint, *, socket_name: str) -> socket.socket:
    """Return a connection to a server of ours, with half a second for each step."""
    line = socket.socket(socket.AF_UNIX if endpoint.is_socket else socket.AF_INET)
    line.settimeout(0.5)
    try:
        line.connect(f"{endpoint.host}/{socket_name}" if endpoint.is_socket else (endpoint.host, endpoint.port))
    except BaseException:
        line.close()
        raise
    return line


def last_port(place: Place, name: str) -> int:
    """Return the loopback port that the server called `name` was last started on, 0 when there was none."""
    try:
        return int((place.etc / f"{name}.port").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def free_port(place: Place, name: str) -> int:
    """Return a free loopback port and note it: the last one if it is free, so that workers' URLs stay true."""
    port = _bound(last_port(place, name)) or _bound(0)
    write_atomically(place.etc / f"{name}.port", f"{port}\n", 0o644)
    return port


def _bound(wanted: int) -> int:
    """Return the port that binding `wanted` gives, any free one for 0; 0 when it is taken."""
    with socket.socket(socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return 0
        return int(probe.getsockname()[1])
