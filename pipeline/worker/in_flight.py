"""Lanes whose cells wait for others: many items in flight at once, each in a thread of its own.

One thread coordinates: it claims as places come free and commits outcomes in groups as they arrive, so that no answer waits for a
slow neighbour. The threads of items write nothing themselves, and borrow a connection only for a moment.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

import psycopg
import structlog
from artifacts.blobs import BlobStore
from contracts.attempts import Cause
from contracts.errors import ShopfloorError
from contracts.lifecycle import Stage
from pipeline.stages.context import StageContext
from pipeline.stages.retries import failed_attempt, places_of, raised_attempt
from pipeline.stages.work import Step, Work
from pipeline.worker.advance import Mode, fail_unreadable, mode_for, one_round, run_stage
from pipeline.worker.commit import Committer
from pipeline.worker.fair_share import FairShare, take
from pipeline.worker.held import HeldClaims
from queues.database import Connection, first_line
from queues.doorbell import Doorbell
from queues.pool import ConnectionPool
from workcells.registry import Registry

log = structlog.get_logger()

GROUP_SECONDS = 0.1
"""How long an outcome waits for others to share its commit."""
GROUP_ITEMS = 64
"""So many outcomes are committed at once, without waiting for more."""
REFILL_SECONDS = 0.05
"""The least time between two claims while others are in flight: places that come free together are filled by one."""
_TICK_SECONDS = 0.5
_RETRY_SECONDS = 1.0
_CONNECTIONS = 4
"""Connections that the threads of all items share for their short reads and writes."""
_EXIT_HUNG = 70


@dataclass(slots=True, eq=False)
class Flight:
    """One item that a thread works on."""

    work: Work
    started: datetime
    deadline: float
    """By time.monotonic()."""
    seconds: int


class InFlight:
    """Works on up to `places` items of waiting lanes at a time."""

    def __init__(
        self, connect: Callable[[], Connection], store: BlobStore, registry: Registry, doorbell: Doorbell, held: HeldClaims,
        worker_id: UUID, worker: str, committer: Committer, *, places: int, lease_seconds: float, mode: Mode,
    ) -> None:  # fmt: skip
        self._connect, self._store, self._registry, self._doorbell, self._held = connect, store, registry, doorbell, held
        self._worker_id, self._worker, self._committer = worker_id, worker, committer
        self._places, self._lease, self._mode = places, lease_seconds, mode
        self._pool = ConnectionPool(connect, _CONNECTIONS)
        self._context: StageContext | None = None
        self._turns = FairShare()
        self._changed = threading.Condition()
        self._rung: dict[str, None] = {}
        """Lanes that may have work, the next one to look into first."""
        self._flying: set[Flight] = set()
        self._landed: list[tuple[Flight, Step]] = []
        self._landed_at = 0.0
        """When the first of them arrived."""
        self._late: list[threading.Thread] = []
        """Threads whose item was given up at its deadline: each keeps its place until it ends."""
        self._threads: dict[Flight, threading.Thread] = {}
        self._crashed: list[Work] = []
        """Items that were in a crash: begun once nothing else is in flight."""
        self._open: dict[UUID, set[UUID]] = {}
        """The items of each claim that have not ended."""
        self._refilled_at = 0.0
        self._is_draining = False
        self._thread = threading.Thread(target=self._run, name="in-flight", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def ring(self, lane: str) -> None:
        """Note that a lane may have work."""
        with self._changed:
            self._rung[lane] = None
            self._changed.notify()

    def drain(self) -> None:
        """Claim nothing more, and end when what is in flight has landed."""
        with self._changed:
            self._is_draining = True
            self._changed.notify()

    def join(self, seconds: float) -> None:
        """Wait up to `seconds` for what is in flight."""
        if self._thread.is_alive():
            self._thread.join(seconds)
        self._pool.close()

    def _run(self) -> None:
        goes_on = True
        while goes_on:
            try:
                goes_on = self._one_turn()
            except Exception as error:  # noqa: BLE001 - whatever one turn comes to, there is a next one
                self._failed("in_flight.failed", "", error)
                time.sleep(_RETRY_SECONDS)
        self._disconnect()

    def _one_turn(self) -> bool:
        """Wait until there is something to do, and do it; return False once drained."""
        landed = self._wait()
        if landed:
            self._commit(landed)
        self._end_late()
        for claim_id in self._open:
            self._held.heart.record_progress(claim_id)  # each item has a deadline of its own
        if self._is_draining:
            return bool(self._flying or self._landed)
        if time.monotonic() >= self._next_refill():
            self._refill()
        return True

    def _wait(self) -> list[tuple[Flight, Step]]:
        """Return the outcomes to commit now, none when it is time for something else."""
        tick = time.monotonic() + _TICK_SECONDS
        with self._changed:
            while (due := min(tick, self._next_commit(), self._next_refill())) > (now := time.monotonic()):
                self._changed.wait(due - now)
            if self._next_commit() > now:
                return []
            landed, self._landed = self._landed, []
        return landed

    def _next_commit(self) -> float:
        if not self._landed:
            return float("inf") if self._flying or not self._is_draining else 0.0
        is_due = len(self._landed) >= GROUP_ITEMS or not self._flying
        return 0.0 if is_due else self._landed_at + GROUP_SECONDS

    def _next_refill(self) -> float:
        if self._is_draining:
            return float("inf")
        if self._crashed:
            return float("inf") if self._flying or self._landed else 0.0
        if not self._rung or self._free() <= 0 or any(flight.work.claimed.crashes for flight in self._flying):
            return float("inf")
        return self._refilled_at + REFILL_SECONDS if self._flying else self._refilled_at

    def _free(self) -> int:
        self._late = [thread for thread in self._late if thread.is_alive()]
        return self._places - len(self._flying) - len(self._late)

    # ------------------------------------------------------------------ items begin
    def _refill(self) -> None:
        """Fill the free places from the lanes that were rung, one claim each."""
        if self._crashed:
            works, self._crashed = self._crashed, []
            self._begin(works)
            return
        for lane in list(self._rung):
            if (free := self._free()) <= 0 or self._crashed:
                return
            self._rung.pop(lane)
            try:
                self._claim(lane, free)
            except Exception as error:  # noqa: BLE001 - whatever a claim comes to, the others go on
                self._failed("claim.failed", lane, error)
                if self._turns.unconfirmed_claim:
                    claim_id, workspaces = self._turns.unconfirmed_claim
                    self._held.fail(claim_id, error, workspaces)
                    self._turns.unconfirmed_claim = None
                self._refilled_at = time.monotonic() + _RETRY_SECONDS
                self.ring(lane)
                return

    def _claim(self, lane: str, free: int) -> None:
        context = self._own_context()
        self._doorbell.heard(lane)
        asked_at = self._refilled_at = time.monotonic()
        taken = take(context, self._turns, self._worker_id, self._worker, lane, batch=free, seconds=self._lease, together=True)
        if taken.more:
            self.ring(lane)
            self._doorbell.ring([lane])  # others may have places
        claim, reading = taken.claim, taken.reading
        if not claim.items:
            return
        assert reading is not None
        self._held.add(claim, asked_at)
        try:
            works = context.take_in(claim, reading)
            if reading.unread:
                works = fail_unreadable(context, self._committer, works, reading.unread)
            for work in works:
                context.contract(work)  # read here, so that the threads find it
        except Exception as error:
            self._held.fail(claim.id, error)
            raise
        if not works:
            self._held.drop(claim.id)
            return
        self._open[claim.id] = {work.item_id for work in works}
        if any(work.claimed.crashes for work in works):
            self._crashed = works
            if self._flying:
                return
            self._crashed = []
        self._begin(works)

    def _begin(self, works: Sequence[Work]) -> None:
        context = self._own_context()
        for work in works:
            shared = replace(context, borrow=self._pool.lend, lease_holds=partial(self._held.heart.holds, work.claim_id))
            seconds = context.contract(work).max_seconds
            flight = Flight(work, datetime.now(UTC), time.monotonic() + seconds, seconds)
            thread = threading.Thread(target=self._fly, args=(flight, shared), name=f"item-{work.item_id}", daemon=True)
            with self._changed:
                self._flying.add(flight)
                self._threads[flight] = thread
            thread.start()

    def _fly(self, flight: Flight, context: StageContext) -> None:
        """Run the cell of one item, and leave its step to the coordinator. An item that was given up meanwhile leaves nothing."""
        [step] = run_stage(context, Stage.WORKCELL, [flight.work])
        self._land(flight, step)

    def _land(self, flight: Flight, step: Step) -> bool:
        with self._changed:
            if flight not in self._flying:
                return False
            self._flying.discard(flight)
            del self._threads[flight]
            if not self._landed:
                self._landed_at = time.monotonic()
            self._landed.append((flight, step))
            self._changed.notify()
        return True

    # ------------------------------------------------------------------ items end
    def _end_late(self) -> None:
        """End the attempts whose time is over. A thread cannot be stopped: what it still brings is not looked at."""
        now = time.monotonic()
        for flight in [flight for flight in self._flying if flight.deadline < now]:
            thread = self._threads[flight]
            error = TimeoutError(f"the cell gave no answer within {flight.seconds} s")
            attempt = raised_attempt(flight.work, flight.started, error, str(error), Cause.TRANSIENT)
            ceilings = self._own_context().ceilings(flight.work)
            if self._land(flight, failed_attempt(flight.work, Cause.TRANSIENT, str(error), ceilings, records=[attempt])):
                self._late.append(thread)
        if len(self._late) >= self._places and self._free() <= 0:
            log.error("worker.hung", worker=self._worker, threads=len(self._late))
            os._exit(_EXIT_HUNG)

    def _commit(self, landed: Sequence[tuple[Flight, Step]]) -> None:
        """Take outcomes as far as this worker may, and commit them; the claims of those that cannot be are given up."""
        works = [flight.work for flight, _ in landed]
        ending: dict[UUID, set[UUID]] = {}
        for work in works:
            ending.setdefault(work.claim_id, set()).add(work.item_id)
        closes = {claim_id for claim_id, items in ending.items() if not self._open.get(claim_id, set()) - items}
        rings: set[str] = set()
        try:
            context = self._own_context()
            context.renew(works)
            mode = mode_for(context, works, self._mode)
            group = one_round(
                context, self._committer, [], mode, rings, closes=closes, ran=[(flight.work, step) for flight, step in landed]
            )
            while group:
                mode = mode if context.is_unrestricted else Mode.STRICT
                group = one_round(context, self._committer, group, mode, rings, closes=closes)
        except Exception as error:  # noqa: BLE001 - the outcomes are lost with their claims, and the others go on
            self._failed("commit.failed", works[0].lane, error)
            for claim_id in ending:
                self._give_up(claim_id, error)
            return
        for claim_id, items in ending.items():
            if left := self._open.get(claim_id, set()) - items:
                self._open[claim_id] = left
            else:
                self._open.pop(claim_id, None)
                self._held.drop(claim_id)
        if not context.is_unrestricted:
            rings.update(work.lane for work in works)  # a limit may have kept others from what these have made room for
        with suppress(ShopfloorError):
            self._doorbell.ring(rings)

    def _give_up(self, claim_id: UUID, error: Exception) -> None:
        """Return what a claim holds; what is still in flight of it leaves nothing."""
        with self._changed:
            for flight in [flight for flight in self._flying if flight.work.claim_id == claim_id]:
                self._flying.discard(flight)
                self._late.append(self._threads.pop(flight))
            self._landed = [(flight, step) for flight, step in self._landed if flight.work.claim_id != claim_id]
        self._open.pop(claim_id, None)
        self._held.fail(claim_id, error)

    def _failed(self, event: str, lane: str, error: Exception) -> None:
        self._disconnect()
        if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError, ShopfloorError)):
            log.warning(event, worker=self._worker, lane=lane, error=first_line(error))
        else:
            # Where, not what: the message of an error may hold what people wrote.
            log.error(event, worker=self._worker, lane=lane, error=type(error).__name__, at=places_of(error))

    def _own_context(self) -> StageContext:
        """Return the coordinator's context, connected. It keeps what it knows of batches: what is in flight goes by it."""
        if self._context is None:
            self._context = StageContext(self._connect(), self._store, self._registry)
        elif self._context.conn.closed:
            self._context.conn = self._connect()
        return self._context

    def _disconnect(self) -> None:
        if self._context is not None:
            self._context.conn.close()
        self._pool.close()
