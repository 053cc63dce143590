"""Artifact: check what a cell gave against its contract and register it. What breaks the contract goes no further."""

from collections.abc import Sequence

from artifacts.blobs import storage_of
from artifacts.shelf import Artifact, EvidenceRow, Input
from contracts.attempts import Cause
from contracts.canonical import canonical
from contracts.gate import contract_findings
from contracts.identity import new_id
from contracts.lifecycle import Stage
from contracts.nouns import Citation
from pipeline.stages.context import StageContext
from pipeline.stages.products import finding_row
from pipeline.stages.work import Product, Step, Work, onward


def step(context: StageContext, works: Sequence[Work]) -> list[Step]:
    """Return for each item: registered and on to the gate, or its contract findings and on to rework."""
    return [_check(context, work) for work in works]


def _check(context: StageContext, work: Work) -> Step:
    product, contract, claimed = work.product, context.contract(work), work.claimed
    assert product is not None
    findings = contract_findings(contract, product.outcome, len(product.value_bytes))
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
