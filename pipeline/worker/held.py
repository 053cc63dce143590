"""The claims that a worker holds: renewed while they are worked on, returned when they cannot be brought to an end."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import psycopg
import structlog
from contracts.errors import ShopfloorError, Unavailable
from pipeline.stages.retries import message_of
from queues.claims import Claim, give_back
from queues.database import Connection, is_connection_error, transaction
from queues.doorbell import Doorbell
from queues.failed_claims import fail_claims
from queues.leases import Heartbeat

log = structlog.get_logger()


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


class HeldClaims:
    """The claims of one worker process, over all its threads."""

    def __init__(self, connect: Callable[[], Connection], doorbell: Doorbell, worker_id: UUID, worker: str, *, lease_seconds: float,
                 limit_seconds: float, on_hang: Callable[[UUID], None]) -> None:  # fmt: skip
        self._connect, self._doorbell, self._worker = connect, doorbell, worker
        self.heart = Heartbeat(
            connect, worker_id, lease_seconds=lease_seconds, limit_seconds=limit_seconds, on_hang=on_hang, on_beat=self._return_unfinished
        )
        self._held: dict[UUID, frozenset[UUID]] = {}
        """The claims that are worked on, each with its workspaces."""
        self._unfinished: list[UnfinishedClaim] = []

    def add(self, claim: Claim, asked_at: float) -> None:
        """Renew a claim from now on. `asked_at` is time.monotonic() from before it was sent."""
        self.heart.hold(claim.id, asked_at)
        self._held[claim.id] = frozenset(item.workspace_id for item in claim.items)

    def drop(self, claim_id: UUID) -> None:
        """Renew a claim no more: it is finished, or given up."""
        self.heart.drop(claim_id)
        self._held.pop(claim_id, None)

    def fail(self, claim_id: UUID, error: Exception, workspaces: frozenset[UUID] | None = None) -> None:
        """Return what a failure left leased under a claim, counted against its items unless it was an outage.

        `workspaces` are those of a claim that was sent and is not held: it may be open.
        """
        known = self._held.get(claim_id, frozenset()) if workspaces is None else workspaces
        self._return(UnfinishedClaim(claim_id, known, _counted(error)))
        self.drop(claim_id)

    def give_back_all(self, note: str) -> None:
        """Return the items of every claim that is still held. Whoever is still at one finds its lease gone, and sends nothing more."""
        for claim_id, workspaces in list(self._held.items()):
            self.drop(claim_id)
            self._return(UnfinishedClaim(claim_id, workspaces, note=note))

    def _return(self, unfinished: UnfinishedClaim) -> None:
        """Return what a failure left leased; when the database is away, as soon as it answers a heartbeat again."""
        try:
            with self._connect() as conn:
                self._doorbell.ring(unfinished.end(conn, self._worker))
        except (psycopg.Error, ShopfloorError) as error:
            log.warning("claim.left", claim=str(unfinished.claim_id), error=type(error).__name__)
            self._unfinished.append(unfinished)

    def _return_unfinished(self, conn: Connection) -> None:
        while self._unfinished:
            self._unfinished[0].end(conn, self._worker)
            del self._unfinished[0]


def _counted(error: Exception) -> str:
    """Return what a failure counts as against the items of its claim; empty for an outage, which says nothing of them."""
    return "" if is_connection_error(error) or isinstance(error, Unavailable) else message_of(error)
