"""Write the proposals of a commit and open their clearances, before the moves that rest on them."""

from collections.abc import Sequence
from uuid import UUID

from artifacts.shelf import ProposalRow
from contracts.identity import new_id
from contracts.lifecycle import Wait
from contracts.proposals import ClearanceState
from pipeline.failpoints import failpoint
from pipeline.stages.work import Step, Work, stay
from queues.database import Connection

CLEARANCE_SECONDS = 2 * 24 * 3600
"""How long a clearance may wait before it is overdue on the board."""

Finished = Sequence[tuple[Work, Step]]

_PROPOSE = """
SELECT *
  FROM propose(%b::uuid[], %b::uuid[], %b::text[], %b::text[], %b::text[], %b::bytea[], %b::bytea[], %b::int[],
               %b::text[],
  %b::real[], %b::text[], %b::timestamptz[], %b::int[], %b::int[], %b::text[], %b::uuid[], %s)
"""


def propose(conn: Connection, finished: Finished) -> tuple[Finished, list[UUID]]:
    """Write the proposals among the finished steps and open their clearances; return the steps that go on, and the items lost.

    A step whose clearance is not what it took for granted becomes a question to people. Items whose lease is no longer
    ours are lost: nothing is written for them.
    """
    rows = {work.item_id: row for work, step in finished for row in step.records if isinstance(row, ProposalRow)}
    if not rows:
        return finished, []
    asking = [(work, step) for work, step in finished if work.item_id in rows]
    by_proposal = {rows[work.item_id].id: (work, step) for work, step in asking}
    found = conn.execute(
        _PROPOSE,
        [
            *(list(column) for column in zip(*(rows[work.item_id] for work, _ in asking), strict=True)),
            [work.committed_fence for work, _ in asking],
            [work.contract_id for work, _ in asking],
            [step.tier for _, step in asking],
            [new_id() for _ in asking],
            CLEARANCE_SECONDS,
        ],
        prepare=True,
    )
    asked = {}
    for proposal_id, clearance in found:
        work, step = by_proposal[proposal_id]
        if step.move.name == "clear" and clearance != ClearanceState.CLEARED:
            # The pod's autonomy was lowered meanwhile: people decide.
            step = stay(work, "ask", wait=Wait.APPROVAL, waiting_on="a reviewer", tier=step.tier, records=step.records)
        asked[work.item_id] = step
    failpoint("clearance.opened")
    lost = [item for item in rows if item not in asked]
    return [(work, asked.get(work.item_id, step)) for work, step in finished if work.item_id not in lost], lost
