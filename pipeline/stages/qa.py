"""QA: the gate. Evidence must resolve and every rule must hold; what proposes a mutation asks for a clearance."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from artifacts.blobs import storage_of
from artifacts.shelf import Artifact, Body, ProposalRow, Record, Verdict
from contracts.attempts import Cause
from contracts.canonical import canonical
from contracts.contract import Uncertainty
from contracts.envelope import ENVELOPE_KIND, seal
from contracts.errors import ExpressionFailed
from contracts.identity import new_id
from contracts.language import Check, Contract
from contracts.lifecycle import CLEAR, Stage, Wait, lane_of
from contracts.nouns import Citation, Finding, Outcome, Proposal
from pipeline.stages.context import StageContext
from pipeline.stages.products import finding_row
from pipeline.stages.tools import read_subjects
from pipeline.stages.work import Step, Work, leave, onward, stay
from queues.database import transaction

_DAYS_OPEN = 90
"""A proposal that nobody answered for this long expires and is redone."""


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


def _cited_subjects(context: StageContext, works: Sequence[Work]) -> Mapping[tuple[UUID, str, str], dict[str, Any]]:
    """Load every other subject that evidence names, a statement for each workspace and flow."""
    wanted: dict[tuple[UUID, str], set[str]] = {}
    for work in works:
        assert work.product is not None
        for piece in work.product.evidence:
            if piece.source.subject != work.claimed.subject_key:
                wanted.setdefault((work.claimed.workspace_id, work.claimed.flow), set()).add(piece.source.subject)
    found = {}
    for (workspace, flow), keys in wanted.items():
        with transaction(context.conn, workspace):
            for subject in read_subjects(context.conn, workspace, flow, sorted(keys)):
                found[workspace, flow, subject["key"]] = subject
    return found


def _judge(
    context: StageContext, work: Work, subjects: Mapping[tuple[UUID, str, str], dict[str, Any]], drifted: Mapping[tuple[UUID, bytes], str]
) -> Step:  # fmt: skip
    contract, product, claimed = context.contract(work), work.product, work.claimed
    assert product is not None
    assert work.contract_id is not None
    failed: list[tuple[Finding, str]] = []
    checks = []
    values = {"item": work.payload, "output": product.value, "as_of": work.as_of}
    all_hold = contract.rules_hold(values)
    for check in contract.qa:
        if check.kind == "schema":
            # The artifact stage held these very bytes to the same schema; an item claimed here is checked again.
            found = [] if product.is_checked else [(finding, "rework") for finding in contract.output_findings(product.value)]
        elif check.kind == "evidence":
            found = [(finding, "rework") for finding in _unresolved(work, subjects)]
        else:
            found = [] if all_hold else _broken(check, values)
        checks.append({"check": check.name, "passed": not found, "findings": [finding.model_dump() for finding, _ in found]})
        failed += found
    if contract.uncertainty is not None:
        found = _doubts(contract.uncertainty, product.outcome)
        checks.append({"check": "uncertainty", "passed": not found, "findings": [finding.model_dump() for finding, _ in found]})
        failed += found
    body = canonical({"contract": contract.key, "artifact": product.value_sha256.hex(), "as_of": work.as_of, "checks": checks})
    verdict = Verdict(
        work.item_id, new_id(claimed.moved_at), claimed.workspace_id, work.fence, work.contract_id, product.value_sha256, not failed, body
    )
    if failed:
        return _failed(work, verdict, failed)
    if isinstance(product.outcome, Proposal):
        return _propose(context, work, contract, verdict, product.outcome, drifted)
    return onward(work, Stage.ARCHIVE, Stage.ARCHIVE.value, finding=_finding_of(product.value), records=[verdict])


def _doubts(uncertainty: Uncertainty, outcome: Outcome) -> list[tuple[Finding, str]]:
    """Return a finding when the cell is less sure of its work than its contract lets pass."""
    confidence = getattr(outcome, "confidence", 1.0)
    if confidence >= uncertainty.below:
        return []
    finding = Finding(code="qa.uncertain", message=f"its confidence is {confidence:g}, below {uncertainty.below:g}")
    return [(finding, "refuse" if uncertainty.then == "refuse" else "person")]


def _broken(check: Check, values: Mapping[str, Any]) -> list[tuple[Finding, str]]:
    """Return a rule's finding when it does not hold. A rule without an answer fails closed: a person looks."""
    try:
        return [] if check.holds(values) else [(Finding(code=check.code, message=check.message), check.on_fail)]
    except ExpressionFailed as error:
        return [(Finding(code=check.code, message=f"the rule has no answer: {error.message}"[:300]), "person")]


def _failed(work: Work, verdict: Verdict, failed: Sequence[tuple[Finding, str]]) -> Step:
    """Return the strictest way that a failed check asks for: refuse before a person, a person before rework."""
    ways = {on_fail for _, on_fail in failed}
    first = failed[0][0]
    records: list[Record] = [verdict, *(finding_row(work, finding) for finding, _ in failed)]
    if "refuse" in ways:
        return stay(work, "refuse", note=f"{first.code}: {first.message}"[:300], finding=first.code, records=records)
    if "person" in ways:
        return stay(work, "escalate", note=first.code, wait=Wait.HUMAN, waiting_on=f"a person: {first.message}"[:200], records=records)
    return onward(work, Stage.REWORK, Stage.REWORK.value, cause=Cause.QA, note=first.code, records=records)


def _unresolved(work: Work, subjects: Mapping[tuple[UUID, str, str], dict[str, Any]]) -> list[Finding]:
    """Return a finding for each piece of evidence that does not say what its source says."""
    findings = []
    assert work.product is not None
    claimed = work.claimed
    for no, piece in enumerate(work.product.evidence):
        source, place = piece.source, f"/evidence/{no}"
        own = source.subject == claimed.subject_key
        subject = work.payload if own else subjects.get((claimed.workspace_id, claimed.flow, source.subject))
        if subject is None:
            findings.append(Finding(code="evidence.unknown_source", message=f"no item {source.subject[:80]!r} is known", place=place))
        elif isinstance(source, Citation):
            known = claimed.revision if own else subject["revision"]
            if known != source.revision:
                findings.append(Finding(code="evidence.stale", message=f"cites revision {source.revision}, known is {known}", place=place))
        elif str(subject.get(source.field) or "")[source.start : source.end] != source.text:
            findings.append(
                Finding(code="evidence.misquote", message=f"the text is not at {source.field}[{source.start}:{source.end}]", place=place)
            )
    return findings


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
