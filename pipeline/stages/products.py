"""Products: what a cell gave, brought back from what its attempt stored, and what is noted about it."""

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from artifacts.blobs import need_bodies
from artifacts.shelf import FindingRow
from contracts.identity import new_id
from contracts.language import OUTCOMES
from contracts.nouns import Draft, Finding, Outcome, Proposal
from pipeline.stages.context import StageContext
from pipeline.stages.work import Product, Work
from queues.database import transaction


def load_products(context: StageContext, works: Sequence[Work]) -> None:
    """Fill `product` of items that were claimed here, from what their last good attempt stored."""
    bare = [work for work in works if work.product is None]
    if not bare:
        return
    with transaction(context.conn, {work.claimed.workspace_id for work in bare}):
        rows = context.conn.execute(
            "SELECT DISTINCT ON (item_id) item_id, output_sha256 FROM attempts "
            "WHERE item_id = ANY(%s) AND output_sha256 IS NOT NULL ORDER BY item_id, fence DESC",
            [[work.item_id for work in bare]],
        ).fetchall()
        outputs: dict[UUID, bytes] = dict(rows)
        wrappers = {item: json.loads(body) for (item, _), body in need_bodies(context.conn, context.store, outputs.items()).items()}
        values = {item: bytes.fromhex(wrapper["value"]) for item, wrapper in wrappers.items()}
        bodies = need_bodies(context.conn, context.store, values.items())
        artifacts: dict[UUID, UUID] = dict(
            context.conn.execute(
                "SELECT DISTINCT ON (item_id) item_id, id FROM artifacts WHERE item_id = ANY(%s) ORDER BY item_id, fence DESC",
                [list(outputs)],
            ).fetchall()
        )
    for work in bare:
        name = values[work.item_id]
        value_bytes = bodies[work.item_id, name]
        value = json.loads(value_bytes)
        outcome = _restored(wrappers[work.item_id], value)
        work.product = Product(outcome, value, value_bytes, name, getattr(outcome, "evidence", ()), artifacts.get(work.item_id))


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
