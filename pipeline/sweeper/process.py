"""The sweeper process: duties done every second. Any number may run; doing a duty again changes nothing."""

import threading
import time
from collections.abc import Callable

import psycopg
import structlog
from contracts.errors import ShopfloorError
from contracts.lifecycle import Role
from pipeline.startup.compose import Shop
from pipeline.sweeper.batches import end_abandoned, release_dependants
from pipeline.sweeper.decisions import follow_decisions, lapse_proposals
from pipeline.sweeper.leases import expire_leases
from pipeline.sweeper.orphaned_blobs import keep_collecting
from pipeline.sweeper.upkeep import upkeep
from queues.claims import lanes_due
from queues.database import Connection, first_line, is_connection_error
from queues.doorbell import Doorbell

log = structlog.get_logger()

NAME = "sweeper"
_UPKEEP_SECONDS = 600.0

_DUTIES: dict[str, Callable[[Connection], int]] = {
    "expired": expire_leases,
    "abandoned": end_abandoned,
    "released": release_dependants,
    "followed": follow_decisions,
    "lapsed": lapse_proposals,
}


def sweep(conn: Connection, doorbell: Doorbell | None) -> dict[str, int]:
    """Do one round and return what it did; on a healthy line all counts are zero but `rung`."""
    done = {what: _attempt(conn, what, act) for what, act in _DUTIES.items()}
    done["rung"] = doorbell.ring(lanes_due(conn)) if doorbell else 0
    return done


def _attempt(conn: Connection, what: str, act: Callable[[Connection], int]) -> int:
    """Do one duty. What the database refuses is logged: it must not keep the others, nor the rings, from their turn."""
    try:
        return act(conn)
    except psycopg.Error as error:
        if is_connection_error(error):
            raise
        log.error("sweep.refused", duty=what, error=first_line(error))  # noqa: TRY400 - one line, never a traceback
        return 0


class Sweeper:
    """The process around `sweep`."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    def run(self, stop: threading.Event, on_ready: Callable[[], object] = lambda: None) -> int:
        """Sweep every `sweep_seconds` until told to stop; a database that is away is waited for, aloud. `on_ready`: after each round."""
        doorbell = self._shop.doorbell()
        threading.Thread(target=keep_collecting, args=(self._shop, stop), name="collect", daemon=True).start()
        conn: Connection | None = None
        upkept = 0.0
        while not stop.is_set():
            try:
                conn = conn or self._shop.connect(Role.SWEEP, name=NAME)
                if time.monotonic() - upkept > _UPKEEP_SECONDS or not upkept:
                    _attempt(conn, "upkeep", upkeep)
                    upkept = time.monotonic()
                did = {what: count for what, count in sweep(conn, doorbell).items() if count and what != "rung"}
                if did:
                    log.info("sweep.did", **did)
                on_ready()
            except (psycopg.Error, ShopfloorError) as error:
                log.warning("sweep.failed", error=first_line(error))
                if conn is not None:
                    conn.close()
                conn = None
            stop.wait(self._shop.settings.sweep_seconds)
        return 0
