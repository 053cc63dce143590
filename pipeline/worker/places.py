"""The places of a worker for items that wait for others: who flies, who has landed, who is late.

Threads land items and one coordinator looks after them; what they share is changed under one lock.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from pipeline.stages.work import Step, Work

GROUP_SECONDS = 0.1
"""How long an outcome waits for others to share its commit."""
GROUP_ITEMS = 64
"""So many outcomes are committed at once, without waiting for more."""


@dataclass(slots=True, eq=False)
class Flight:
    """One item in a thread of its own."""

    work: Work
    seconds: int
    """How long its attempt may take."""
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    began: float = field(default_factory=time.monotonic)
    thread: threading.Thread | None = None


Landed = Sequence[tuple[Flight, Step]]


class Places:
    """Up to `most` items in flight."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.changed = threading.Condition()
        """Notified when an item has landed; held by whoever waits for more than that."""
        self._flying: set[Flight] = set()
        self._landed: list[tuple[Flight, Step]] = []
        self._landed_at = 0.0
        """When the first of them did."""
        self._late: list[threading.Thread] = []
        """Threads whose item was given up: each keeps its place until it ends."""

    def begin(self, flight: Flight, run: Callable[[Flight], Step]) -> None:
        """Run one item in a thread. What it comes to is not kept when it was given up meanwhile."""
        flight.thread = threading.Thread(target=lambda: self.land(flight, run(flight)), name=f"item-{flight.work.item_id}", daemon=True)
        with self.changed:
            self._flying.add(flight)
        flight.thread.start()

    def land(self, flight: Flight, step: Step) -> bool:
        """Keep what an item came to, and return whether it was still in flight."""
        with self.changed:
            if flight not in self._flying:
                return False
            self._flying.discard(flight)
            if not self._landed:
                self._landed_at = time.monotonic()
            self._landed.append((flight, step))
            self.changed.notify()
        return True

    def give_up(self, flight: Flight, step: Step) -> None:
        """End an item by a step that it did not give itself."""
        if self.land(flight, step) and flight.thread is not None:
            self._late.append(flight.thread)

    def forget(self, claim_id: UUID) -> None:
        """Drop what is in flight or has landed under a claim that is lost."""
        with self.changed:
            for flight in [flight for flight in self._flying if flight.work.claim_id == claim_id]:
                self._flying.discard(flight)
                if flight.thread is not None:
                    self._late.append(flight.thread)
            self._landed = [(flight, step) for flight, step in self._landed if flight.work.claim_id != claim_id]

    def take_landed(self) -> Landed:
        """Return what has landed, and keep it no longer."""
        with self.changed:
            landed, self._landed = self._landed, []
        return landed

    def overdue(self) -> list[Flight]:
        """Return the items in flight whose time is over."""
        now = time.monotonic()
        with self.changed:
            return [flight for flight in self._flying if now - flight.began > flight.seconds]

    def next_commit(self) -> float:
        """Return by time.monotonic() when what has landed is to be committed; infinity when nothing has."""
        if not self._landed:
            return float("inf")
        return 0.0 if len(self._landed) >= GROUP_ITEMS or not self._flying else self._landed_at + GROUP_SECONDS

    def free(self) -> int:
        """Return how many items more may fly."""
        return self.most - len(self._flying) - self.late()

    def late(self) -> int:
        """Return how many places are taken by threads whose item was given up."""
        self._late = [thread for thread in self._late if thread.is_alive()]
        return len(self._late)

    @property
    def are_empty(self) -> bool:
        """True when nothing flies and nothing has landed."""
        return not self._flying and not self._landed

    @property
    def is_flying(self) -> bool:
        """True when something flies."""
        return bool(self._flying)

    @property
    def hold_crashed(self) -> bool:
        """True when an item flies that was in a crash: nothing else begins beside it."""
        with self.changed:
            return any(flight.work.claimed.crashes for flight in self._flying)
