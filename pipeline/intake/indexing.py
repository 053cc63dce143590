"""Index the text of accepted rows, where cells and reviewers search it."""

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from contracts.floor import Flow
from pipeline.intake.arrivals import Arrival, revision_order
from queues.database import Connection
from workcells.shapes.catalogue import Shape


def index_subjects(conn: Connection, workspace: UUID, flow: Flow, shape: Shape, accepted: Sequence[Arrival]) -> None:
    """Make rows findable by their words and by what they mention, in the caller's transaction."""
    columns: list[list[Any]] = [[] for _ in range(9)]
    mention_from: list[str] = []
    mention_to: list[str] = []
    index = flow.index
    for arrival in accepted:
        value = arrival.value or {}
        title, body = str(value.get(index["title"]) or ""), str(value.get(index["body"]) or "")
        facts = {key: part for key, part in value.items() if key not in (index["title"], index["body"])}
        kind, state = str(value.get("kind") or ""), str(value.get("state") or "")
        rank, number, _ = revision_order(arrival.revision)
        row = (arrival.subject_key, arrival.revision, rank, number, kind, state, title, body, json.dumps(facts))
        for column, cell in zip(columns, row, strict=True):
            column.append(cell)
        for key in shape.mentions(value):
            mention_from.append(arrival.subject_key)
            mention_to.append(key)
    conn.execute(
        "SELECT index_subjects(%s, %s, %s, %s, %s::smallint[], %s::float8[], %s, %s, %s, %s, %s, %s, %s)",
        [workspace, flow.name, *columns, mention_from, mention_to],
    )
