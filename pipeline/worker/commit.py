"""The commit: the one transaction that turns steps into history.

Large bodies go to disk first (a crash leaves an orphan, never a hole); then artifacts, verdicts, proposals and
moves are written together for the items whose fence still holds. A row that the database refuses is bisected
out of its batch, so that its neighbours are not held back.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import psycopg
from artifacts import shelf
from artifacts.blobs import ROW_BYTES
from artifacts.shelf import Body, ProposalRow, Record
from contracts.lifecycle import ARCHIVED, CARRIES, Stage, State, stage_of
from pipeline.failpoints import failpoint
from pipeline.stages.context import NO_PAUSE_OR_LIMIT, StageContext, is_true
from pipeline.stages.retries import cause_of, failed_attempt, message_of, with_one_more
from pipeline.stages.work import Step, Work
from pipeline.worker.proposals import propose
from queues.claims import close_claim
from queues.database import Connection, is_connection_error, transaction
from queues.mover import Moved, Planned, Route, perform
from queues.throughput import Ending, add_to_minutes

_COUNTED_AS = {"retry": "failed", "bury": "failed", "give_back": "returned"}
"""The column of a lane's minute that a move adds to, where that is not `finished`."""


@dataclass(slots=True)
class CommitResult:
    """What a commit left: items that this worker carries on with, lanes to ring, and items that were lost."""

    carried: list[Work] = field(default_factory=list)
    rings: Counter[str] = field(default_factory=Counter)
    lost: list[UUID] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Committer:
    """Who commits: the worker's name and id, and which lanes it may carry a lease into."""

    worker: str
    worker_id: UUID
    serves: Callable[[str], bool]
    goes_on: Callable[[], bool] = lambda: True
    """Asked before each further group of a claim; False when the worker is to stop."""


def carried_lanes(served: Iterable[str]) -> frozenset[str]:
    """Return the lanes that a worker may carry a lease into: those it serves, and archive after an apply, which it closes itself."""
    lanes = frozenset(served)
    return lanes | {Stage.ARCHIVE.value} if any(stage_of(lane) is Stage.APPLY for lane in lanes) else lanes


Finished = Sequence[tuple[Work, Step]]


def commit(context: StageContext, committer: Committer, finished: Finished, *, closes: Collection[UUID]) -> CommitResult:
    """Write all steps in one transaction, or, where a row is refused, in as many as it takes to leave it out.

    `closes` are the claims under which nothing else is leased: each is closed with its last item.
    """
    try:
        result = _write(context, committer, finished, closes=closes)
    except Exception as error:  # whatever else a row can do to its transaction must not take its neighbours along
        if is_connection_error(error):
            raise  # nothing is known to be written: the leases say what happens next
        if len(finished) == 1:
            return _write(context, committer, [_not_written(context, *finished[0], error)], closes=closes)
        # The claim stays open for the other half; empty, it is closed by the sweeper.
        middle = len(finished) // 2
        first, second = (commit(context, committer, half, closes=()) for half in (finished[:middle], finished[middle:]))
        return CommitResult(first.carried + second.carried, first.rings + second.rings, first.lost + second.lost)
    failpoint("commit.after")
    return result


def _not_written(context: StageContext, work: Work, step: Step, error: Exception) -> tuple[Work, Step]:
    """Return the failed attempt that replaces a step whose result cannot be written: the item is where its row says it is."""
    last = (work.chain or [step])[0]
    work.fence, work.stage, work.lane = work.committed_fence, last.move.from_stage, last.from_lane
    work.chain.clear()
    if isinstance(error, psycopg.Error):
        message = f"the database refused the result: {error.diag.message_primary or type(error).__name__}"
    else:
        message = message_of(error)
    return work, failed_attempt(work, cause_of(error), message[:500], context.ceilings(work))


def _write(context: StageContext, committer: Committer, finished: Finished, *, closes: Collection[UUID]) -> CommitResult:
    _store_large(context, finished)
    result = CommitResult()
    with transaction(context.conn, {work.claimed.workspace_id for work, _ in finished}, pipelined=True) as conn:
        unrestricted = conn.execute(NO_PAUSE_OR_LIMIT, prepare=True)  # fetched below, with what is sent after it
        finished, lost = propose(conn, finished)
        result.lost += lost
        may_carry = is_true(unrestricted)
        planned: dict[UUID, list[Planned]] = defaultdict(list)
        carried: dict[UUID, Work] = {}
        for work, step in finished:
            carry = may_carry and step.move.name == "hand_on" and not step.delay_seconds and committer.serves(step.lane)
            # The claim may hold items of any version, from rework say; a cell runs only where its own code is.
            carry = carry and (step.move.to_stage is not Stage.WORKCELL or context.runs(work))
            if carry:
                carried[work.item_id] = work
            planned[work.claim_id].append(_plan(work, step, carry=carry))
        moved = Moved()
        for claim_id, plans in planned.items():
            part = perform(conn, plans, by=committer.worker, claim_id=claim_id)
            moved.done.update(part.done)
            moved.refused += part.refused
        result.lost += moved.refused
        done = [(work, step) for work, step in finished if work.item_id in moved.done]
        shelf.write(conn, _rows(done))
        sent = _end_applies(conn, done)
        _count(conn, committer, done)
        if any(step.move.to_state in ARCHIVED for _, step in done):
            failpoint("archive.finished")
        for claim_id in set(closes) - {work.claim_id for work in carried.values()}:
            close_claim(conn, claim_id)
        failpoint("commit.before")
    if sent:
        failpoint("apply.receipt")
    _go_on(done, carried, moved, result)
    return result


