"""Route: the floor's rules decide which cell does the job. No model is asked; the rule that matched is recorded."""

from collections.abc import Sequence

from contracts.errors import ExpressionFailed
from contracts.lifecycle import Stage, lane_of
from pipeline.stages.context import StageContext
from pipeline.stages.work import Step, Work, onward, stay


def step(context: StageContext, works: Sequence[Work]) -> list[Step]:
    """Return for each item its cell's lane and contract pin, or the typed refusal of the rule that matched."""
    return [_route(context, work) for work in works]


def _route(context: StageContext, work: Work) -> Step:
    floor = context.floor(work)
    try:
        decision = floor.decide_route(work.claimed.flow, work.payload, work.as_of)
    except ExpressionFailed as error:
        return stay(work, "refuse", note=error.message[:200], finding="route.expression")
    note = f"rule {decision.rule}"
    if decision.cell is None:
        return stay(work, "refuse", note=note, finding=decision.refuse or "route.unsuitable")
    lane = lane_of(Stage.WORKCELL, cell=decision.cell)
    return onward(work, Stage.WORKCELL, lane, note=note, contract_id=context.pin(decision.cell), priority=decision.priority)
