"""Archive: close what is finished and take it out of the hot table. The mover closes the order with its last item."""

from collections.abc import Sequence

from contracts.lifecycle import FINISH, Stage
from pipeline.stages.context import StageContext
from pipeline.stages.work import Step, Work, leave


def step(_context: StageContext, works: Sequence[Work]) -> list[Step]:
    """Return for each item its end; it is filed under what its value found."""
    return [leave(work, FINISH, Stage.ARCHIVE.value, finding=_filed_under(work)) for work in works]


def _filed_under(work: Work) -> str:
    if work.finding is not None:
        return work.finding
    name = work.product.value.get("finding", "") if work.product else ""
    return name if isinstance(name, str) else ""
