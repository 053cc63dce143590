"""Artifact: check what a cell gave against its contract and register it. What breaks the contract goes no further."""

import json
from collections.abc import Sequence
from uuid import UUID

from artifacts.blobs import read_bodies, store_of
from artifacts.shelf import Artifact, EvidenceRow, FindingRow, Input
from contracts.canonical import canonical
from contracts.identity import new_id
from contracts.lifecycle import Cause, Stage
from contracts.nouns import Citation, Finding, Proposal
from pipeline.line import Line
from pipeline.work import Product, Step, Work, onward
from pipeline.workcell import restored
from queues.database import transaction


def step(line: Line, works: Sequence[Work]) -> list[Step]:
    """Return for each item: registered and on to the gate, or its contract findings and on to rework."""
    load_products(line, works)
    return [_check(line, work) for work in works]


def load_products(line: Line, works: Sequence[Work]) -> None:
    """Fill `product` of items that were claimed here, from what their last good attempt stored."""
    bare = [work for work in works if work.product is None]
    if not bare:
        return
    with transaction(line.conn, {work.claimed.workspace_id for work in bare}):
        rows = line.conn.execute(
            "SELECT DISTINCT ON (item_id) item_id, output_sha256 FROM attempts "
            "WHERE item_id = ANY(%s) AND output_sha256 IS NOT NULL ORDER BY item_id, fence DESC",
            [[work.item_id for work in bare]],
        ).fetchall()
        outputs: dict[UUID, bytes] = dict(rows)
        wrappers = {item: json.loads(body) for (item, _), body in read_bodies(line.conn, line.store, outputs.items()).items()}
        values = {item: bytes.fromhex(wrapper["value"]) for item, wrapper in wrappers.items()}
        bodies = read_bodies(line.conn, line.store, values.items())
        artifacts: dict[UUID, UUID] = dict(
            line.conn.execute(
                "SELECT DISTINCT ON (item_id) item_id, id FROM artifacts WHERE item_id = ANY(%s) ORDER BY item_id, fence DESC",
                [list(outputs)],
            ).fetchall()
        )
    for work in bare:
        name = values[work.item_id]
        value_bytes = bodies[work.item_id, name]
        value = json.loads(value_bytes)
        outcome = restored(wrappers[work.item_id], value)
        work.product = Product(outcome, value, value_bytes, name, getattr(outcome, "evidence", ()), artifacts.get(work.item_id))


def _check(line: Line, work: Work) -> Step:
    product, contract, claimed = work.product, line.contract(work), work.claimed
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
    product.artifact_id, product.is_checked = new_id(claimed.moved_at), True
    artifact = Artifact(
        work.item_id, product.artifact_id, claimed.workspace_id, work.fence, work.contract_id, contract.gives_name,
        product.value_sha256, len(product.value_bytes), store_of(product.value_bytes),
    )  # fmt: skip
    return onward(work, Stage.QA, Stage.QA.value, records=[artifact, *_evidence(work, product)])


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


def finding_row(work: Work, finding: Finding) -> FindingRow:
    """Return a finding about this attempt as a row."""
    return FindingRow(
        work.item_id, new_id(work.claimed.moved_at), work.claimed.workspace_id, work.fence, work.stage.value, finding.code,
        finding.message, finding.place,
    )  # fmt: skip
