"""Artifact: check what a cell gave against its contract and register it. What breaks the contract goes no further."""

from collections.abc import Sequence

from artifacts.blobs import storage_of
from artifacts.shelf import Artifact, EvidenceRow, Input
from contracts.attempts import Cause
from contracts.canonical import canonical
from contracts.identity import new_id
from contracts.lifecycle import Stage
from contracts.nouns import Citation, Finding, Proposal
from pipeline.stages.context import StageContext
from pipeline.stages.products import finding_row
from pipeline.stages.work import Product, Step, Work, onward


def step(context: StageContext, works: Sequence[Work]) -> list[Step]:
    """Return for each item: registered and on to the gate, or its contract findings and on to rework."""
    return [_check(context, work) for work in works]


def _check(context: StageContext, work: Work) -> Step:
    product, contract, claimed = work.product, context.contract(work), work.claimed
    assert product is not None
    findings = list(contract.output_findings(product.value))
    if len(product.value_bytes) > contract.max_bytes:
        findings.append(
            Finding(code="contract.bytes", message=f"expected at most {contract.max_bytes} bytes, got {len(product.value_bytes)}")
        )
    if isinstance(product.outcome, Proposal):
        findings += contract.action_findings(
            product.outcome.action.name, product.outcome.action.payload, product.outcome.action.precondition
        )
    if contract.evidence_required and not product.evidence:
        findings.append(Finding(code="contract.evidence", message="expected at least one piece of evidence, got none"))
    for no, piece in enumerate(product.evidence):
        if piece.source.kind not in contract.evidence_sources:
            message = f"may cite {' or '.join(contract.evidence_sources)}, got {piece.source.kind}"
            findings.append(Finding(code="contract.evidence_source", message=message, place=f"/evidence/{no}"))
    if findings:
        return onward(
            work,
            Stage.REWORK,
            Stage.REWORK.value,
            cause=Cause.CONTRACT,
            note=findings[0].code,
            records=[finding_row(work, finding) for finding in findings],
        )
    product = product._replace(artifact_id=new_id(claimed.moved_at), is_checked=True)
    assert product.artifact_id is not None
    artifact = Artifact(
        work.item_id, product.artifact_id, claimed.workspace_id, work.fence, work.contract_id, contract.gives_name,
        product.value_sha256, len(product.value_bytes), storage_of(product.value_bytes),
    )  # fmt: skip
    return onward(work, Stage.QA, Stage.QA.value, records=[artifact, *_evidence(work, product)], product=product)


def _evidence(work: Work, product: Product) -> list[EvidenceRow | Input]:
    assert product.artifact_id is not None
    workspace = work.claimed.workspace_id
    rows: list[EvidenceRow | Input] = [
        EvidenceRow(
            work.item_id,
            product.artifact_id,
            no,
            workspace,
            piece.claim,
            piece.stance,
            piece.confidence,
            canonical(piece.source.model_dump(mode="json")).decode(),
        )
        for no, piece in enumerate(product.evidence)
    ]
    cited = {piece.source.subject: piece.source.revision for piece in product.evidence if isinstance(piece.source, Citation)}
    rows += [Input(work.item_id, product.artifact_id, workspace, subject, revision) for subject, revision in cited.items()]
    return rows
