"""Workcell: run the pinned cell on each item and keep exactly what went in, what came out and when."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import structlog
from artifacts.blobs import sha256_of
from artifacts.shelf import Attempt, Body
from contracts.attempts import Cause
from contracts.canonical import canonical
from contracts.errors import BadInput, Denied
from contracts.language import OUTCOMES
from contracts.lifecycle import Stage, Wait
from contracts.nouns import Draft, Escalation, NeedInfo, Outcome, Proposal, Refusal
from pipeline.failpoints import failpoint
from pipeline.stages.context import StageContext
from pipeline.stages.retries import failed_attempt, message_of, places_of, raised_attempt
from pipeline.stages.tools import tools_for
from pipeline.stages.work import Product, Step, Work, not_begun, onward, stay
from workcells.bench import ItemBench, Tool, look_up
from workcells.registry import Cell

log = structlog.get_logger()

_NAMES = {kind: name for name, kind in OUTCOMES.items()}


def step(context: StageContext, works: Sequence[Work]) -> list[Step]:
    """Return for each item what its cell gave: on to the artifact stage, a refusal, a question, or a failed attempt.

    When the group is late, those not begun go back to their lane.
    """
    answers: dict[tuple[UUID, str], Mapping[str, Any]] = {}
    for (workspace, flow), group in _by_flow(works).items():
        answers[workspace, flow] = _prefetch(context, workspace, flow, group)
    steps: list[Step] = []
    for work in works:
        if steps and context.pace.is_late():
            steps.append(not_begun(work))
        else:
            steps.append(_run(context, work, answers[work.claimed.workspace_id, work.claimed.flow]))
    return steps


def _by_flow(works: Sequence[Work]) -> dict[tuple[UUID, str], list[Work]]:
    groups: dict[tuple[UUID, str], list[Work]] = {}
    for work in works:
        groups.setdefault((work.claimed.workspace_id, work.claimed.flow), []).append(work)
    return groups


def _prefetch(context: StageContext, workspace: UUID, flow: str, works: Sequence[Work]) -> dict[str, Any]:
    """Answer what the cells want for the whole group, each tool asked once."""
    answers: dict[str, Any] = {}
    for cell in {context.cell(work).contract.sha256: context.cell(work) for work in works}.values():
        if cell.code.wants is None:
            continue
        wanted = [call for work in works if context.cell(work) is cell for call in cell.code.wants(work.payload)]
        answers |= look_up(wanted, _tools(context, workspace, flow), _allowed(cell))
    return answers


def _tools(context: StageContext, workspace: UUID, flow: str) -> Mapping[str, Tool]:
    return tools_for(context.connection, workspace, flow)


def _allowed(cell: Cell) -> frozenset[str]:
    return frozenset(cell.contract.tools_allow)


def _run(context: StageContext, work: Work, answers: Mapping[str, Any]) -> Step:
    cell = context.cell(work)
    started = datetime.now(UTC)
    bench = ItemBench(
        allowed=_allowed(cell),
        tools=_tools(context, work.claimed.workspace_id, work.claimed.flow),
        answers=answers,
        as_of=work.as_of,
        findings=work.findings,
    )
    failpoint("workcell.run")
    try:
        outcome = cell.code.run(work.payload, bench)
        if type(outcome) not in _NAMES:
            raise TypeError(f"expected Draft, Proposal, Refusal, NeedInfo or Escalation, got {type(outcome).__name__}")
    except Exception as error:  # noqa: BLE001 - whatever a cell raises costs an attempt and not the worker
        cause = Cause.CONTRACT if isinstance(error, Denied) else Cause.TRANSIENT
        return _failed(context, work, started, error, message_of(error), cause)
    try:
        return _given(work, outcome, started)
    except (BadInput, ValueError) as error:
        return _failed(context, work, started, error, f"the outcome is not JSON: {error}"[:500], Cause.CONTRACT)


def _given(work: Work, outcome: Outcome, started: datetime) -> Step:
    value = outcome.value if isinstance(outcome, (Draft, Proposal)) else {}
    value_bytes = canonical(value)
    value_sha256 = sha256_of(value_bytes)
    # The value is kept once, under its own name; the wrapper names it.
    wrapper = canonical({"is": _NAMES[type(outcome)], "value": value_sha256.hex()} | outcome.model_dump(mode="json", exclude={"value"}))
    sha256 = sha256_of(wrapper)
    claimed = work.claimed
    attempt = Attempt(
        work.item_id, work.fence, claimed.workspace_id, work.contract_id, started, datetime.now(UTC), Stage.WORKCELL.value,
        _NAMES[type(outcome)], None, claimed.payload_sha256, sha256, "",
    )  # fmt: skip
    records = [Body(work.item_id, sha256, claimed.workspace_id, wrapper), attempt]
    if isinstance(outcome, Refusal):
        return stay(work, "refuse", note=outcome.message[:200], finding=outcome.code, records=records)
    if isinstance(outcome, NeedInfo):
        return stay(work, "escalate", note=outcome.question[:200], wait=Wait.HUMAN, waiting_on="an answer", records=records)
    if isinstance(outcome, Escalation):
        return stay(work, "escalate", note=outcome.message[:200], wait=Wait.HUMAN, waiting_on="a person", records=records)
    records.append(Body(work.item_id, value_sha256, claimed.workspace_id, value_bytes))
    product = Product(outcome, value, value_bytes, value_sha256, getattr(outcome, "evidence", ()))
    return onward(work, Stage.ARTIFACT, Stage.ARTIFACT.value, records=records, product=product)


def _failed(context: StageContext, work: Work, started: datetime, error: Exception, message: str, cause: Cause) -> Step:
    """Return the end of an attempt whose cell raised, its traceback kept with it."""
    log.warning("cell.raised", item=str(work.item_id), lane=work.lane, error=type(error).__name__, at=places_of(error))
    attempt = raised_attempt(work, started, error, message, cause)
    return failed_attempt(work, cause, message, context.ceilings(work), records=[attempt])
