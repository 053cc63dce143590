"""The sweeper: brings back what died, rings what is due, ends what expired. Any number may run, and twice is once."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from uuid import UUID

import psycopg
import structlog
from contracts.attempts import CEILINGS, Cause
from contracts.errors import ShopfloorError
from contracts.lifecycle import LAPSE, RELEASE, Role, Stage, State, lane_of, move
from contracts.proposals import ClearanceState
from pipeline.failpoints import failpoint
from pipeline.intake.batch_book import fail_abandoned
from pipeline.review.clearances import after_decision
from pipeline.stages.retries import backoff_seconds
from pipeline.startup.compose import Shop
from pipeline.sweeper.orphaned_blobs import keep_collecting
from queues.claims import close_if_empty, lanes_due
from queues.database import Connection, first_line, transaction
from queues.doorbell import Doorbell
from queues.mover import Planned, Route, perform

log = structlog.get_logger()

NAME = "sweeper"
_MOST = 1000
_UPKEEP_SECONDS = 600.0
_ABANDONED_SECONDS = 600.0
"""Time for somebody to run a killed intake again, which then goes on where it stopped."""

_DEAD_CLAIMS = "SELECT id FROM claims WHERE closed_at IS NULL AND until < clock() ORDER BY id LIMIT 50 FOR UPDATE SKIP LOCKED"
_THEIRS = """
SELECT q.item_id, q.fence, q.stage, q.lane, q.crashes, q.workspace_id, (SELECT worker_id FROM claims WHERE id = q.claim_id),
       (SELECT (convert_from(k.body, 'UTF8')::json #>> '{limits,attempts,crash}')::int FROM contracts k WHERE k.id = q.contract_id)
  FROM queue q WHERE q.claim_id = ANY(%s) ORDER BY q.item_id LIMIT %s FOR NO KEY UPDATE OF q SKIP LOCKED
"""
"""With the ceiling of crashes that the item's contract sets, null where it sets none."""


# Under the worker whose lease it was: nobody else adds to its minutes any more.
_FAILED = """
INSERT INTO lane_minutes (workspace_id, lane, minute, worker_id, failed) VALUES (%s, %s, date_trunc('minute', clock()), %s, %s)
ON CONFLICT (minute, lane, workspace_id, worker_id) DO UPDATE SET failed = lane_minutes.failed + excluded.failed
"""


def expire_leases(conn: Connection) -> int:
    """Bring back the items of claims that ran out: ready again after a backoff, or dead at the ceiling of crashes."""
    with transaction(conn, None):
        dead = [claim for (claim,) in conn.execute(_DEAD_CLAIMS)]
        if not dead:
            return 0
        planned = []
        failed: Counter[tuple[UUID, str, UUID]] = Counter()
        for item, fence, stage, lane, crashes, workspace, worker, ceiling in conn.execute(_THEIRS, [dead, _MOST]).fetchall():
            last = crashes + 1 >= (ceiling or CEILINGS[Cause.CRASH])
            route = Route(
                (move("bury" if last else "expire", Stage(stage), State.LEASED),),
                lane,
                ("the lease ran out: its worker died or hung",),
                cause=Cause.CRASH,
            )
            failed[workspace, lane, worker] += 1
            planned.append(Planned(item, fence, route, delay_seconds=0.0 if last else backoff_seconds(Cause.CRASH, crashes + 1)))
        perform(conn, planned, by=NAME)
        for (workspace, lane, worker), count in sorted(failed.items(), key=str):
            conn.execute(_FAILED, [workspace, lane, worker, count])
        for claim in dead:
            close_if_empty(conn, claim)
    failpoint("sweep.expired")
    return len(planned)


_COMPLETE = """
SELECT q.item_id, q.fence FROM queue q JOIN batches b ON q.waiting_on = 'batch ' || b.id
 WHERE q.wait = 'dependency' AND b.state <> 'reading' ORDER BY q.item_id LIMIT %s FOR NO KEY UPDATE OF q SKIP LOCKED
"""
_WAITING_BATCHES = "SELECT EXISTS (SELECT FROM queue WHERE wait = 'dependency')"


def release_dependants(conn: Connection) -> int:
    """Start what waited for a batch that is complete: an intake that died after its last row releases nothing itself."""
    row = conn.execute(_WAITING_BATCHES).fetchone()
    if not (row and row[0]):
        return 0
    with transaction(conn, None):
        route = Route((RELEASE,), lane_of(Stage.ROUTE), ("its batch is complete",))
        planned = [Planned(item, fence, route) for item, fence in conn.execute(_COMPLETE, [_MOST]).fetchall()]
        return len(perform(conn, planned, by=NAME).done)


def end_abandoned(conn: Connection) -> int:
    """End batches whose intake died and did not come back, so that what waits for them may start."""
    return fail_abandoned(conn, seconds=_ABANDONED_SECONDS)


_LAPSED = Route((LAPSE,), lane_of(Stage.REWORK), ("the proposal expired before anything was done",))
_DECIDED = """
SELECT q.item_id, q.fence, c.state, p.adapter, p.expires_at <= clock() FROM clearances c
  JOIN proposals p ON p.id = c.proposal_id AND p.state IN ('approved', 'rejected', 'returned')
  JOIN queue q ON q.item_id = p.item_id AND q.stage = 'qa' AND q.state = 'waiting'
 WHERE c.needed > 0 AND c.state IN ('cleared', 'refused', 'returned') AND c.closed_at > clock() - make_interval(days => %s)
   AND NOT EXISTS (SELECT FROM proposals later WHERE later.item_id = p.item_id AND later.epoch > p.epoch)
 ORDER BY q.item_id LIMIT %s FOR NO KEY UPDATE OF q SKIP LOCKED
"""


def follow_decisions(conn: Connection, *, days: int = 1) -> int:
    """Move the items whose clearance was decided, within so many days, by a call that did not move them.

    Such as psql, or a console that died. An approval that expired before it was followed gets a fresh look.
    """
    with transaction(conn, None):
        rows = conn.execute(_DECIDED, [days, _MOST]).fetchall()
        late = [item for item, _, state, _, is_late in rows if state == ClearanceState.CLEARED and is_late]
        if late:
            conn.execute("SELECT void_proposals(%s, 'expired')", [late])
        planned = [
            Planned(item, fence, _LAPSED if item in late else after_decision(ClearanceState(state), adapter, "decided"))
            for item, fence, state, adapter, _ in rows
        ]
        return len(perform(conn, planned, by=NAME).done)


_EXPIRED = """
SELECT q.item_id, q.fence FROM proposals p JOIN queue q ON q.item_id = p.item_id AND q.stage = 'qa' AND q.state = 'waiting'
 WHERE p.is_open AND p.expires_at <= clock() ORDER BY q.item_id LIMIT %s FOR NO KEY UPDATE OF q SKIP LOCKED
"""


def lapse_proposals(conn: Connection) -> int:
    """Give proposals that expired unanswered a fresh look: never dropped, never executed."""
    with transaction(conn, None):
        rows = conn.execute(_EXPIRED, [_MOST]).fetchall()
        if not rows:
            return 0
        conn.execute("SELECT void_proposals(%s, 'expired')", [[item for item, _ in rows]])
        return len(perform(conn, [Planned(item, fence, _LAPSED) for item, fence in rows], by=NAME).done)


_MINUTES_DAYS = 30
_ALL_DAYS = 36_500


def upkeep(conn: Connection) -> int:
    """Make partitions ahead and do what need not be done each second; return how many partitions were made.

    Workers that have been silent for long are marked as stopped, decisions of any age followed, old minutes forgotten.
    """
    with transaction(conn, None):
        row = conn.execute("SELECT extend_partitions()").fetchone()
        # A claim is closed with its last item. One that is not, were it ever to be, would keep that item for good.
        conn.execute(
            "UPDATE claims SET closed_at = NULL WHERE closed_at IS NOT NULL AND id IN (SELECT claim_id FROM queue WHERE claim_id IS NOT NULL)"
        )
        conn.execute("UPDATE workers SET stopped_at = clock() WHERE stopped_at IS NULL AND beat_at < clock() - interval '10 minutes'")
        conn.execute("DELETE FROM lane_minutes WHERE minute < clock() - make_interval(days => %s)", [_MINUTES_DAYS])
    follow_decisions(conn, days=_ALL_DAYS)  # no sweeper may have run for days
    return row[0] if row else 0


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
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        log.error("sweep.refused", duty=what, error=first_line(error))  # noqa: TRY400 - one line, never a traceback
        return 0


class Sweeper:
    """The process around `sweep`."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    def run(self, stop: threading.Event) -> int:
        """Sweep every `sweep_seconds` until told to stop; a database that is away is waited for, aloud."""
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
            except (psycopg.Error, ShopfloorError) as error:
                log.warning("sweep.failed", error=first_line(error))
                if conn is not None:
                    conn.close()
                conn = None
            stop.wait(self._shop.settings.sweep_seconds)
        return 0