def _steps(finished: Finished) -> Iterator[tuple[Work, Step]]:
    """Yield every step that a commit writes, those taken in memory first, each with its item."""
    for work, step in finished:
        for part in work.chain:
            yield work, part
        yield work, step


def _rows(finished: Finished) -> list[Record]:
    """Return the records that the shelf writes: proposals are written by `propose`, large bodies are on disk."""
    return [
        record
        for _, step in _steps(finished)
        for record in step.records
        if not (type(record) is ProposalRow or (type(record) is Body and len(record.bytes) > ROW_BYTES))
    ]


def _store_large(context: StageContext, finished: Finished) -> None:
    for _, step in _steps(finished):
        for record in step.records:
            if type(record) is Body and len(record.bytes) > ROW_BYTES:
                context.store.put(record.bytes)
    failpoint("blob.written")


def _plan(work: Work, step: Step, *, carry: bool) -> Planned:
    parts = [*work.chain, step]
    last = CARRIES[step.move] if carry else step.move
    contract_id = next((part.contract_id for part in reversed(parts) if part.contract_id), None)
    priority = next((part.priority for part in reversed(parts) if part.priority is not None), None)
    route = Route(
        moves=(*(CARRIES[part.move] for part in work.chain), last),
        lane=step.lane,
        notes=tuple(part.note for part in parts),
        wait=step.wait,
        waiting_on=step.waiting_on,
        cause=next((part.cause for part in parts if part.cause), None),
        contract_id=contract_id,
        priority=priority,
        round=any(part.round for part in parts),
        finding=step.finding or "",
    )
    return Planned(work.item_id, work.committed_fence, route, step.delay_seconds)


# By id alone: the rows are ours by the fence, and a condition on the state would lure the planner to another index.
_END_APPLIES = """
UPDATE applies a
   SET state = t.state, receipt = t.receipt, finished_at = clock()
  FROM unnest(%b::uuid[], %b::text[], %b::bytea[]) AS t (id, state, receipt)
 WHERE a.id = ANY (ARRAY[t.id])
"""
_END_PROPOSALS = """
UPDATE proposals p
   SET state = t.state
  FROM unnest(%b::uuid[], %b::text[]) AS t (id, state)
 WHERE p.id = ANY (ARRAY[t.id])
   AND p.state IN ('approved', 'unknown')
"""


def _end_applies(conn: Connection, done: Finished) -> bool:
    """Write how applies and their proposals ended; return whether any did."""
    ends = [step.applied for _, step in _steps(done) if step.applied]
    if not ends:
        return False
    if sent := [end for end in ends if end.apply_id]:
        columns = [[end.apply_id for end in sent], [str(end.apply_state) for end in sent], [end.receipt for end in sent]]
        conn.execute(_END_APPLIES, columns, prepare=True)
    conn.execute(_END_PROPOSALS, [[end.proposal_id for end in ends], [end.proposal_state.value for end in ends]], prepare=True)
    return True


def _count(conn: Connection, committer: Committer, done: Finished) -> None:
    """Add to the throughput of each lane left."""
    add_to_minutes(
        conn,
        Counter(
            Ending(work.claimed.workspace_id, step.from_lane, committer.worker_id, _COUNTED_AS.get(step.move.name, "finished"))
            for work, step in _steps(done)
        ),
    )


def _go_on(done: Finished, carried: dict[UUID, Work], moved: Moved, result: CommitResult) -> None:
    """Set the carried items to where they are now, and note which lanes have new work."""
    for work, step in done:
        work.chain.clear()
        work.fence = moved.done[work.item_id].fence
        _count_here(work, step)
        if work.item_id in carried:
            work.stage, work.lane = step.move.to_stage, step.lane
            result.carried.append(work)
        elif step.move.to_state is State.READY and not step.delay_seconds:
            result.rings[step.lane] += 1


def _count_here(work: Work, step: Step) -> None:
    """Repeat in memory what the move added to the row's counters, for the stages that follow under this claim."""
    if step.cause:
        work.claimed = with_one_more(work.claimed, step.cause)
    if step.round:
        work.claimed = work.claimed._replace(rounds=work.claimed.rounds + 1)
        work.product, work.finding = None, None
