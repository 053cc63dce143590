"""The heartbeat: one statement per process renews every claim that the process still holds."""

import threading
import time
from collections.abc import Callable
from uuid import UUID

import psycopg
import structlog
from contracts.errors import ShopfloorError
from queues.database import Connection, first_line

log = structlog.get_logger()

_RENEW = """
UPDATE claims
   SET beat_at = clock(), until = clock() + make_interval(secs => %s)
 WHERE id = ANY(%s)
   AND closed_at IS NULL
   AND until > clock()
RETURNING id
"""


MOST_SECONDS = 10.0
"""Longest pause between two beats, however long the lease: a worker counts as alive for three of them (predicates.ALIVE)."""


class Heartbeat:
    """Renews held claims every quarter of the lease or sooner, and knows by the process's own clock which still hold.

    A claim that makes no progress for `limit_seconds` is not renewed any more: its step hangs, and the lease is how others
    get the items back. Then `on_hang` is called from the heartbeat's thread, with each beat until the claim is dropped.
    `on_beat` is called after each beat, with its connection: the database answers.
    """

    def __init__(
        self, connect: Callable[[], Connection], worker_id: UUID, *, lease_seconds: float, limit_seconds: float, on_hang: Callable[[UUID], None],
        on_beat: Callable[[Connection], None] = lambda _conn: None,
    ) -> None:  # fmt: skip
        self._connect, self._worker_id = connect, worker_id
        self._lease, self._limit, self._on_hang, self._on_beat = lease_seconds, limit_seconds, on_hang, on_beat
        self._held: dict[UUID, tuple[float, float]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """End the beat; what is still held runs out by itself."""
        self._stop.set()
        self._thread.join(timeout=5)

    def hold(self, claim_id: UUID, asked_at: float) -> None:
        """Renew this claim from now on. `asked_at` is time.monotonic() from before the claim was sent."""
        with self._lock:
            self._held[claim_id] = (asked_at, asked_at + self._lease)

    def record_progress(self, claim_id: UUID) -> None:
        """Note that a claim's work makes progress: its time limit starts anew."""
        with self._lock:
            if claim_id in self._held:
                self._held[claim_id] = (time.monotonic(), self._held[claim_id][1])

    def drop(self, claim_id: UUID) -> None:
        """Stop renewing: the claim is finished, or given up."""
        with self._lock:
            self._held.pop(claim_id, None)

    def holds(self, claim_id: UUID, *, margin_seconds: float = 1.0) -> bool:
        """True while the claim is ours for another `margin_seconds`, by this process's monotonic clock."""
        with self._lock:
            held = self._held.get(claim_id)
        return held is not None and time.monotonic() + margin_seconds < held[1]

    def _run(self) -> None:
        conn: Connection | None = None
        while not self._stop.wait(min(self._lease / 4, MOST_SECONDS)):
            try:
                conn = conn or self._connect()
                self._beat(conn)
                self._on_beat(conn)
            except (psycopg.Error, ShopfloorError) as error:
                log.warning("heartbeat.failed", error=first_line(error))
                if conn is not None:
                    conn.close()
                conn = None
        if conn is not None:
            conn.close()

    def _beat(self, conn: Connection) -> None:
        sent = time.monotonic()
        with self._lock:
            hung = [claim for claim, (since, _) in self._held.items() if sent - since > self._limit]
            alive = [claim for claim in self._held if claim not in hung]
        # Whoever beats lives, even if the sweeper took it for dead while the database was away.
        conn.execute("UPDATE workers SET beat_at = clock(), stopped_at = NULL WHERE id = %s", [self._worker_id])
        renewed = {claim for (claim,) in conn.execute(_RENEW, [self._lease, alive])} if alive else set()
        with self._lock:
            for claim in alive:
                if claim in renewed and claim in self._held:
                    self._held[claim] = (self._held[claim][0], sent + self._lease)
        for claim in hung:
            self._on_hang(claim)
