"""Rework: another attempt with the findings, or a person. Bounded by the contract's ceilings."""

from collections.abc import Sequence

from contracts.attempts import Cause, ceiling_of, is_exhausted
from contracts.lifecycle import Stage, Wait, lane_of
from pipeline.stages.context import StageContext
from pipeline.stages.retries import failed_count
from pipeline.stages.work import Step, Work, onward, stay

_CAUSES = (Cause.CONTRACT, Cause.QA, Cause.DRIFT)


def step(context: StageContext, works: Sequence[Work]) -> list[Step]:
    """Return for each item: back to its cell while attempts are left, else to a person with the findings."""
    return [_decide(context, work) for work in works]


def _decide(context: StageContext, work: Work) -> Step:
    contract = context.contract(work)
    for cause in _CAUSES:
        had = failed_count(work.claimed, cause)
        if is_exhausted(cause, had, contract.ceilings):
            ceiling = ceiling_of(cause, contract.ceilings)
            return stay(
                work, "escalate", note=f"{cause} {had} of {ceiling}", wait=Wait.HUMAN,
                waiting_on=f"a person: {had} of {ceiling} attempts ended for {cause}",
            )  # fmt: skip
    lane = lane_of(Stage.WORKCELL, cell=contract.name)
    return onward(work, Stage.WORKCELL, lane, note=f"round {work.claimed.rounds + 1}", round=True)
