"""The worker process: hears rings, claims, advances. Drains on the first signal, stops at once on the second."""

import gc
import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import psycopg
import structlog
from contracts.errors import LeaseLost, ShopfloorError, Unavailable
from contracts.identity import new_id
from contracts.lifecycle import Role, Stage
from pipeline.failpoints import failpoint
from pipeline.stages.context import Line
from pipeline.startup.compose import Shop
from pipeline.worker.advance import Mode, advance
from pipeline.worker.commit import Hand
from pipeline.worker.containment import contain
from pipeline.worker.fair_share import Turns, take
from pipeline.worker.release import return_counted
from queues import workers
from queues.claims import Claim, give_back
from queues.database import Connection, first_line, is_the_databases, transaction
from queues.doorbell import Listener
from queues.leases import Heartbeat
from workcells.appliers import Applier
from workcells.registry import Registry

log = structlog.get_logger()

DRAIN_SECONDS = 25.0
"""How long a worker that is told to stop waits for what it has begun; the whole stop takes less than thirty seconds."""
_EXIT_HUNG = 70


@dataclass(frozen=True, slots=True)
class Left:
    """A claim that could not be brought to an end."""

    claim_id: UUID
    workspaces: frozenset[UUID]
    counts: bool
    """True when the accident was ours and not the database's: then it counts as an attempt."""
    note: str = "the database went away, or the lease was lost"

    def give_back(self, conn: Connection, by: str) -> list[str]:
        """Return its items to their lanes, those that were expired meanwhile being no longer its own; return the lanes."""
        with transaction(conn, self.workspaces):
            if self.counts:
                return return_counted(conn, self.claim_id, by=by, note="the worker had an accident outside any step")
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
            on_beat=self._return_left,
        )
        self._left: list[Left] = []
        self._working: dict[UUID, frozenset[UUID]] = {}
        """The claims in hand, each with its workspaces."""
        self._local = threading.local()
        self._draining = threading.Event()
        self._served = frozenset(self.lanes)
        # The apply process closes what it applied: into archive it carries, but it does not listen there.
        self._carries = self._served | ({Stage.ARCHIVE.value} if self.role is Role.APPLY else set())

    def run(self) -> int:
        """Serve until told to stop; return the exit code."""
        self._doorbell.check()
        with self._connect() as conn:
            workers.register(
                conn, self.id, name=self.name, host=socket.gethostname(), pid=os.getpid(), lanes=sorted(self._served),
                runs=self.registry.hashes,
            )  # fmt: skip
        self._heart.start()
        ears = Listener(self._doorbell, sorted(self._served), self._on_ring, threads=self.shop.settings.threads)
        stop = threading.Event()
        _on_signals(stop.set)
        _settle_memory()
        contain(self.shop.settings.memory_mb)
        ears.start()
        for lane in self._served:
            self._doorbell.heard(lane)  # a ring that died with its hearer would hold the next one back
        self._doorbell.ring(self._served)  # reconcile at start: what became due while nobody listened
        log.info("worker.ready", worker=self.name, lanes=sorted(self._served))
        while not stop.wait(0.5):
            pass  # the kernel may hand a signal to another thread: Python's handler then runs when this one next wakes
        self._draining.set()
        log.info("worker.draining", worker=self.name)
        ears.stop(seconds=DRAIN_SECONDS)
        for claim_id, workspaces in list(self._working.items()):
            # Whoever is still at it finds its lease gone, and sends nothing more. What it has sent is probed by whoever comes next.
            self._heart.drop(claim_id)
            self._return_rest(Left(claim_id, workspaces, counts=False, note="the worker was told to stop and could not wait for it"))
        self._heart.stop()
        with self._connect() as conn:
            workers.retire(conn, self.id)
        log.info("worker.stopped", worker=self.name)
        return 0

    def _connect(self) -> Connection:
        return self.shop.connect(self.role, name=self.name, worker=True)

    def _line(self) -> tuple[Line, Turns]:
        """Return this thread's line; connections are never shared."""
        if getattr(self._local, "line", None) is None:
            self._local.line = Line(self._connect(), self.shop.store, self.registry, self.appliers)
            self._local.turns = Turns()
        return self._local.line, self._local.turns

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
            self._forget_line()
        except Exception as error:  # noqa: BLE001 - an accident outside any step is counted against the batch; the worker serves on
            # Where, not what: the message of an error may hold what people wrote.
            log.error("claim.failed", worker=self.name, lane=lane, error=type(error).__name__, at=_places(error))  # noqa: TRY400 - no payload
            self._forget_line()

    def _one_batch(self, lane: str) -> None:
        line, turns = self._line()
        asked = time.monotonic()
        try:
            taken = take(line, turns, self.id, self.name, lane, batch=self._batch, seconds=self._lease)
        except Exception:
            self._forget_line()
            if turns.asked:
                # The answer to the claim was lost, and with it who holds it: it is given back, whether it was opened or not.
                self._return_rest(Left(*turns.asked, counts=False))
            raise
        claim = taken.claim
        if taken.more:
            self._doorbell.ring([lane])
        if not claim.items:
            return
        self._heart.hold(claim.id, asked)
        self._working[claim.id] = frozenset(item.workspace_id for item in claim.items)
        line.lease_holds = lambda: self._heart.holds(claim.id)
        try:
            for rings in advance(line, self._hand(claim), taken, self._mode):
                failpoint("doorbell.ring")
                self._doorbell.ring(rings)
            if not line.is_free:
                self._doorbell.ring([lane])  # a limit may have kept others from what this claim has made room for
        except Exception as error:
            # The connection first: the server then ends what it still does for us, and lets go of the rows.
            self._forget_line()
            is_ours = not (is_the_databases(error) or isinstance(error, (LeaseLost, Unavailable)))
            self._return_rest(Left(claim.id, frozenset(item.workspace_id for item in claim.items), is_ours))
            raise
        finally:
            self._heart.drop(claim.id)
            self._working.pop(claim.id, None)

    def _hand(self, claim: Claim) -> Hand:
        def serves(lane: str) -> bool:
            return lane in self._carries and not self._draining.is_set()

        def goes_on() -> bool:
            self._heart.got_on(claim.id)
            return not self._draining.is_set()

        return Hand(self.name, self.id, claim.id, serves, goes_on)

    def _return_rest(self, left: "Left") -> None:
        """Give back what an accident left leased; when the database is away, as soon as it answers a heartbeat again."""
        try:
            with self._connect() as conn:
                self._doorbell.ring(left.give_back(conn, self.name))
        except (psycopg.Error, ShopfloorError) as error:
            log.warning("claim.left", claim=str(left.claim_id), error=type(error).__name__)
            self._left.append(left)

    def _return_left(self, conn: Connection) -> None:
        while self._left:
            self._left[0].give_back(conn, self.name)
            del self._left[0]

    def _forget_line(self) -> None:
        line: Line | None = getattr(self._local, "line", None)
        if line is not None:
            line.conn.close()
        self._local.line = None

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


def _places(error: Exception) -> list[str]:
    """Return the innermost places that an error came through, the last one being where it was raised."""
    return [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)[-4:]]


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
