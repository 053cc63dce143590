"""The advance loop: run each stage of a claimed batch, commit, and carry on with what this worker may take further."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

import structlog
from contracts.errors import Unavailable
from contracts.lifecycle import CLAIMABLE_STAGES, Stage
from pipeline.failpoints import failpoint
from pipeline.stages import apply, archive, artifact, qa, rework, route, workcell
from pipeline.stages.context import NO_PAUSE_OR_LIMIT, StageContext, is_true
from pipeline.stages.products import read_findings, read_products
from pipeline.stages.retries import cause_of, failed_attempt, message_of, places_of, raised_attempt
from pipeline.stages.work import Step, Work
from pipeline.worker.commit import Committer, commit
from pipeline.worker.fair_share import Taken
from queues.claims import Claim, give_back
from queues.database import transaction

log = structlog.get_logger()

STEPS: dict[Stage, Callable[[StageContext, Sequence[Work]], list[Step]]] = {
    Stage.ROUTE: route.step,
    Stage.WORKCELL: workcell.step,
    Stage.ARTIFACT: artifact.step,
    Stage.QA: qa.step,
    Stage.REWORK: rework.step,
    Stage.APPLY: apply.step,
    Stage.ARCHIVE: archive.step,
}
assert set(STEPS) == set(CLAIMABLE_STAGES)

_FUSED = frozenset({Stage.ROUTE, Stage.WORKCELL, Stage.ARTIFACT, Stage.QA})
"""Stages whose steps have no effect outside the database: in mode `fused` they share one transaction.

