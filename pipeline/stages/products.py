"""What a cell gave, read back from what its attempt stored, and what was found about it."""

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from artifacts.blobs import require_bodies
from artifacts.shelf import FindingRow
from contracts.identity import new_id
from contracts.language import OUTCOMES
from contracts.nouns import Draft, Finding, Outcome, Proposal
from pipeline.stages.context import StageContext
from pipeline.stages.work import Product, Work
from queues.database import transaction

_OUTPUTS = """
SELECT DISTINCT ON (item_id) item_id, output_sha256
  FROM attempts
 WHERE item_id = ANY(%s) AND output_sha256 IS NOT NULL
 ORDER BY item_id, fence DESC
"""
_ARTIFACTS = "SELECT DISTINCT ON (item_id) item_id, id FROM artifacts WHERE item_id = ANY(%s) ORDER BY item_id, fence DESC"


def read_products(context: StageContext, works: Sequence[Work]) -> dict[UUID, Product]:
    """Return by item what its last good attempt stored."""
    with transaction(context.conn, {work.claimed.workspace_id for work in works}):
        rows = context.conn.execute(_OUTPUTS, [[work.item_id for work in works]]).fetchall()
        outputs: dict[UUID, bytes] = dict(rows)
        wrappers = {item: json.loads(body) for (item, _), body in require_bodies(context.conn, context.store, outputs.items()).items()}
        values = {item: bytes.fromhex(wrapper["value"]) for item, wrapper in wrappers.items()}
        bodies = require_bodies(context.conn, context.store, values.items())
        artifacts: dict[UUID, UUID] = dict(context.conn.execute(_ARTIFACTS, [list(outputs)]).fetchall())
    return {item: _product(wrapper, values[item], bodies[item, values[item]], artifacts.get(item)) for item, wrapper in wrappers.items()}


def _product(wrapper: dict[str, Any], sha256: bytes, data: bytes, artifact_id: UUID | None) -> Product:
    value = json.loads(data)
    outcome = _restored(wrapper, value)
    return Product(outcome, value, data, sha256, getattr(outcome, "evidence", ()), artifact_id)


def _restored(wrapper: dict[str, Any], value: dict[str, Any]) -> Outcome:
    """Return the outcome that a cell gave in an earlier attempt, from its stored wrapper and value."""
    fields = {key: part for key, part in wrapper.items() if key not in ("is", "value")}
    kind = OUTCOMES[wrapper["is"]]
    return kind(**fields, value=value) if kind in (Draft, Proposal) else kind(**fields)


def finding_row(work: Work, finding: Finding) -> FindingRow:
    """Return a finding about this attempt as a row."""
    return FindingRow(
        work.item_id, new_id(work.claimed.moved_at), work.claimed.workspace_id, work.fence, work.stage.value, finding.code,
        finding.message, finding.place,
    )  # fmt: skip


_FINDINGS = "SELECT item_id, code, message, place FROM findings WHERE item_id = ANY(%s) ORDER BY item_id, fence, id"


def read_findings(context: StageContext, works: Sequence[Work]) -> dict[UUID, list[Finding]]:
    """Return by item what was found in its earlier attempts, the oldest first."""
    with context.connection() as conn, transaction(conn, {work.claimed.workspace_id for work in works}):
        rows = conn.execute(_FINDINGS, [[work.item_id for work in works]]).fetchall()
    found: dict[UUID, list[Finding]] = {work.item_id: [] for work in works}
    for item, code, message, place in rows:
        found[item].append(Finding(code=code, message=message, place=place))
    return found
