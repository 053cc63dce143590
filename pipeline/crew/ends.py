"""Ends of workers, as the crew saw them, recorded in the database: a dead letter can then name the signal that ended its worker."""

import queue
import signal
import socket
import threading

import psycopg
import structlog
from contracts.errors import ShopfloorError
from contracts.lifecycle import Role
from pipeline.startup.compose import Shop
from queues.database import first_line
from queues.workers import record_end

log = structlog.get_logger()

_RETRY_SECONDS = 2.0
_CODES = {70: "a step took longer than SHOPFLOOR_STEP_SECONDS", 71: "a cell forked it"}


def describe_end(code: int) -> str:
    """Return an exit code in words: the signal's name where one ended the process."""
    if code >= 0:
        return f"exit code {code} ({_CODES[code]})" if code in _CODES else f"exit code {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"


class EndRecorder:
    """Writes ends to the database from a thread of its own; one that cannot be written now is written when it can."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._pending: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()

    def note(self, pid: int, how: str) -> None:
        """Have an end recorded."""
        self._pending.put((pid, how))

    def start(self, stop: threading.Event) -> None:
        """Begin to write what is noted, until `stop`."""
        threading.Thread(target=self._run, args=(stop,), name="ends", daemon=True).start()

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                pid, how = self._pending.get(timeout=1)
            except queue.Empty:
                continue
            while not self._is_written(pid, how) and not stop.wait(_RETRY_SECONDS):
                pass

    def _is_written(self, pid: int, how: str) -> bool:
        try:
            with self._shop.connect(Role.SWEEP, name="crew") as conn:
                record_end(conn, host=socket.gethostname(), pid=pid, how=how)
        except (psycopg.Error, ShopfloorError) as error:
            log.warning("crew.end_not_recorded", pid=pid, error=first_line(error))
            return False
        return True