A receipt may share one with the archiving that follows it; what leads into an apply never shares one with it.
"""

PAUSE_CHECK_SECONDS = 1.0
"""How often a worker that is busy with a claim looks for pauses on what it has not begun."""


class Mode(StrEnum):
    """How often work is committed. Every move has its own history row in both."""

    STRICT = "strict"
    FUSED = "fused"


def advance(context: StageContext, committer: Committer, taken: Taken, mode: Mode) -> Iterator[set[str]]:
    """Take a claimed batch as far as this worker may, a group at a time, committing each stage; yield the lanes to ring.

    Between two groups, what a pause has come to cover meanwhile goes back to its lane, and all the rest does when the worker
    is told to stop. Nothing is undone when a lease turns out to be lost: what was committed stays, the rest belongs to another worker.
    """
    claim, reading = taken.claim, taken.reading
    assert reading is not None
    rest = context.take_in(claim, reading)
    if reading.unread:
        rest = fail_unreadable(context, committer, rest, reading.unread)
    checked_at = time.monotonic()
    while rest:
        rings: set[str] = set()
        size = context.pace.group(claim.lane)
        group, rest = rest[:size], rest[size:]
        count, how = len(group), mode_for(context, group, mode)
        while group:
            group = one_round(context, committer, group, how, rings, closes=() if rest else (claim.id,))
            # What is paused or limited meanwhile is decided lane by lane, by claiming: then no stage is passed in memory.
            how = how if context.is_unrestricted else Mode.STRICT
        context.pace.note(claim.lane, count)
        if rest and not committer.goes_on():
            rest = _return_unstarted(context, committer, claim, rest, rings, "the worker was told to stop before its turn came")
        # As it turned out, more was claimed than can be done soon: others may be free for it.
        elif len(rest) > (soon := context.pace.claim(claim.lane, len(rest) or 1)):
            rest = [*rest[:soon], *_return_unstarted(context, committer, claim, rest[soon:], rings, "the items before it were slow")]
        elif rest and time.monotonic() - checked_at > PAUSE_CHECK_SECONDS:
            checked_at = time.monotonic()
            rest = _return_unstarted(context, committer, claim, rest, set(), "paused before its turn came", paused_alone=True)
        yield rings


def mode_for(context: StageContext, group: Sequence[Work], mode: Mode) -> Mode:
    """Return how often a group is committed: in mode `fused`, at each stage all the same where somebody may have to know which.

    A pause or a limit holds lane by lane. While slow work runs, its row should name the lane of its cell; and the cell that
    a crash is blamed on should be the one that ran.
    """
    if not context.is_unrestricted or not context.pace.is_quick(group[0].lane) or any(work.claimed.crashes for work in group):
        return Mode.STRICT
    return mode


def _return_unstarted(
    context: StageContext, committer: Committer, claim: Claim, unbegun: Sequence[Work], rings: set[str], note: str, *, paused_alone: bool = False
) -> list[Work]:  # fmt: skip
    """Return items that were not begun to their lanes, all or those that a pause covers now; return those that the worker keeps."""
    with transaction(context.conn, {work.claimed.workspace_id for work in unbegun}) as conn:
        returned = give_back(
            conn, claim.id, by=committer.worker, note=note, among=[work.item_id for work in unbegun], paused_alone=paused_alone
        )
        context.is_unrestricted = is_true(conn.execute(NO_PAUSE_OR_LIMIT, prepare=True))
    rings.update(returned.values())
    # What was neither returned nor paused is no longer ours: somebody moved it meanwhile.
    return [work for work in unbegun if work.item_id not in returned] if paused_alone else []


def fail_unreadable(
    context: StageContext, committer: Committer, works: Sequence[Work], unread: Mapping[UUID, Unavailable]
) -> list[Work]:  # fmt: skip
    """End the attempt of each item whose payload cannot be read, and return the others."""
    finished = [
        (work, failed_attempt(work, cause_of(error), str(error), context.ceilings(work)))
        for work in works
        if (error := unread.get(work.item_id))
    ]
    commit(context, committer, finished, closes={work.claim_id for work in works} if len(finished) == len(works) else ())
    return [work for work in works if work.item_id not in unread]


def one_round(
    context: StageContext, committer: Committer, works: Sequence[Work], mode: Mode, rings: set[str], *, closes: Collection[UUID],
    ran: Iterable[tuple[Work, Step]] = (),
) -> list[Work]:  # fmt: skip
    """Run each stage present on its items, commit, and return what is carried into the next round.

    `ran` are items whose stage was run elsewhere, each with its step. `closes` are the claims that hold nothing else.
    """
    finished: list[tuple[Work, Step]] = []
    groups: dict[Stage, list[Work]] = {}
    for work in works:
        groups.setdefault(work.stage, []).append(work)

    def keep(work: Work, step: Step) -> None:
        _keep(work, step)
        if mode is Mode.FUSED and _fuses(committer, step):
            _go_on_in_memory(work, step)
            groups.setdefault(work.stage, []).append(work)
        else:
            finished.append((work, step))

    for work, step in ran:
        keep(work, step)
    for stage in CLAIMABLE_STAGES:
        while group := groups.pop(stage, []):
            for work, step in zip(group, run_stage(context, stage, group), strict=True):
                keep(work, step)
    failpoint("step.ran")
    done = commit(context, committer, finished, closes=closes)
    rings.update(done.rings)
    if done.lost:
        log.warning("claim.late", worker=committer.worker, items=len(done.lost), first=str(done.lost[0]))
    return done.carried


def _keep(work: Work, step: Step) -> None:
    """Keep with an item what the stages after this one go by."""
    if step.product is not None:
        work.product = step.product
    if step.contract_id is not None:
        work.contract_id = step.contract_id
    if step.finding is not None and step.move.to_stage is Stage.ARCHIVE:
        work.finding = step.finding


def _fuses(committer: Committer, step: Step) -> bool:
    there_and_here = step.move.from_stage, step.move.to_stage
    onward = step.move.name == "hand_on" and (_FUSED.issuperset(there_and_here) or there_and_here == (Stage.APPLY, Stage.ARCHIVE))
    return onward and step.cause is None and committer.serves(step.lane)


def _go_on_in_memory(work: Work, step: Step) -> None:
    work.chain.append(step)
    work.stage, work.lane, work.fence = step.move.to_stage, step.lane, work.fence + 1


def run_stage(context: StageContext, stage: Stage, works: Sequence[Work]) -> list[Step]:
    """Run a stage's step on a batch; when it fails as a whole, on each item alone, so that one cannot spoil the rest."""
    started = datetime.now(UTC)
    try:
        _load(context, stage, works)
        return STEPS[stage](context, works)
    except Exception as error:  # noqa: BLE001 - the one place where an unforeseen error of a step becomes a failed attempt
        if len(works) > 1:
            return [step for work in works for step in run_stage(context, stage, [work])]
        [work], cause, message = works, cause_of(error), message_of(error)
        log.warning("step.failed", item=str(work.item_id), lane=work.lane, error=type(error).__name__, at=places_of(error))
        attempt = raised_attempt(work, started, error, message, cause)
        return [failed_attempt(work, cause, message, context.ceilings(work), records=[attempt])]


def _load(context: StageContext, stage: Stage, works: Sequence[Work]) -> None:
    """Load what a stage works from and this claim has not made itself."""
    if stage in (Stage.ARTIFACT, Stage.QA, Stage.ARCHIVE):
        missing = [work for work in works if work.product is None and not (stage is Stage.ARCHIVE and work.finding is not None)]
        if missing:
            products = read_products(context, missing)
            for work in missing:
                work.product = products[work.item_id]
    elif stage is Stage.WORKCELL and (again := [work for work in works if work.claimed.rounds]):
        findings = read_findings(context, again)
        for work in again:
            work.findings = findings[work.item_id]
