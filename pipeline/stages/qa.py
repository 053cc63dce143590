"""QA: the gate. Evidence must resolve and every rule must hold; what proposes a mutation asks for a clearance."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from artifacts.blobs import storage_of
from artifacts.shelf import Artifact, Body, ProposalRow, Record, Verdict
from contracts.attempts import Cause
from contracts.canonical import canonical
from contracts.contract import Contract
from contracts.envelope import ENVELOPE_KIND, seal
from contracts.gate import Failed, Item, run_checks
from contracts.identity import new_id
from contracts.lifecycle import CLEAR, Stage, Wait, lane_of
from contracts.nouns import Proposal
from pipeline.stages.context import StageContext
from pipeline.stages.products import finding_row
from pipeline.stages.tools import read_subjects
from pipeline.stages.work import Step, Work, leave, onward, stay
from queues.database import transaction

_DAYS_OPEN = 90
"""A proposal that nobody answered for this long expires and is redone."""

Subjects = dict[tuple[UUID, str], dict[str, dict[str, Any]]]
"""By workspace and flow, then by key."""

_DRIFTED = """
SELECT p.item_id, p.precondition_sha256,
       coalesce((SELECT f.message
                   FROM findings f
                  WHERE f.item_id = p.item_id
                    AND f.code = 'apply.drifted'
                  ORDER BY f.fence DESC
                  LIMIT 1), 'the target changed')
  FROM proposals p
 WHERE p.item_id = ANY(%s)
   AND p.state = 'drifted'
