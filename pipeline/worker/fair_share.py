"""Fair share: whose work a claim takes. Workspaces take turns, and within one its pods, however much any of them has."""

import time
from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from contracts.identity import new_id
from contracts.lifecycle import Stage, stage_of
from pipeline.failpoints import failpoint
from pipeline.stages.context import Reading, StageContext
from queues.claims import CRASHED, CRASHED_TOGETHER, Claim, Pair, backlog, claim_batch
from queues.database import transaction

_REFRESH_SECONDS = 1.0
"""How long a worker may go by what it knows of a lane: whoever comes new waits no longer for a first turn."""


class Taken(NamedTuple):
    """A claim, what was read with it, and whether the lane may hold more work than was claimed."""

    claim: Claim
    more: bool
    reading: Reading | None


class FairShare:
    """Whose turn it is in each lane. One per worker thread: never shared."""

    def __init__(self, pairs_per_claim: int = 16) -> None:
        self._waiting: dict[str, OrderedDict[UUID, deque[UUID]]] = {}
        """Lane → workspaces in the order of their turns → pods in that of theirs."""
        self._refreshed_at: dict[str, float] = {}
        self._most = pairs_per_claim
        self._claims: Counter[str] = Counter()
        self.unconfirmed_claim: tuple[UUID, frozenset[UUID]] | None = None
        """The claim that was sent and not confirmed: it may be open, and nobody else knows of it."""

    def next(self, context: StageContext, lane: str, most: int) -> tuple[list[Pair], bool]:
        """Return up to `most` pairs whose turn it is, and whether others are still waiting for theirs."""
        waiting = self._waiting.setdefault(lane, OrderedDict())
        now = time.monotonic()
        if not waiting or now - self._refreshed_at.get(lane, 0.0) > _REFRESH_SECONDS:
            self._refreshed_at[lane] = now
            self._merge_backlog(waiting, backlog(context.conn, lane))
        turn: list[Pair] = []
        while waiting and len(turn) < min(self._most, most):
            workspace, pods = waiting.popitem(last=False)
            turn.append((workspace, pods.popleft()))
            if pods:
                waiting[workspace] = pods
        return turn, bool(waiting)

    @staticmethod
    def _merge_backlog(waiting: OrderedDict[UUID, deque[UUID]], found: Sequence[Pair]) -> None:
        """Keep the order of those that wait, forget who has nothing left, and put who is new behind them."""
        there = set(found)
        known = {(workspace, pod) for workspace, pods in waiting.items() for pod in pods}
        for workspace in list(waiting):
            left = deque(pod for pod in waiting[workspace] if (workspace, pod) in there)
            if left:
                waiting[workspace] = left
            else:
                del waiting[workspace]
        for workspace, pod in found:
            if (workspace, pod) not in known:
                waiting.setdefault(workspace, deque()).append(pod)

    def begins_with_crashed(self, lane: str) -> bool:
        """True every eighth time: items that were in a crash wait for quiet, but not for ever."""
        self._claims[lane] += 1
        return self._claims[lane] % 8 == 0

    def put_back(self, lane: str, pairs: Sequence[Pair]) -> None:
        """Give pairs that had more than their share another turn, after the others."""
        waiting = self._waiting[lane]
        for workspace, pod in pairs:
            waiting.setdefault(workspace, deque()).append(pod)


def take(
    context: StageContext, turns: FairShare, worker_id: UUID, worker: str, lane: str, *, batch: int, seconds: float,
    together: bool = False,
) -> Taken:  # fmt: skip
    """Claim up to `batch` due items of a lane, shared evenly among the workspaces whose turn it is, and read what they need.

    Fewer where the lane's items are slow: what one worker cannot get to soon stays in the lane. With `together`, a few items that
    were in one crash may come in one claim: each alone would take too long.
    """
    stage = stage_of(lane)
    batch = context.pace.claim(lane, batch)
    pairs, more = turns.next(context, lane, batch)
    claim_id = new_id()
    if not pairs:
        return Taken(Claim(claim_id, lane, stage, ()), False, None)
    shares = _shares(pairs, batch)
    # Items that were in a crash travel alone; they have their turn when nothing else is due.
    runs = context.registry.hashes if stage is Stage.WORKCELL else None
    after_crashes = CRASHED_TOGETHER if together else CRASHED
    ways = ((shares, None), *((dict.fromkeys(pairs, crashed.most), crashed) for crashed in after_crashes))
    turns.unconfirmed_claim = claim_id, frozenset(workspace for workspace, _ in pairs)
    claim, pending = Claim(claim_id, lane, stage, ()), None
    # A lease that a crash of the server forgets was never there: its holder's next commit finds another fence. Whatever is
    # durable after it made it durable too, so that no effect rests on a claim that is not there.
    with transaction(context.conn, turns.unconfirmed_claim[1], pipelined=True, durable=False) as conn:
        for each, crashed in reversed(ways) if turns.begins_with_crashed(lane) else ways:
            claim = claim_batch(conn, claim_id, worker_id, worker, lane, stage, each, seconds=seconds, crashed=crashed, runs=runs)
            if claim.items:
                pending = context.request(claim.items, stage)
                break
    reading = context.receive(pending) if pending else None
    turns.unconfirmed_claim = None
    taken = Counter((item.workspace_id, item.pod_id) for item in claim.items)
    turns.put_back(lane, [pair for pair in pairs if taken[pair] >= shares[pair]])
    if claim.items:
        failpoint("claim.committed")
    return Taken(claim, more or bool(claim.items), reading)


def _shares(pairs: Sequence[Pair], batch: int) -> dict[Pair, int]:
    """Return how many items each pair may have: as much for each workspace, and of that as much for each of its pods."""
    pods = Counter(workspace for workspace, _ in pairs)
    each = max(1, batch // len(pods))
    return {(workspace, pod): max(1, each // pods[workspace]) for workspace, pod in pairs}
