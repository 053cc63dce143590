"""The worker process: hears rings, claims, advances. Drains on the first signal, stops at once on the second."""

import gc
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import psycopg
import structlog
from contracts.errors import ShopfloorError
from contracts.identity import new_id
from contracts.lifecycle import Role
from pipeline.failpoints import failpoint
from pipeline.stages.context import StageContext
from pipeline.stages.retries import places_of
from pipeline.startup.compose import Shop
from pipeline.stopping import StopRequest
from pipeline.worker.advance import Mode, advance
from pipeline.worker.commit import Committer, carried_lanes
from pipeline.worker.containment import contain
from pipeline.worker.fair_share import FairShare, take
from pipeline.worker.held import HeldClaims
from pipeline.worker.in_flight import InFlight
from queues import workers
from queues.claims import Claim
from queues.database import Connection, first_line
from queues.doorbell import Listener
from workcells.appliers import Applier
from workcells.registry import Registry

log = structlog.get_logger()

DRAIN_SECONDS = 25.0
"""How long a worker that is told to stop waits for what it has begun; the whole stop takes less than thirty seconds."""
_EXIT_HUNG = 70


@dataclass
class Worker:
    """One process that serves lanes. `role` decides its login: apply, or propose for everything else."""

    shop: Shop
    role: Role
    lanes: Sequence[str]
    registry: Registry
    appliers: dict[str, Applier] = field(default_factory=dict)
    name: str = ""

    def __post_init__(self) -> None:
        settings = self.shop.settings
        self.id = new_id()
        self.name = self.name or f"{self.role}-{socket.gethostname()}-{os.getpid()}"
        self._mode = Mode(settings.mode)
        self._batch, self._lease = settings.batch, settings.lease_seconds
        self._doorbell = self.shop.doorbell()
        self._held = HeldClaims(
            self._connect, self._doorbell, self.id, self.name, lease_seconds=self._lease, limit_seconds=settings.step_seconds,
            on_hang=self._hung,
        )  # fmt: skip
        self._local = threading.local()
        self._draining = threading.Event()
        self._served = frozenset(self.lanes)
        # What waits for others is not done in passing, between two quick steps: it is claimed, by whoever has a place for it.
        self._waiting = self._served & self.registry.waiting_lanes
        self._carries = carried_lanes(self._served) - self._waiting
        self._in_flight = InFlight(
            self._connect, self.shop.store, self.registry, self._doorbell, self._held, self.id, self.name, self._committer(),
            places=settings.in_flight, lease_seconds=self._lease, mode=self._mode,
        )  # fmt: skip

    def run(self, on_ready: Callable[[], object] = lambda: None) -> int:
        """Serve until told to stop; return the exit code. `on_ready` is called once, when it listens."""
        # Before it is registered: one that is told to stop while it starts would leave its row, and be counted as alive for a while.
        stop = StopRequest()
        _on_signals(stop.set)
        self._doorbell.check()
        with self._connect() as conn:
            workers.register(
                conn, self.id, name=self.name, host=socket.gethostname(), pid=os.getpid(), lanes=sorted(self._served),
                runs=self.registry.hashes,
            )  # fmt: skip
        self._held.heart.start()
        listener = Listener(self._doorbell, sorted(self._served), self._on_ring, threads=self.shop.settings.threads)
        _settle_memory()
        contain(self.shop.settings.memory_mb)
        if self._waiting:
            self._in_flight.start()
        listener.start()
        for lane in self._served:
            self._doorbell.heard(lane)  # a ring that died with its hearer would hold the next one back
        self._doorbell.ring(self._served)  # reconcile at start: what became due while no worker listened
        log.info("worker.ready", worker=self.name, lanes=sorted(self._served))
        on_ready()
        while not stop.wait(0.5):
            pass  # the kernel may hand a signal to another thread: Python's handler then runs when this one next wakes
        self._draining.set()
        log.info("worker.draining", worker=self.name)
        deadline = time.monotonic() + DRAIN_SECONDS
        self._in_flight.drain()
        listener.stop(seconds=DRAIN_SECONDS)
        self._in_flight.join(max(0.0, deadline - time.monotonic()))
        # What was sent to a target is probed by whoever comes next.
        self._held.give_back_all("the worker was told to stop and could not wait for it")
        self._held.heart.stop()
        with self._connect() as conn:
            workers.retire(conn, self.id)
        log.info("worker.stopped", worker=self.name)
        return 0

    def _connect(self) -> Connection:
        return self.shop.connect(self.role, name=self.name, worker=True)

    def _context(self) -> tuple[StageContext, FairShare]:
        """Return this thread's context; connections are never shared."""
        if getattr(self._local, "context", None) is None:
            self._local.context = StageContext(self._connect(), self.shop.store, self.registry, self.appliers)
            self._local.turns = FairShare()
        return self._local.context, self._local.turns

    def _on_ring(self, lane: str) -> None:
        """Answer one ring: one batch, as far as this worker may take it. Never raises: the ring is only a hint."""
        if self._draining.is_set():
            return
        failpoint("worker.rung")
        self._doorbell.heard(lane)
        if lane in self._waiting:
            self._in_flight.ring(lane)
            return
        try:
            self._one_batch(lane)
        except (psycopg.OperationalError, psycopg.InterfaceError, ShopfloorError) as error:
            # The database went away, or a lease was lost: the leases run out and the sweeper brings the items back.
            log.warning("claim.dropped", worker=self.name, lane=lane, error=first_line(error))
            self._drop_context()
        except Exception as error:  # noqa: BLE001 - a failure outside any step is counted against the batch; the worker goes on
            # Where, not what: the message of an error may hold what people wrote.
            log.error("claim.failed", worker=self.name, lane=lane, error=type(error).__name__, at=places_of(error))  # noqa: TRY400 - no payload
            self._drop_context()

    def _one_batch(self, lane: str) -> None:
        context, turns = self._context()
        asked_at = time.monotonic()
        try:
            taken = take(context, turns, self.id, self.name, lane, batch=self._batch, seconds=self._lease)
        except Exception as error:
            self._drop_context()
            if turns.unconfirmed_claim:
                # The answer to the claim was lost, and with it who holds it: it is returned, whether it was opened or not.
                claim_id, workspaces = turns.unconfirmed_claim
                self._held.fail(claim_id, error, workspaces)
            raise
        claim = taken.claim
        if taken.more:
            self._doorbell.ring([lane])
        if not claim.items:
            return
        self._held.add(claim, asked_at)
        context.lease_holds = lambda: self._held.heart.holds(claim.id)
        try:
            for rings in advance(context, self._committer(claim), taken, self._mode):
                failpoint("doorbell.ring")
                self._doorbell.ring(rings)
            if not context.is_unrestricted:
                self._doorbell.ring([lane])  # a limit may have kept others from what this claim has made room for
        except Exception as error:
            # The connection first: the server then ends what it still does for us, and lets go of the rows.
            self._drop_context()
            self._held.fail(claim.id, error)
            raise
        finally:
            self._held.drop(claim.id)

    def _committer(self, claim: Claim | None = None) -> Committer:
        def serves(lane: str) -> bool:
            return lane in self._carries and not self._draining.is_set()

        def goes_on() -> bool:
            if claim is not None:
                self._held.heart.record_progress(claim.id)
            return not self._draining.is_set()

        return Committer(self.name, self.id, serves, goes_on)

    def _drop_context(self) -> None:
        context: StageContext | None = getattr(self._local, "context", None)
        if context is not None:
            context.conn.close()
        self._local.context = None

    def _hung(self, claim_id: UUID) -> None:
        """End the process: a step has hung for longer than it may, and a thread cannot be interrupted from outside."""
        log.error("worker.hung", worker=self.name, claim=str(claim_id), seconds=self.shop.settings.step_seconds)
        os._exit(_EXIT_HUNG)


def _settle_memory() -> None:
    """Keep the collector from walking over code and contracts that live as long as the process, and over every batch's rows.

    A batch is some ten thousand objects that die by their reference counts; what is cyclic is rare and waits a little longer.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _on_signals(stop: Callable[[], None]) -> None:
    """Call `stop` on the first SIGTERM or SIGINT; exit at once on the second."""
    seen: list[int] = []

    def handle(number: int, _frame: object) -> None:
        if seen:
            os._exit(128 + number)
        seen.append(number)
        stop()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