"""


def step(context: StageContext, works: Sequence[Work]) -> list[Step]:
    """Return for each item: its verdict, and on to a clearance, the archive, rework, a person or a refusal."""
    subjects = _cited_subjects(context, works)
    drifted = _drifted(context, [work for work in works if work.claimed.drifts])
    return [_judge(context, work, subjects, drifted) for work in works]


def _drifted(context: StageContext, works: Sequence[Work]) -> Mapping[tuple[UUID, bytes], str]:
    """Return, by item and precondition, what had changed in the target of proposals that drifted."""
    if not works:
        return {}
    with transaction(context.conn, {work.claimed.workspace_id for work in works}):
        rows = context.conn.execute(_DRIFTED, [[work.item_id for work in works]]).fetchall()
    return {(item, precondition): message for item, precondition, message in rows}


def _cited_subjects(context: StageContext, works: Sequence[Work]) -> Subjects:
    """Load every other subject that evidence names, a statement for each workspace and flow."""
    wanted: dict[tuple[UUID, str], set[str]] = {}
    for work in works:
        assert work.product is not None
        for piece in work.product.evidence:
            if piece.source.subject != work.claimed.subject_key:
                wanted.setdefault((work.claimed.workspace_id, work.claimed.flow), set()).add(piece.source.subject)
    found: Subjects = {}
    for (workspace, flow), keys in wanted.items():
        with transaction(context.conn, workspace):
            subjects = read_subjects(context.conn, workspace, flow, sorted(keys))
        found[workspace, flow] = {subject["key"]: subject for subject in subjects}
    return found


def _judge(
    context: StageContext, work: Work, subjects: Subjects, drifted: Mapping[tuple[UUID, bytes], str]
) -> Step:  # fmt: skip
    contract, product, claimed = context.contract(work), work.product, work.claimed
    assert product is not None
    assert work.contract_id is not None
    known = subjects.get((claimed.workspace_id, claimed.flow), {})
    item = Item(claimed.subject_key, claimed.revision, work.payload, work.as_of)
    checked = run_checks(contract, product.outcome, item, known, is_form_checked=product.is_checked)
    failed = [one for check in checked for one in check.failed]
    checks = [
        {"check": check.name, "passed": not check.failed, "findings": [one.finding.model_dump() for one in check.failed]}
        for check in checked
    ]
    body = canonical({"contract": contract.key, "artifact": product.value_sha256.hex(), "as_of": work.as_of, "checks": checks})
    verdict = Verdict(
        work.item_id, new_id(claimed.moved_at), claimed.workspace_id, work.fence, work.contract_id, product.value_sha256, not failed, body
    )
    if failed:
        return _failed(work, verdict, failed)
    if isinstance(product.outcome, Proposal):
        return _propose(context, work, contract, verdict, product.outcome, drifted)
    return onward(work, Stage.ARCHIVE, Stage.ARCHIVE.value, finding=_finding_of(product.value), records=[verdict])


def _failed(work: Work, verdict: Verdict, failed: Sequence[Failed]) -> Step:
    """Return the strictest way that a failed check asks for: refuse before a person, a person before rework."""
    ways = {one.on_fail for one in failed}
    first = failed[0].finding
    records: list[Record] = [verdict, *(finding_row(work, one.finding) for one in failed)]
    if "refuse" in ways:
        return stay(work, "refuse", note=f"{first.code}: {first.message}"[:300], finding=first.code, records=records)
    if "person" in ways:
        return stay(work, "escalate", note=first.code, wait=Wait.HUMAN, waiting_on=f"a person: {first.message}"[:200], records=records)
    return onward(work, Stage.REWORK, Stage.REWORK.value, cause=Cause.QA, note=first.code, records=records)


def _propose(
    context: StageContext, work: Work, contract: Contract, verdict: Verdict, proposal: Proposal, drifted: Mapping[tuple[UUID, bytes], str]
) -> Step:  # fmt: skip
    claimed, product = work.claimed, work.product
    assert product is not None
    flow = context.floor(work).flow(claimed.flow)
    report_only = context.autonomy(work) == "report_only" or not flow.applier
    envelope = seal(
        proposal.action,
        artifact_sha256=product.value_sha256.hex(),
        contract=contract.key,
        policy_sha256=contract.policy_sha256(proposal.action.name),
        adapter=flow.applier or "",
        expires_at=claimed.moved_at + timedelta(days=_DAYS_OPEN),
        epoch=claimed.rounds + 1,
        item=str(work.item_id),
    )
    if changed := drifted.get((work.item_id, envelope.precondition_sha256)):
        # It would drift again: an approval would be in vain.
        return stay(
            work, "escalate", note=f"{changed} since it was taken in"[:300], wait=Wait.HUMAN, records=[verdict],
            waiting_on="a newer revision of it (take one in), or a person: requeue it once the target is as it was",
        )  # fmt: skip
    row = ProposalRow(
        new_id(claimed.moved_at), work.item_id, proposal.action.name, proposal.action.target, flow.applier or "", envelope.sha256,
        envelope.precondition_sha256, envelope.epoch, _finding_of(product.value), proposal.confidence, f"cell:{contract.name}",
        envelope.expires_at,
    )  # fmt: skip
    sealed = Artifact(
        work.item_id, new_id(claimed.moved_at), claimed.workspace_id, work.fence, work.contract_id, ENVELOPE_KIND,
        envelope.sha256, len(envelope.data), storage_of(envelope.data),
    )  # fmt: skip
    records: list[Record] = [verdict, Body(work.item_id, envelope.sha256, claimed.workspace_id, envelope.data), sealed, row]
    if report_only:
        return onward(work, Stage.ARCHIVE, Stage.ARCHIVE.value, note="report only", finding=_finding_of(product.value), records=records)
    tier = contract.tier(proposal.action.name)
    if tier == "none" and context.autonomy(work) == "full_auto":
        lane = lane_of(Stage.APPLY, applier=flow.applier)
        return leave(work, CLEAR, lane, note="tier none", tier="none", records=records)
    return stay(work, "ask", wait=Wait.APPROVAL, waiting_on="a reviewer", tier="dual" if tier == "dual" else "single", records=records)


def _finding_of(value: Mapping[str, Any]) -> str:
    """Return the name under which a cell's value files itself; empty when it names none."""
    name = value.get("finding", "")
    return name if isinstance(name, str) else ""
