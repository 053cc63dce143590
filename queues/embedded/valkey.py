"""The embedded Valkey: it holds no state that counts, so after any crash it is just started again."""

import signal
import time
from pathlib import Path

from contracts.errors import Unavailable
from queues.embedded import passwords, processes, settings
from queues.embedded.endpoints import BROKER_SOCKET, Endpoint, dial, free_port, last_port
from queues.embedded.place import Place
from queues.embedded.processes import RunAs

PROGRAMS = ("valkey-server", "redis-server")
_STOPPING = ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))


def endpoint_of(place: Place) -> Endpoint:
    """Return where the broker listens, or listened last."""
    return Endpoint(str(place.run), 0) if place.takes_sockets else Endpoint("127.0.0.1", last_port(place, "valkey"))


def is_answering(place: Place) -> bool:
    """Return whether the broker takes our password and answers a ping."""
    return _answer(place) == b"+OK\r\n+PONG\r\n"


def takes_writes(place: Place) -> bool:
    """Return whether the broker takes a write: one that is out of memory answers and does not."""
    return _answer(place, b"SET shopfloor:health 1 PX 1000") == b"+OK\r\n+OK\r\n"


def pid(place: Place) -> int | None:
    """Return the process id of the running broker, None when it does not run."""
    for program in PROGRAMS:
        for number in processes.living(program, place.valkey):
            return number
    return None


def start(place: Place, run_as: RunAs, program: Path, deadline: float) -> None:
    """Leave the broker answering; one that takes a call and is stuck is left alone: work waits, the rest goes on."""
    if pid(place) is not None and _answer(place) == b"":
        return
    # One that runs and cannot be called, or knows another password, is of a directory that was deleted under it.
    stop(place)
    log = place.log / "valkey.log"
    while True:
        endpoint = endpoint_of(place) if place.takes_sockets else Endpoint("127.0.0.1", free_port(place, "valkey"))
        conf = settings.valkey_conf(place, endpoint, passwords.read(place, passwords.BROKER))
        # The settings go in by stdin: they hold the password, and the arguments are for everybody to read.
        number = processes.start(place, run_as, [str(program), "-", "--dir", str(place.valkey)], log=log, stdin=conf)
        while processes.exists(number) and time.monotonic() < deadline:
            if is_answering(place):
                return
            time.sleep(0.01)
        said = processes.tail(place, log)
        if place.takes_sockets or "in use" not in said or time.monotonic() > deadline:
            raise Unavailable("Valkey does not answer", hint=said, code="unavailable.broker")


def stop(place: Place) -> None:
    """Leave the broker stopped; what it carried is found again in the database."""
    for program in PROGRAMS:
        for number in processes.living(program, place.valkey):
            processes.end(number, program, place.valkey, _STOPPING)
    (place.run / BROKER_SOCKET).unlink(missing_ok=True)
    (place.run / "valkey.pid").unlink(missing_ok=True)


def _answer(place: Place, command: bytes = b"PING") -> bytes | None:
    """Return what the broker answers to our password and a command: empty when it is stuck, None when nothing listens."""
    endpoint = endpoint_of(place)
    if not (endpoint.is_socket or endpoint.port) or not passwords.known(place, passwords.BROKER):
        return None
    question = b"AUTH %b\r\n%b\r\n" % (passwords.read(place, passwords.BROKER).encode(), command)
    answer = b""
    try:
        with dial(endpoint, socket_name=BROKER_SOCKET) as connection:
            connection.sendall(question)
            while answer.count(b"\r\n") < 2 and (more := connection.recv(256)):
                answer += more
    except TimeoutError:
        return answer
    except OSError:
        return None
    return answer
