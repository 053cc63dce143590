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
from contracts.errors import ShopfloorError, Unavailable
from contracts.identity import new_id
from contracts.lifecycle import Role
from pipeline.failpoints import failpoint
from pipeline.stages.context import StageContext
from pipeline.stages.retries import message_of, places_of
from pipeline.startup.compose import Shop
from pipeline.stopping import StopRequest
from pipeline.worker.advance import Mode, advance
from pipeline.worker.commit import Committer, carried_lanes
from pipeline.worker.containment import contain
from pipeline.worker.fair_share import FairShare, take
from queues import workers
from queues.claims import Claim, give_back
from queues.database import Connection, first_line, is_connection_error, transaction
from queues.doorbell import Listener
from queues.failed_claims import fail_claims
from queues.leases import Heartbeat
from workcells.appliers import Applier
from workcells.registry import Registry

log = structlog.get_logger()

DRAIN_SECONDS = 25.0
"""How long a worker that is told to stop waits for what it has begun; the whole stop takes less than thirty seconds."""
_EXIT_HUNG = 70


@dataclass(frozen=True, slots=True)
class UnfinishedClaim:
    """A claim that could not be brought to an end."""

    claim_id: UUID
    workspaces: frozenset[UUID]
    error: str = ""
    """What failed on our side, counted against each item that the claim held; empty when the database went away."""
    note: str = "the database went away, or the lease was lost"

    def end(self, conn: Connection, by: str) -> list[str]:
        """Return its items to their lanes, those that were expired meanwhile being no longer its own; return the lanes."""
        with transaction(conn, self.workspaces):
            if self.error:
                note = f"the worker failed outside any step: {self.error}"
                return sorted(fail_claims(conn, [self.claim_id], by_move="retry", by=by, note=note).lanes)
            return sorted(set(give_back(conn, self.claim_id, by=by, note=self.note).values()))


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
        self._heart = Heartbeat(
            self._connect,
            self.id,
            lease_seconds=self._lease,
            limit_seconds=settings.step_seconds,
            on_hang=self._hung,
            on_beat=self._return_unfinished,
        )
        self._unfinished: list[UnfinishedClaim] = []
        self._working: dict[UUID, frozenset[UUID]] = {}
        """The claims that are worked on, each with its workspaces."""
        self._local = threading.local()
        self._draining = threading.Event()
        self._served = frozenset(self.lanes)
        self._carries = carried_lanes(self._served)

    def run(self, on_ready: Callable[[], object] = lambda: None) -> int:
        """Serve until told to stop; return the exit code. `on_ready` is called once, when it listens."""
        self._doorbell.check()
        with self._connect() as conn:
            workers.register(
                conn, self.id, name=self.name, host=socket.gethostname(), pid=os.getpid(), lanes=sorted(self._served),
                runs=self.registry.hashes,
            )  # fmt: skip
        self._heart.start()
        listener = Listener(self._doorbell, sorted(self._served), self._on_ring, threads=self.shop.settings.threads)
        stop = StopRequest()
        _on_signals(stop.set)
        _settle_memory()
        contain(self.shop.settings.memory_mb)
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
        listener.stop(seconds=DRAIN_SECONDS)
        for claim_id, workspaces in list(self._working.items()):
            # Whoever is still at it finds its lease gone, and sends nothing more. What it has sent is probed by whoever comes next.
            self._heart.drop(claim_id)
            self._return_rest(UnfinishedClaim(claim_id, workspaces, note="the worker was told to stop and could not wait for it"))
        self._heart.stop()
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
                self._return_rest(UnfinishedClaim(*turns.unconfirmed_claim, _counted(error)))
            raise
        claim = taken.claim
        if taken.more:
            self._doorbell.ring([lane])
        if not claim.items:
            return
        self._heart.hold(claim.id, asked_at)
        self._working[claim.id] = frozenset(item.workspace_id for item in claim.items)
        context.lease_holds = lambda: self._heart.holds(claim.id)
        try:
            for rings in advance(context, self._committer(claim), taken, self._mode):
                failpoint("doorbell.ring")
                self._doorbell.ring(rings)
            if not context.is_unrestricted:
                self._doorbell.ring([lane])  # a limit may have kept others from what this claim has made room for
        except Exception as error:
            # The connection first: the server then ends what it still does for us, and lets go of the rows.
            self._drop_context()
            self._return_rest(UnfinishedClaim(claim.id, frozenset(item.workspace_id for item in claim.items), _counted(error)))
            raise
        finally:
            self._heart.drop(claim.id)
            self._working.pop(claim.id, None)

    def _committer(self, claim: Claim) -> Committer:
        def serves(lane: str) -> bool:
            return lane in self._carries and not self._draining.is_set()

        def goes_on() -> bool:
            self._heart.record_progress(claim.id)
            return not self._draining.is_set()

        return Committer(self.name, self.id, claim.id, serves, goes_on)

    def _return_rest(self, unfinished: "UnfinishedClaim") -> None:
        """Return what a failure left leased; when the database is away, as soon as it answers a heartbeat again."""
        try:
            with self._connect() as conn:
                self._doorbell.ring(unfinished.end(conn, self.name))
        except (psycopg.Error, ShopfloorError) as error:
            log.warning("claim.left", claim=str(unfinished.claim_id), error=type(error).__name__)
            self._unfinished.append(unfinished)

    def _return_unfinished(self, conn: Connection) -> None:
        while self._unfinished:
            self._unfinished[0].end(conn, self.name)
            del self._unfinished[0]

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


def _counted(error: Exception) -> str:
    """Return what a failure counts as against the items of its claim; empty for an outage, which says nothing of them."""
    return "" if is_connection_error(error) or isinstance(error, Unavailable) else message_of(error)


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
