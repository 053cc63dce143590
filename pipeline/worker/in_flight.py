"""Lanes whose cells wait for others: many items in flight at once, each in a thread of its own.

One thread coordinates: it claims as places come free and commits outcomes in groups as they arrive, so that no answer waits for a
slow neighbour. The threads of items write nothing themselves, and borrow a connection only for a moment.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
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
from pipeline.worker.places import Flight, Landed, Places
from queues.database import Connection, first_line
from queues.doorbell import Doorbell
from queues.pool import ConnectionPool
from workcells.registry import Registry

log = structlog.get_logger()

REFILL_SECONDS = 0.05
"""The least time between two claims while others are in flight: places that come free together are filled by one."""
_TICK_SECONDS = 0.5
_RETRY_SECONDS = 1.0
_CONNECTIONS = 4
"""Connections that the threads of all items share for their short reads and writes."""
_EXIT_HUNG = 70


class InFlight:
    """Works on up to `places` items of waiting lanes at a time."""

    def __init__(
        self, connect: Callable[[], Connection], store: BlobStore, registry: Registry, doorbell: Doorbell, held: HeldClaims,
        worker_id: UUID, worker: str, committer: Committer, *, places: int, lease_seconds: float, mode: Mode,
    ) -> None:  # fmt: skip
        self._connect, self._store, self._registry, self._doorbell, self._held = connect, store, registry, doorbell, held
        self._worker_id, self._worker, self._committer = worker_id, worker, committer
        self._places, self._lease, self._mode = Places(places), lease_seconds, mode
        self._pool = ConnectionPool(connect, _CONNECTIONS)
        self._context: StageContext | None = None
        self._turns = FairShare()
        self._rung: dict[str, None] = {}
        """Lanes that may have work, the next one to look into first."""
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
        with self._places.changed:
            self._rung[lane] = None
            self._places.changed.notify()

    def drain(self) -> None:
        """Claim nothing more, and end when what is in flight has landed."""
        with self._places.changed:
            self._is_draining = True
            self._places.changed.notify()

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
        self._wait()
        if self._places.next_commit() <= time.monotonic():
            self._commit(self._places.take_landed())
        self._end_late()
        for claim_id in self._open:
            self._held.heart.record_progress(claim_id)  # each item has a deadline of its own
        if self._is_draining:
            return not self._places.are_empty
        if self._next_refill() <= time.monotonic():
            self._refill()
        return True

    def _wait(self) -> None:
        """Return when something is to be done, or after half a second."""
        tick = time.monotonic() + _TICK_SECONDS
        with self._places.changed:
            while not (self._is_draining and self._places.are_empty):
                seconds = min(tick, self._places.next_commit(), self._next_refill()) - time.monotonic()
                if seconds <= 0:
                    return
                self._places.changed.wait(seconds)

    def _next_refill(self) -> float:
        if self._is_draining:
            return float("inf")
        if self._crashed:
            return 0.0 if self._places.are_empty else float("inf")
        if not self._rung or self._places.free() <= 0 or self._places.hold_crashed:
            return float("inf")
        return self._refilled_at + REFILL_SECONDS if self._places.is_flying else self._refilled_at

    # ------------------------------------------------------------------ items begin
    def _refill(self) -> None:
        """Fill the free places from the lanes that were rung, one claim each."""
        if self._crashed:
            works, self._crashed = self._crashed, []
            self._begin(works)
            return
        for lane in list(self._rung):
            if (free := self._places.free()) <= 0 or self._crashed:
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
            self._crashed = works  # the next turn begins them, once nothing else is in flight
        else:
            self._begin(works)

    def _begin(self, works: Sequence[Work]) -> None:
        context = self._own_context()
        for work in works:
            shared = replace(context, borrow=self._pool.lend, lease_holds=partial(self._held.heart.holds, work.claim_id))
            self._places.begin(Flight(work, context.contract(work).max_seconds), partial(_run_cell, shared))

    # ------------------------------------------------------------------ items end
    def _end_late(self) -> None:
        """End the attempts whose time is over. A thread cannot be stopped: what it still brings is not looked at."""
        for flight in self._places.overdue():
            error = TimeoutError(f"the cell gave no answer within {flight.seconds} s")
            attempt = raised_attempt(flight.work, flight.started, error, str(error), Cause.TRANSIENT)
            ceilings = self._own_context().ceilings(flight.work)
            self._places.give_up(flight, failed_attempt(flight.work, Cause.TRANSIENT, str(error), ceilings, records=[attempt]))
        if self._places.late() >= self._places.most:
            log.error("worker.hung", worker=self._worker, threads=self._places.late())
            os._exit(_EXIT_HUNG)

    def _commit(self, landed: Landed) -> None:
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
        self._places.forget(claim_id)
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


def _run_cell(context: StageContext, flight: Flight) -> Step:
    [step] = run_stage(context, Stage.WORKCELL, [flight.work])
    return step
