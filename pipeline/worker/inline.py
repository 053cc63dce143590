"""The stages in one process and without a broker: for tests, and for authors who try a cell out."""

import os
import socket
from collections.abc import Iterable, Mapping
from contextlib import closing
from uuid import UUID

from contracts.floor import Floor
from contracts.identity import new_id
from contracts.lifecycle import CLAIMABLE_STAGES, Role, Stage
from pipeline.stages.context import StageContext
from pipeline.startup.compose import Shop
from pipeline.worker.advance import Mode, advance
from pipeline.worker.commit import Committer, carried_lanes
from pipeline.worker.fair_share import FairShare, take
from queues import workers
from workcells.appliers import Applier
from workcells.registry import Registry


def lanes_of(floor: Floor, role: Role) -> list[str]:
    """Return the lanes that a floor needs served by one role: apply alone serves the lanes of adapters, and closes after them."""
    if role is Role.APPLY:
        return floor.apply_lanes
    plain = [stage.value for stage in CLAIMABLE_STAGES if stage not in (Stage.WORKCELL, Stage.APPLY)]
    return [*plain, *floor.cell_lanes]


class InlineWorker:
    """Serves lanes step by step in the caller's thread, by the same claims, steps and commits as a worker process."""

    def __init__(
        self, shop: Shop, role: Role, lanes: Iterable[str], registry: Registry, appliers: Mapping[str, Applier] | None = None,
        *, mode: Mode = Mode.FUSED, batch: int = 200, seconds: float = 30.0,
    ) -> None:  # fmt: skip
        self.lanes, self.mode, self.batch, self.seconds = list(lanes), mode, batch, seconds
        self.id: UUID = new_id()
        self.name = f"inline-{role}"
        self.context = StageContext(shop.connect(role, name=self.name, worker=True), shop.store, registry, appliers or {})
        self._turns = FairShare()
        workers.register(
            self.context.conn, self.id, name=self.name, host=socket.gethostname(), pid=os.getpid(), lanes=self.lanes,
            runs=registry.hashes,
        )  # fmt: skip

    def step(self, lane: str) -> int:
        """Claim one batch of a lane, take it as far as it goes, and return how many items were claimed."""
        taken = take(self.context, self._turns, self.id, self.name, lane, batch=self.batch, seconds=self.seconds)
        if taken.claim.items:
            committer = Committer(self.name, self.id, carried_lanes(self.lanes).__contains__)
            for _ in advance(self.context, committer, taken, self.mode):
                pass
        return len(taken.claim.items)

    def run(self) -> int:
        """Serve all lanes until none has anything due; return how many claims of items that took."""
        total = 0
        while done := sum(self.step(lane) for lane in self.lanes):
            total += done
        return total

    def close(self) -> None:
        """Retire and disconnect."""
        with closing(self.context.conn) as conn:
            workers.retire(conn, self.id)
